"""What all connections of one proxy share. Read on the hot path, written by the server and the learner only."""

import asyncio
import random
from collections.abc import Sequence
from typing import Protocol

from aggregator.proxy.decide import REFUSED, Identity, Reply, identity_of, text
from aggregator.proxy.headers import HeaderRules, Headers
from aggregator.proxy.limits import Limits
from aggregator.proxy.metrics import ProxyMetrics
from aggregator.proxy.pool import Endpoint, Pools
from aggregator.proxy.routes import Route, RouteTable
from aggregator.upstream.tls import UpstreamTLSError
from apimachinery.authorization import Policy
from apimachinery.identity import User
from apiserver import logs

log = logs.get("aggregator.proxy")


class Authenticator(Protocol):
    """Judges the certificate of a connection and the headers of a request."""

    def authenticate(self, certificate: bytes | None, headers: Sequence[tuple[str, str]]) -> User | object | None:
        """The user; None without credentials; anything else means that the credentials are refused. Header names are
        lower-case."""

    def reads_headers(self, certificate: bytes | None) -> bool:
        """Whether a peer with this certificate may speak for others, so that each request is judged anew."""


class ClientConnection(Protocol):
    """A client's connection as the sweep and the shutdown see it."""

    deadline: float

    def expired(self) -> None: ...

    def drain(self) -> None: ...

    def end_watch(self) -> bool: ...

    def abort(self) -> None: ...


class AuditIds:
    """Ids in the form of a version 4 UUID: random once per process, counting after that, which costs next to nothing."""

    def __init__(self) -> None:
        source = random.SystemRandom()
        text = f"{source.getrandbits(64):016x}"
        self._prefix = f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[source.getrandbits(2)]}{text[12:13]}".encode()
        self._prefix += f"{source.getrandbits(8):02x}-".encode()
        self._counter = source.getrandbits(40)

    def next(self) -> bytes:
        self._counter += 1
        return b"%b%012x" % (self._prefix, self._counter)


class Plane:
    """Snapshots and services of the data plane."""

    def __init__(
        self,
        *,
        policy: Policy,
        authenticator: Authenticator,
        rules: HeaderRules,
        pools: Pools,
        metrics: ProxyMetrics,
        limits: Limits,
    ) -> None:
        self.table = RouteTable.unknown()
        self.policy = policy
        self.authenticator = authenticator
        self.rules = rules
        self.pools = pools
        self.metrics = metrics
        self.limits = limits
        self.audit_ids = AuditIds()
        self.connections: set[ClientConnection] = set()
        self.draining = False
        self.debug = False
        """Whether each request is logged; looked up once per sweep."""
        self.idle = asyncio.Event()
        """Set while draining as soon as no connection is left."""

    def install(self, table: RouteTable) -> None:
        """Make a new route table effective for the next request."""
        gone = self.table.routes().keys() - table.routes().keys()
        self.table = table
        self.metrics.forget(gone)
        self.pools.routes_changed(table)

    def identity(self, certificate: bytes | None, headers: Headers) -> Identity:
        """Authenticate; `headers` matter only for peers that speak for others."""
        decoded = [(name.decode("latin-1").lower(), value.decode("utf-8", "replace")) for name, value in headers]
        result = self.authenticator.authenticate(certificate, decoded)
        if result is None or isinstance(result, User):
            return identity_of(result, self.policy)
        return REFUSED

    def endpoint(self, route: Route) -> Endpoint | Reply:
        """Where to send the requests of a route, or why that cannot even be tried."""
        try:
            return self.pools.endpoint(route)
        except UpstreamTLSError as error:
            return text(500, str(error), terminated=True, route=route.name)

    def forget(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)
        if self.draining and not self.connections:
            self.idle.set()
