"""The upstreams of all routes: one per address and TLS identity."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

from aggregator.proxy.balancer import Upstream
from aggregator.proxy.endpoint import Ways
from aggregator.proxy.limits import Limits
from aggregator.proxy.metrics import ProxyMetrics, UpstreamState
from aggregator.proxy.remote import connector
from aggregator.proxy.resolver import Address
from aggregator.proxy.routes import Route, RouteTable
from aggregator.proxy.sharing import Factory
from aggregator.proxy.turns import Turns
from aggregator.upstream.tls import UpstreamTLS

_NO_ADDRESS: Address = ("", 0)
_AT_ONCE = 2
"""Connections to remote backends that are made at a time. 40 requests at once that all need one, beside 1800 others a
second: p99 of the others 12 ms without a limit; with resumed sessions 5.4 without, 2.2 with 4, 1.5 with 2, 1.4 with 1.
Two hide each other's round trips."""
_PATIENCE_SECONDS = 0.001
"""The least pause between two of those that do not wait for the ones before."""


def _nothing(name: str) -> None:
    """Nobody wants to know."""


class Pools:
    """All upstreams. Routes with equal addresses, TLS identity and settings share one."""

    def __init__(
        self, *, tls: UpstreamTLS, local_socket: Path | None, local_address: tuple[str, int] | None, limits: Limits
    ) -> None:
        self.limits = limits
        self.tick = 0
        """Counts sweeps: the clock of idle connections."""
        self._tls = tls
        self._by_route: dict[Route, Upstream] = {}
        self._by_key: dict[Hashable, Upstream] = {}
        self._requests: dict[str, int] = {}
        """Requests per APIService that the retry budgets know of."""
        self.on_trouble: Callable[[str], None] = _nothing
        """Told the name of an APIService whose server may be gone."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = Turns(_AT_ONCE, _PATIENCE_SECONDS)
        self._local = self._local_upstream(local_socket, local_address)

    def upstream(self, route: Route) -> Upstream:
        """The upstream of a route that has a backend or is local. UpstreamTLSError when TLS cannot be set up."""
        found = self._by_route.get(route)
        if found is None:
            found = self._by_route[route] = self._local if route.local else self._remote(route)
        return found

    def routes_changed(self, table: RouteTable) -> None:
        """Forget the upstreams that no route leads to; what they still carry finishes undisturbed."""
        current = set(table.routes().values())
        self._by_route = {route: upstream for route, upstream in self._by_route.items() if route in current}
        names = {route.name for route in current}
        self._requests = {name: count for name, count in self._requests.items() if name in names}
        self._retire_unused()

    def certificates_changed(self) -> None:
        """New connections use the new client certificate; old ones end with their requests."""
        self._by_route.clear()
        self._retire_unused()

    def sweep(self, metrics: ProxyMetrics) -> None:
        """Once per `sweep_seconds`."""
        self.tick += 1
        for key in [key for key, upstream in self._by_key.items() if upstream.retired and not upstream.connections]:
            del self._by_key[key]
        horizon = self.tick - int(self.limits.idle_seconds / self.limits.sweep_seconds)
        made = self._made(metrics)
        for upstream in self._all():
            upstream.sweep(self.tick, horizon, made.get(upstream, 0))

    def _made(self, metrics: ProxyMetrics) -> dict[Upstream, int]:
        """Requests of each upstream since the last sweep."""
        made: dict[Upstream, int] = {}
        for route, upstream in self._by_route.items():
            counters = metrics.routes.get(route.name)
            total = sum(counters.codes.values()) if counters is not None else 0
            made[upstream] = made.get(upstream, 0) + max(0, total - self._requests.get(route.name, 0))
            self._requests[route.name] = total
        return made

    def states(self) -> Iterator[tuple[str, UpstreamState]]:
        """(APIService, state of its upstream) of each remote route in use; for the metrics."""
        now = time.monotonic()
        for route, upstream in self._by_route.items():
            if not route.local:
                ranks = [endpoint.health.rank(now) for endpoint in upstream.endpoints]
                yield (
                    route.name,
                    UpstreamState(
                        endpoints=(ranks.count(0), ranks.count(1), ranks.count(2)),
                        ejections=sum(endpoint.health.ejections for endpoint in upstream.endpoints),
                        retries=upstream.budget.retries,
                        refused_retries=upstream.budget.refused,
                        rejected=upstream.refusals.total,
                    ),
                )

    async def close(self) -> None:
        """Close every connection and wait for the dials to end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for upstream in self._all():
            upstream.abort()

    def connection_count(self) -> int:
        return sum(upstream.connections for upstream in self._all())

    def _all(self) -> tuple[Upstream, ...]:
        return (self._local, *self._by_key.values())

    def _retire_unused(self) -> None:
        used = set(self._by_route.values())
        for upstream in self._by_key.values():
            if upstream not in used:
                upstream.retire()

    def _remote(self, route: Route) -> Upstream:
        backend = route.backend
        assert backend is not None
        context = self._tls.context(backend)
        settings = backend.settings
        key = (backend.addresses, backend.server_name, context, settings)
        found = self._by_key.get(key)
        if found is not None:
            found.revive()
            return found

        def counted(wanted: int | None, default: int) -> int:
            return default if wanted is None else wanted

        limits = self.limits
        if settings.own_connections is not None:
            limits = dataclasses.replace(limits, own_connections=settings.own_connections)

        def trouble() -> None:
            for served, behind in self._by_route.items():
                if behind is upstream:
                    self.on_trouble(served.name)

        upstream = Upstream(
            name=route.name,
            authority=backend.authority,
            hosts=backend.addresses,
            connector=connector(self._tls, backend, limits=limits, turns=self._turns),
            limits=limits,
            tasks=self._tasks,
            max_connections=counted(settings.max_connections, limits.max_connections),
            max_pending=counted(settings.max_pending, limits.max_pending),
            trouble=trouble,
            egress=self._tls.egress,
        )
        self._by_key[key] = upstream
        return upstream

    def _local_upstream(self, socket: Path | None, address: tuple[str, int] | None) -> Upstream:
        async def connect(factory: Factory) -> object:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(self.limits.connect_seconds):
                if socket is not None:
                    return await loop.create_unix_connection(factory, str(socket))
                if address is not None:
                    return await loop.create_connection(factory, *address)
                raise ConnectionRefusedError("no local API server")

        where = str(socket) if socket is not None else f"{address[0]}:{address[1]}" if address is not None else "local"
        return Upstream(
            name="local",
            authority=where,
            hosts=(_NO_ADDRESS,),
            connector=lambda _: Ways(connect),
            limits=self.limits,
            tasks=self._tasks,
            local=True,
        )
