"""What all connections of one proxy share. Read on the hot path, written by the server and the learner only."""

import random
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol

from aggregator.proxy import wire
from aggregator.proxy.addresses import Addresses
from aggregator.proxy.admission import Admission, Flow
from aggregator.proxy.balancer import Upstream
from aggregator.proxy.bearers import Bearers
from aggregator.proxy.decide import REFUSED, Forward, Identity, Reply, decide, identity_of, text
from aggregator.proxy.headers import HeaderRules, Headers, RequestHead
from aggregator.proxy.limits import Limits
from aggregator.proxy.lines import REQUEST_LINE, RequestLines
from aggregator.proxy.metrics import ProxyMetrics, RouteCounters
from aggregator.proxy.pool import Pools
from aggregator.proxy.routes import Route, RouteTable
from aggregator.proxy.target import REQUEST_SECONDS
from aggregator.upstream.tls import UpstreamTLSError
from apimachinery.authorization import ANONYMOUS_USER, Authorizer, Undecided
from apimachinery.identity import User
from apiserver import logs
from apiserver.auth import bearer
from apiserver.auth.tokens import Tokens

if TYPE_CHECKING:
    from aggregator.proxy.observer import Observer

log = logs.get("aggregator.proxy")

_PROBES = frozenset((b"/livez", b"/readyz", b"/healthz"))
"""What orchestrators ask before they start a server anew; exempt as in the originals (flow schema `probes`)."""
_REMEMBERED = 4096
_REMEMBERED_LINE = 512


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

    def forget_identity(self) -> None: ...

    def unread(self, now: float) -> None:
        """Called now and then while the client does not read what is written to it."""


class AuditIds:
    """Ids in the form of a version 4 UUID: random once per process, counting after that, which costs little."""

    def __init__(self) -> None:
        source = random.SystemRandom()
        text = f"{source.getrandbits(64):016x}"
        self._prefix = f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[source.getrandbits(2)]}{text[12:13]}".encode()
        self._prefix += f"{source.getrandbits(8):02x}-".encode()
        self._counter = source.getrandbits(40)

    def next(self) -> bytes:
        self._counter += 1
        return b"%b%012x" % (self._prefix, self._counter)


def _nothing(name: str) -> None:
    """Nobody wants to know."""


class Plan:
    """A decision to forward, worked out for one request line of one identity. Valid for one route table and policy."""

    __slots__ = (
        "counters",
        "flow",
        "head_request",
        "long_running",
        "method",
        "prefix",
        "raw_target",
        "replayable",
        "route_name",
        "seconds",
        "target",
        "upstream",
        "user",
        "wanted",
    )

    def __init__(
        self,
        method: bytes,
        raw_target: bytes,
        user: User,
        forward: Forward,
        upstream: Upstream,
        counters: RouteCounters,
        prefix: bytes,
        flow: Flow | None,
    ) -> None:
        self.method = method
        self.target = forward.target
        self.route_name = forward.route.name
        self.upstream = upstream
        self.counters = counters
        self.prefix = prefix
        self.head_request = method == b"HEAD"
        self.replayable = method != b"DELETE"
        self.long_running = forward.target.long_running
        self.seconds = seconds_allowed(forward)
        self.raw_target = raw_target
        self.user = user
        self.flow = flow
        self.wanted: object = None
        """What the audit policy says about it, once it was asked."""


def seconds_allowed(forward: Forward) -> float:
    """How long the request may take until its response is complete."""
    target, backend = forward.target, forward.route.backend
    if target.long_running:
        return inf
    allowed = backend.settings.request_timeout if backend is not None else None
    if allowed is None:
        return target.seconds
    return allowed if target.seconds == REQUEST_SECONDS else min(target.seconds, allowed)


