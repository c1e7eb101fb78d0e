"""Connections to upstreams: one endpoint per address and TLS identity, idle connections reused last in first out."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Protocol

from aggregator.proxy.limits import Limits
from aggregator.proxy.routes import Route, RouteTable
from aggregator.proxy.upstream_conn import UpstreamConnection
from aggregator.upstream.tls import UpstreamTLS


class Waiter(Protocol):
    """Whoever asked for a new connection."""

    def upstream_connected(self, connection: UpstreamConnection) -> None: ...

    def upstream_unreachable(self, error: BaseException) -> None: ...


class Dial:
    """A connection being made. `cancel` leaves it to the pool."""

    __slots__ = ("waiter", "where")

    def __init__(self, waiter: Waiter, where: str) -> None:
        self.waiter: Waiter | None = waiter
        self.where = where

    def cancel(self) -> None:
        self.waiter = None


class Endpoint:
    """One upstream address with one TLS identity."""

    def __init__(
        self,
        *,
        pools: "Pools",
        authority: str,
        connect: Callable[[Callable[[], UpstreamConnection]], Awaitable[object]],
        local: bool,
    ) -> None:
        self.where = authority
        self.authority = authority.encode()
        self.local = local
        self.head_bytes = pools.limits.head_bytes
        self.retired = False
        """No route leads here any more: connections close as they become unused."""
        self.connections: set[UpstreamConnection] = set()
        self._pools = pools
        self._connect = connect
        self._idle: list[UpstreamConnection] = []

    def take(self, replayable: bool) -> UpstreamConnection | None:
        """An idle connection, if there is one that this request may use."""
        idle = self._idle
        if idle and (replayable or self._pools.tick - idle[-1].idle_tick <= self._pools.limits.unsafe_reuse_ticks):
            return idle.pop()
        return None

    def give_back(self, connection: UpstreamConnection) -> None:
        if self.retired or len(self._idle) >= self._pools.limits.idle_connections:
            connection.close()
            return
        connection.idle_tick = self._pools.tick
        self._idle.append(connection)

    def dial(self, waiter: Waiter, *, dedicated: bool = False) -> Dial:
        """Open a new connection; exactly one method of the waiter is called later, unless the dial is cancelled."""
        dial = Dial(waiter, self.where)
        self._pools.spawn(self._dial(dial, dedicated), f"dial {self.where}")
        return dial

    async def _dial(self, dial: Dial, dedicated: bool) -> None:
        made: list[UpstreamConnection] = []

        def factory() -> UpstreamConnection:
            connection = UpstreamConnection(self)
            connection.dedicated = dedicated
            made.append(connection)
            return connection

        try:
            await self._connect(factory)
        except (OSError, ssl.SSLError, TimeoutError, UnicodeError) as error:
            if dial.waiter is not None:
                dial.waiter.upstream_unreachable(error)
            return
        connection = made[-1]
        if dial.waiter is not None:
            dial.waiter.upstream_connected(connection)
        elif dedicated:
            connection.close()
        else:
            self.give_back(connection)

    def opened(self, connection: UpstreamConnection) -> None:
        self.connections.add(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        self.connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def drop_idle(self, older_than_tick: int) -> None:
        """Close connections unused since before that tick."""
        keep = [connection for connection in self._idle if connection.idle_tick >= older_than_tick]
        for connection in self._idle:
            if connection.idle_tick < older_than_tick:
                connection.close()
        self._idle = keep

    def retire(self) -> None:
        self.retired = True
        self.drop_idle(self._pools.tick + 1)


class Pools:
    """All endpoints. Routes with equal address and TLS identity share one."""

    def __init__(
        self, *, tls: UpstreamTLS, local_socket: Path | None, local_address: tuple[str, int] | None, limits: Limits
    ) -> None:
        self.limits = limits
        self.tick = 0
        """Counts sweeps: the clock of idle connections."""
        self._tls = tls
        self._by_route: dict[Route, Endpoint] = {}
        self._by_key: dict[Hashable, Endpoint] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._local = self._local_endpoint(local_socket, local_address)

    def endpoint(self, route: Route) -> Endpoint:
        """The endpoint of a route that has a backend or is local. UpstreamTLSError when TLS cannot be set up."""
        found = self._by_route.get(route)
        if found is None:
            found = self._by_route[route] = self._local if route.local else self._remote(route)
        return found

    def routes_changed(self, table: RouteTable) -> None:
        """Forget the endpoints that no route leads to; what they still carry finishes undisturbed."""
        current = set(table.routes().values())
        self._by_route = {route: endpoint for route, endpoint in self._by_route.items() if route in current}
        self._retire_unused()

    def certificates_changed(self) -> None:
        """New connections use the new client certificate; old ones end with their requests."""
        self._by_route.clear()
        self._retire_unused()

    def sweep(self) -> None:
        self.tick += 1
        for key in [key for key, endpoint in self._by_key.items() if endpoint.retired and not endpoint.connections]:
            del self._by_key[key]
        horizon = self.tick - int(self.limits.idle_seconds / self.limits.sweep_seconds)
        for endpoint in (self._local, *self._by_key.values()):
            endpoint.drop_idle(horizon)

    def spawn(self, work: Awaitable[None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(_run(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Close every connection and wait for the dials to end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for endpoint in (self._local, *self._by_key.values()):
            endpoint.retire()
            for connection in list(endpoint.connections):
                connection.transport.abort()

    def connection_count(self) -> int:
        return sum(len(endpoint.connections) for endpoint in (self._local, *self._by_key.values()))

    def _retire_unused(self) -> None:
        used = set(self._by_route.values())
        for endpoint in self._by_key.values():
            if endpoint not in used:
                endpoint.retire()

    def _remote(self, route: Route) -> Endpoint:
        backend = route.backend
        assert backend is not None
        context = self._tls.context(backend)
        key = (backend.host, backend.port, backend.server_name, context)
        found = self._by_key.get(key)
        if found is not None:
            found.retired = False
            return found
        limits = self.limits

        async def connect(factory: Callable[[], UpstreamConnection]) -> object:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(limits.connect_seconds + limits.handshake_seconds):
                return await loop.create_connection(
                    factory,
                    backend.host,
                    backend.port,
                    ssl=context,
                    server_hostname=backend.server_name,
                    ssl_handshake_timeout=limits.handshake_seconds,
                )

        endpoint = Endpoint(pools=self, authority=backend.authority, connect=connect, local=False)
        self._by_key[key] = endpoint
        return endpoint

    def _local_endpoint(self, socket: Path | None, address: tuple[str, int] | None) -> Endpoint:
        async def connect(factory: Callable[[], UpstreamConnection]) -> object:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(self.limits.connect_seconds):
                if socket is not None:
                    return await loop.create_unix_connection(factory, str(socket))
                if address is not None:
                    return await loop.create_connection(factory, *address)
                raise ConnectionRefusedError("no local API server")

        where = str(socket) if socket is not None else f"{address[0]}:{address[1]}" if address is not None else "local"
        return Endpoint(pools=self, authority=where, connect=connect, local=True)


async def _run(work: Awaitable[None]) -> None:
    await work
