"""A backend that lets connections be shared, by HTTP/2 where ALPN has it, and the proxy before it."""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from aggregator.proxy.limits import Limits
from aggregator.proxy.server import Proxy
from apimachinery.types import Object
from tests.unit.aggregator.fault_callers import Outcome, calling
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    answering,
    apiservice,
    backend,
    proxy,
    read_head,
    read_until_broken,
)
from tests.unit.aggregator.proxy_kit import Handler as Http1Handler
from tests.unit.aggregator.shared_peer import Asked, Handler, Peer

BOTH = ("h2", "http/1.1")
HTTP1_FIRST = ("http/1.1", "h2")
HTTP1 = ("http/1.1",)
SHARING = Limits(own_connections=0, sweep_seconds=0.05, connect_seconds=0.5, handshake_seconds=0.5, linger_seconds=0.2)
"""Every request shares, from the first one on."""
THINGS = "/apis/test/v1/things"


class Behind:
    """The backend: what came to it, over which protocol."""

    def __init__(
        self,
        handler: Handler,
        http1: Http1Handler,
        context: ssl.SSLContext,
        *,
        settings: Mapping[int, int],
        pays: bool,
        welcome: bytes,
    ) -> None:
        self.port = 0
        self.peers: list[Peer] = []
        self.http1 = 0
        """Connections of HTTP/1.1."""
        self.asked: list[Asked] = []
        self.faults: list[str] = []
        """What h2 says is not HTTP/2."""
        self.errors: list[BaseException] = []
        """Of handlers."""
        self.sent = 0
        """For handlers to count in."""
        self.settings = settings
        self.late = 0.0
        """Seconds before it says what it allows on a new connection."""
        self.pays = pays
        """Windows are given back as soon as something comes in."""
        self.context = context
        self._handler = handler
        self._http1 = http1
        self._welcome = welcome

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls: Any = writer.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != "h2":
            self.http1 += 1
            await self._http1(reader, writer)
            return
        peer = Peer(reader, writer, self)
        self.peers.append(peer)
        if self._welcome:
            peer.write(self._welcome)
            await read_until_broken(reader)
            return
        await peer.serve(self._handler)

    async def requests(self, count: int) -> list[Asked]:
        """The first requests, once there are so many."""
        async with asyncio.timeout(5):
            while len(self.asked) < count:
                await asyncio.sleep(0.005)
        return self.asked[:count]

    async def request(self, number: int = 1) -> Asked:
        return (await self.requests(number))[number - 1]


async def shared(asked: Asked) -> None:
    """Answers at once."""
    await asked.body()
    await asked.answer()


@contextlib.asynccontextmanager
async def behind(
    pki: PKI,
    handler: Handler = shared,
    *,
    alpn: Sequence[str] = BOTH,
    http1: Http1Handler | None = None,
    settings: Mapping[int, int] | None = None,
    pays: bool = True,
    welcome: bytes = b"",
) -> AsyncIterator[Behind]:
    """A backend. `welcome`: what it says instead of speaking HTTP/2 where that was agreed upon."""
    context = pki.server_context("backend", alpn)
    http1 = http1 or answering(answer(b"own"))
    made = Behind(handler, http1, context, settings=settings or {}, pays=pays, welcome=welcome)
    async with backend(made.serve, context) as served:
        made.port = served.port
        yield made
    assert made.faults == [], made.faults
    assert made.errors == [], made.errors


@contextlib.asynccontextmanager
async def sharing(
    pki: PKI,
    handler: Handler = shared,
    *,
    limits: Limits = SHARING,
    annotations: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Behind, Proxy]]:
    """A backend (see `behind` for the options), and the proxy before it."""
    async with (
        behind(pki, handler, **options) as served,
        proxy(pki, [service(pki, served, annotations)], limits=limits) as front,
    ):
        yield served, front


def service(pki: PKI, served: Behind, annotations: Mapping[str, str] | None = None) -> Object:
    made = apiservice(served.port, pki.ca.pem)
    made["metadata"]["annotations"] = dict(annotations or {})
    return made


async def eventually(condition: Callable[[], object], seconds: float = 3.0) -> None:
    """Wait for something that nobody tells of; TimeoutError when it does not come."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def nothing_left(front: Proxy, served: Behind) -> None:
    """No connection to the backend is left, and no request is counted."""
    await eventually(lambda: front.plane.pools.connection_count() == 0)
    assert front.metrics.in_flight == 0
    await eventually(lambda: all(peer.closed for peer in served.peers))


@contextlib.asynccontextmanager
async def crowd(
    pki: PKI, front: Proxy, count: int, *, protocol: str = "http/1.1", method: str = "GET", path: str = THINGS
) -> AsyncIterator[list[asyncio.Task[Outcome]]]:
    """So many clients that ask at once; their outcomes."""
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(calling(pki, front, protocol)) for _ in range(count)]
        tasks = [asyncio.create_task(caller.ask(method, path)) for caller in callers]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Held:
    """A backend that answers once it may, over either protocol."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.most: Counter[Peer] = Counter()
        """Requests at a time on each connection."""
        self._open: Counter[Peer] = Counter()
        self.over_http1 = 0

    async def __call__(self, asked: Asked) -> None:
        peer = asked.peer
        self._open[peer] += 1
        self.most[peer] = max(self.most[peer], self._open[peer])
        try:
            await self.go.wait()
        finally:
            self._open[peer] -= 1
        await asked.answer()

    async def http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            self.over_http1 += 1
            await self.go.wait()
            writer.write(answer(b"own"))


async def all_of(tasks: list[asyncio.Task[Outcome]]) -> Counter[bytes]:
    """The bodies of answers that are all well."""
    found = [await task for task in tasks]
    assert {(item.status, item.whole) for item in found} == {(200, True)}
    return Counter(item.body for item in found)