class Plane:
    """Snapshots and services of the data plane."""

    def __init__(
        self,
        *,
        authorizer: Authorizer,
        authenticator: Authenticator,
        tokens: Tokens,
        rules: HeaderRules,
        pools: Pools,
        metrics: ProxyMetrics,
        limits: Limits,
    ) -> None:
        self.table = RouteTable.unknown()
        self.authorizer = authorizer
        self.authenticator = authenticator
        self.bearers = Bearers(tokens, authorizer)
        self.reads_tokens = bool(tokens)
        """Whether a connection without an identity may have requests with one."""
        self.rules = rules
        self.pools = pools
        self.metrics = metrics
        self.limits = limits
        self.admission = Admission(
            mutating=limits.max_mutating, read_only=limits.max_read_only, share=limits.user_share
        )
        self.lines = RequestLines(rules)
        self.plans: dict[tuple[Identity, bytes], Plan] = {}
        self.audit_ids = AuditIds()
        self.connections: set[ClientConnection] = set()
        self.addresses = Addresses(limits.address_connections)
        self.unread: set[ClientConnection] = set()
        """Those whose clients do not read, as far as it is known."""
        self.on_unreachable: Callable[[str], None] = _nothing
        """Told the name of an APIService whose backend could not be reached; called for each such request."""
        self.draining = False
        self.debug = False
        """Whether each request is logged; looked up once per sweep."""
        self.observer: Observer | None = None
        """Told of every request; None costs one look per request."""
        self._identities: dict[bytes | None, tuple[float, Identity]] = {}

    def install(self, table: RouteTable) -> None:
        """Make a new route table effective for the next request."""
        self.plans.clear()
        gone = self.table.routes().keys() - table.routes().keys()
        self.table = table
        self.metrics.forget(gone)
        self.pools.routes_changed(table)

    def identity(self, certificate: bytes | None, headers: Headers) -> Identity:
        """Authenticate; `headers` matter only for peers that speak for others."""
        decoded = [(name.decode("latin-1").lower(), value.decode("utf-8", "replace")) for name, value in headers]
        result = self.authenticator.authenticate(certificate, decoded)
        if result is None or isinstance(result, User):
            return identity_of(result, self.authorizer)
        return REFUSED

    def verdict(
        self, identity: Identity, head: RequestHead, method: bytes, raw_target: bytes
    ) -> Forward | Reply | Undecided:
        """Decide about a request. `identity` is what its connection says; a bearer token counts where that is nobody.

        An Undecided has to be waited for, and the same asked again.
        """
        caller = self.caller(identity, head)
        if not isinstance(caller, Identity):
            return caller
        return decide(self.table, self.authorizer, caller, method, raw_target, head.impersonation)

    def caller(self, identity: Identity, head: RequestHead) -> Identity | Undecided:
        """Who makes a request, before any impersonation; `identity` is what its connection says."""
        if identity.user is None and self.reads_tokens and (head.authorization or head.websocket_protocols):
            return self._by_token(identity, head)
        return identity

    def _by_token(self, identity: Identity, head: RequestHead) -> Identity | Undecided:
        digest = self.bearers.digest(head.authorization) if head.authorization else None
        if digest is not None:
            known = self.bearers.known(digest)
            if known is not None:
                return known
        try:
            token = bearer.from_header(head.authorization.decode("latin-1"))
            if not token and head.wants_upgrade:
                token = bearer.from_protocols(head.websocket_protocols.decode("latin-1"))
                digest = None
        except bearer.BadToken:
            return REFUSED
        return self.bearers.judge(token, digest) if token else identity

    def connection_identity(self, certificate: bytes | None, now: float) -> Identity:
        """Authenticate by certificate alone; connections with the same certificate share the result for a while."""
        found = self._identities.get(certificate)
        if found is not None and now < found[0]:
            return found[1]
        if len(self._identities) >= _REMEMBERED:
            self._identities.clear()
        identity = self.identity(certificate, [])
        self._identities[certificate] = (now + self.limits.identity_seconds, identity)
        return identity

    def policy_changed(self) -> None:
        """The authorizer decides differently now."""
        self.plans.clear()

    def identities_changed(self) -> None:
        """Authorities or revocation lists are others now: every connection is asked anew who it is."""
        self._identities.clear()
        for connection in self.connections:
            connection.forget_identity()

    def certificates_changed(self) -> None:
        """The client certificate towards backends is another one now."""
        self.plans.clear()
        self.pools.certificates_changed()

    def plan(self, identity: Identity, line: bytes) -> Plan | None:
        """Work out a plain request line; None when it is not to be forwarded to a remote backend just so."""
        match = REQUEST_LINE.fullmatch(line)
        if match is None:
            return None
        method, raw_target = match.groups()
        if 0 < self.limits.target_bytes < len(raw_target):
            return None
        forward = decide(self.table, self.authorizer, identity, method, raw_target)
        if not isinstance(forward, Forward) or forward.route.local:
            return None
        upstream = self.upstream(forward.route)
        if isinstance(upstream, Reply):
            return None
        counters = self.metrics.route(forward.route.name)
        prefix = wire.request_prefix(method, raw_target, forward, upstream.authority)
        user = identity.user or ANONYMOUS_USER
        plan = Plan(method, raw_target, user, forward, upstream, counters, prefix, self.flow(forward))
        if forward.lasting and len(line) <= _REMEMBERED_LINE:
            if len(self.plans) >= _REMEMBERED:
                self.plans.clear()
            self.plans[identity, line] = plan
        return plan

    def flow(self, forward: Forward) -> Flow | None:
        """What a request has to take a seat of before it is sent on; None when it needs none."""
        user, target = forward.caller.user, forward.target
        if target.long_running or forward.caller.privileged or user is None:
            return None
        if target.path in _PROBES and target.info.verb == "get":
            return None
        return self.admission.flow(forward.target.info.verb, user.name)

    def upstream(self, route: Route) -> Upstream | Reply:
        """Where to send the requests of a route, or why that cannot even be tried."""
        try:
            return self.pools.upstream(route)
        except UpstreamTLSError as error:
            return text(500, str(error), terminated=True, route=route.name)

    def forget(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)
        self.unread.discard(connection)
        self.addresses.leave(connection)
