"""The proxy as a whole: listener, coarse timer, start and orderly stop."""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aggregator.proxy.door import Door
from aggregator.proxy.headers import HeaderRules
from aggregator.proxy.learner import Learner
from aggregator.proxy.limits import Limits
from aggregator.proxy.metrics import ProxyMetrics
from aggregator.proxy.plane import Authenticator, Plane, log
from aggregator.proxy.pool import Pools
from aggregator.upstream.tls import UpstreamTLS
from apimachinery.authorization import Authorizer, Policy
from apimachinery.identity import RequestHeaderNames
from apiserver import bindable, memory
from apiserver.auth.tokens import Tokens
from apiserver.client import ListWatch
from apiserver.http1_connection import FRESH_SECONDS
from apiserver.serving import ListenError, why

_BACKLOG = 1024
_SHUTDOWN_SECONDS = 5.0
_POLL_SECONDS = 0.02


class Proxy:
    """The data plane behind one listening port.

    `client` is asked for routes (None: `plane.install` is called by somebody else); everything that no APIService
    claims goes to the local API server at `local_socket` or `local_address`. Needs a running event loop from `start`
    on; uvloop is several times cheaper than the standard one.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext,
        authenticator: Authenticator,
        client: ListWatch | None = None,
        local_socket: Path | None = None,
        local_address: tuple[str, int] | None = None,
        upstream_tls: UpstreamTLS | None = None,
        authorizer: Authorizer | None = None,
        tokens: Tokens | None = None,
        request_headers: RequestHeaderNames | None = None,
        metrics: ProxyMetrics | None = None,
        limits: Limits | None = None,
        on_unreachable: Callable[[str], None] | None = None,
    ) -> None:
        """`on_unreachable` is told the name of an APIService for each request that its backend could not be reached
        for; it must return quickly."""
        self._ssl_context = ssl_context
        limits = limits or Limits()
        tls = upstream_tls or UpstreamTLS()
        pools = Pools(tls=tls, local_socket=local_socket, local_address=local_address, limits=limits)
        self.metrics = metrics or ProxyMetrics()
        self.plane = Plane(
            authorizer=authorizer or Policy(),
            authenticator=authenticator,
            tokens=tokens or Tokens(),
            rules=HeaderRules(request_headers),
            pools=pools,
            metrics=self.metrics,
            limits=limits,
        )
        self.door = Door(self.plane)
        if on_unreachable is not None:
            self.plane.on_unreachable = on_unreachable
        self.metrics.downstream_connections = self._connection_count
        self.metrics.upstream_connections = pools.connection_count
        self.metrics.upstream_states = pools.states
        self.metrics.seats = self.plane.admission.kinds()
        self.learner = Learner(self.plane, client) if client is not None else None
        self._tasks: list[asyncio.Task[None]] = []
        self._learning: asyncio.Task[None] | None = None
        self._listeners: list[asyncio.Server] = []
        self.addresses: tuple[tuple[str, int], ...] = ()
        """(host, port) of each listening socket, once started."""

    async def start(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        sock: socket.socket | None = None,
        reuse_port: bool = False,
    ) -> None:
        """Listen, and begin to learn routes. ListenError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            if sock is not None:
                listener = await self.listen(sock)
            else:
                listener = await loop.create_server(
                    self.door.accept, bindable.names(host), port, reuse_port=reuse_port, **self._listener_options()
                )
                self._listeners.append(listener)
        except OSError as error:
            raise ListenError(f"cannot listen on {host}:{port}: {why(error)}") from error
        names = [item.getsockname() for item in listener.sockets]
        self.addresses = tuple((name[0], name[1]) for name in names)
        self._tasks.append(loop.create_task(self._sweep(), name="proxy-sweep"))
        self._tasks.append(loop.create_task(memory.keep_small(), name="proxy-memory"))
        self.learn()

    async def listen(self, sock: socket.socket) -> asyncio.Server:
        """Accept on a bound socket, too, until the result is closed or the proxy stops. OSError."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(self.door.accept, sock=sock, **self._listener_options())
        self._listeners = [*(known for known in self._listeners if known.is_serving()), listener]
        return listener

    def _listener_options(self) -> dict[str, Any]:
        return {
            "ssl": self._ssl_context,
            "ssl_handshake_timeout": self.plane.limits.handshake_seconds,
            "ssl_shutdown_timeout": _SHUTDOWN_SECONDS,
            "backlog": _BACKLOG,
        }

    def learn(self) -> None:
        """Begin to learn routes; `start` does it otherwise. Who has them first never answers for lack of them."""
        if self.learner is not None and self._learning is None:
            self._learning = asyncio.get_running_loop().create_task(self.learner.run(), name="proxy-learner")
            self._tasks.append(self._learning)

    @property
    def port(self) -> int:
        return self.addresses[0][1]

    @property
    def synced(self) -> bool:
        """Whether the route table has been learned."""
        return self.plane.table.complete

    def announce_end(self) -> None:
        """Serve on, but tell clients with each response to use their connections no more: whoever heeds it has no
        request under way when the connections are closed."""
        self.plane.draining = True

    def stop_accepting(self) -> None:
        """Close every listener of this proxy; connections go on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def empty(self, seconds: float) -> None:
        """End watches politely, then wait until clients have left by themselves, at most so many seconds."""
        plane = self.plane
        for connection in list(plane.connections):
            connection.end_watch()
        await _until(lambda: not plane.connections, seconds)

    async def stop(self, grace_seconds: float = 0.0, *, watch_grace_seconds: float = 0.0) -> None:
        """Stop accepting and finish what is in flight.

        Ordinary requests have `grace_seconds`; long-running responses are ended between two of their lines after
        `watch_grace_seconds` (at most `grace_seconds`). What is left then is broken off.
        """
        self.stop_accepting()
        plane = self.plane
        plane.draining = self.door.closing = True
        for connection in list(plane.connections):
            connection.drain()
        deadline = time.monotonic() + grace_seconds
        # Whoever is in the middle of a handshake gets in, too, if that ends soon.
        fresh_until = time.monotonic() + FRESH_SECONDS

        def empty() -> bool:
            return not plane.connections and (not self.door.arriving or time.monotonic() >= fresh_until)

        await _until(empty, min(watch_grace_seconds, grace_seconds))
        for connection in list(plane.connections):
            connection.end_watch()
        await _until(empty, deadline - time.monotonic())
        if plane.connections:
            log.info("connections broken off", connections=len(plane.connections))
        for connection in list(plane.connections):
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await plane.pools.close()
        # Aborted transports report their end on the next turns of the loop.
        await asyncio.sleep(0)

    def _connection_count(self) -> int:
        return len(self.plane.connections)

    async def _sweep(self) -> None:
        """The one timer behind every deadline of every connection."""
        plane = self.plane
        while True:
            await asyncio.sleep(plane.limits.sweep_seconds)
            now = time.monotonic()
            for connection in [item for item in plane.connections if item.deadline < now]:
                connection.expired()
            for connection in list(plane.unread):
                connection.unread(now)
            plane.pools.sweep(self.metrics)
            plane.debug = log.enabled(logging.DEBUG)


async def _until(done: Callable[[], bool], seconds: float) -> None:
    """Wait for something to become true, at most so many seconds."""
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
