"""What stands behind one service name: endpoints found by name lookup, chosen by load and health, within limits."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from aggregator.proxy.budget import RetryBudget
from aggregator.proxy.carrier import Carrier
from aggregator.proxy.endpoint import CONNECT_ERRORS, Dial, Endpoint, Waiter, Ways, is_lasting, start
from aggregator.proxy.health import EJECTED, HEALTHY
from aggregator.proxy.limits import Limits
from aggregator.proxy.refusals import Refusals
from aggregator.proxy.resolver import Address, Lookup, is_literal
from aggregator.upstream.egress import UNRESTRICTED, Egress

_LOOKUP_PAUSE_SECONDS = 1.0
"""Least time between two lookups that failures ask for."""
_IN_USE_SECONDS = 60.0
_SUSPICIOUS_WAITS = 4
"""Rounds of `hedge_seconds` that a connection may take before something is wrong."""


class Upstream:
    """The endpoints of one service, with one TLS identity."""

    def __init__(
        self,
        *,
        name: str,
        authority: str,
        hosts: Sequence[tuple[str, int]],
        connector: Callable[[Address], Ways],
        limits: Limits,
        tasks: set[asyncio.Task[None]],
        max_connections: int = 0,
        max_pending: int = 0,
        local: bool = False,
        trouble: Callable[[], None] | None = None,
        egress: Egress = UNRESTRICTED,
    ) -> None:
        """`max_connections` 0 stands for no limit. `tasks` holds what is under way; its owner cancels it at the end.

        `trouble` is called when something looks as if the service were gone; it must return quickly.
        """
        self.name = name
        self.where = authority
        self.authority = authority.encode()
        self.local = local
        self.tick = 0
        self.retired = False
        self.budget = RetryBudget()
        self.endpoints: list[Endpoint] = []
        self.refusals = Refusals(name, in_progress=max_connections, waiting=max_pending)
        self.take: Callable[[bool, bool], Carrier | None] = self._balanced
        """What the request can use at once, if there is any; it is replayable or not, long-running or not."""
        self._named = not local and not all(is_literal(host) for host, _ in hosts)
        self._connector = connector
        self._limits = limits
        self._tasks = tasks
        self._max_connections = max_connections
        self._max_pending = max_pending
        self._queue: OrderedDict[Dial, None] = OrderedDict()
        """Requests that wait, first come first served; one that is cancelled takes itself out."""
        self._leaving: list[Endpoint] = []
        """Endpoints whose addresses are gone; they finish what they have."""
        self._turn = 0
        self._dials = 0
        self._dialed_at = 0.0
        self._streaming = 0
        """Connections with long-running requests, as far as known; counted anew once per tick when it matters."""
        self._counted_tick = 0
        self._names = Lookup(hosts, authority, tasks, found=self._apply, vanished=self._vanished, egress=egress)
        self._trouble = trouble
        if not self._named:
            self._apply(hosts)

    # Connections

    def dial(self, waiter: Waiter, *, dedicated: bool = False, long_running: bool = False, alone: bool = False) -> Dial:
        """Get a connection; exactly one method of the waiter is called later, unless the dial is cancelled."""
        return self._place(Dial(waiter, self.where, dedicated=dedicated, long_running=long_running, alone=alone))

    def retry(self, waiter: Waiter, endpoint: Endpoint, *, long_running: bool) -> Dial:
        """`dial` for a request that this endpoint has failed; another one comes first."""
        return self._place(Dial(waiter, self.where, long_running=long_running, avoid=endpoint))

    def may_retry(self, endpoint: Endpoint, *, reused: bool) -> bool:
        """Whether a request that got no answer from this endpoint may be sent again, once.

        A new connection that breaks says something about the request or the endpoint: nothing to repeat there.
        """
        if not reused and not self._others(endpoint):
            return False
        return self.budget.spend()

    def busy_elsewhere(self, endpoint: Endpoint, seconds: float) -> bool:
        if len(self.endpoints) < 2:
            return False
        endpoint.health.leaving(time.monotonic(), seconds)
        return self._others(endpoint)

    def next_waiting(self, connection: Carrier) -> bool:
        queue = self._queue
        dial = queue.popitem(last=False)[0] if queue else None
        if not queue:
            self._attend(False)
        return dial is not None and dial.succeed(connection)

    def connection_lost(self, endpoint: Endpoint) -> None:
        self.start_waiting()
        if not endpoint.open and not endpoint.retired:
            self._suspect()

    def _suspect(self) -> None:
        """Find out whether the service is still there, and where."""
        if self._trouble is not None:
            self._trouble()
        if self._named:
            self._names.look_again(_LOOKUP_PAUSE_SECONDS)

    def _others(self, endpoint: Endpoint) -> bool:
        now = time.monotonic()
        return any(other is not endpoint and other.health.rank(now) == HEALTHY for other in self.endpoints)

    def _balanced(self, replayable: bool, lasting: bool) -> Carrier | None:
        self._turn += 1
        chosen = self._choose(())
        if chosen is None or chosen.health.rank(time.monotonic()) == EJECTED:
            return None
        return chosen.take(replayable, lasting)

    def _choose(self, tried: Collection[Endpoint]) -> Endpoint | None:
        """The healthiest endpoint with the least requests in progress; equals take turns from request to request."""
        endpoints = self.endpoints
        count = len(endpoints)
        if count == 0:
            return None
        turn = self._turn % count
        now = time.monotonic()
        best: Endpoint | None = None
        least = (0, 0)
        for endpoint in (*endpoints[turn:], *endpoints[:turn]):
            if endpoint not in tried:
                load = (endpoint.health.rank(now), endpoint.pending)
                if best is None or load < least:
                    best, least = endpoint, load
        return best

    # Limits

    def _place(self, dial: Dial) -> Dial:
        if dial.long_running or dial.dedicated or not self.full():
            self._start(dial)
            return dial
        if len(self._queue) < self._max_pending:
            self._queue[dial] = None
            dial.queue = self._queue
            self._attend(True)
        else:
            self.refusals.count()
            asyncio.get_running_loop().call_soon(dial.fail, self.refusals.error)
        return dial

    def full(self) -> bool:
        if not self._max_connections:
            return False
        used = self._dials + sum(item.in_use for item in self._all())
        if used - self._streaming >= self._max_connections and self._counted_tick != self.tick:
            self._counted_tick = self.tick
            self._streaming = sum(is_lasting(item) for endpoint in self._all() for item in endpoint.carriers())
        return used - self._streaming >= self._max_connections

    def start_waiting(self) -> None:
        """Let requests that wait look for a connection, as far as there may be so many."""
        queue = self._queue
        if not queue:
            return
        while queue and not self.full():
            self._start(queue.popitem(last=False)[0])
        if not queue:
            self._attend(False)

    def _attend(self, wanted: bool) -> None:
        for endpoint in self._all():
            endpoint.attention = wanted or endpoint.retired

    def _all(self) -> list[Endpoint]:
        return [*self.endpoints, *self._leaving] if self._leaving else self.endpoints

    # Dialling

    def _start(self, dial: Dial) -> None:
        self._dials += 1
        self._dialed_at = time.monotonic()
        start(self._serve(dial), f"dial {self.where}", self._tasks)

    async def _serve(self, dial: Dial) -> None:
        try:
            connection = await self._connection(dial)
        except CONNECT_ERRORS as error:
            dial.fail(error)
            return
        finally:
            self._dials -= 1
        if not dial.succeed(connection):
            connection.endpoint.keep(connection, dedicated=dial.dedicated)
        elif dial.long_running or dial.dedicated:
            self._streaming += 1

    async def _connection(self, dial: Dial) -> Carrier:
        if not self.endpoints:
            failure = await self._names.refresh()
            if failure is not None and not self.endpoints:
                raise failure
        try:
            return await self._race(dial)
        except CONNECT_ERRORS:
            known = {endpoint.where for endpoint in self.endpoints}
            if not self._named or not self._names.older_than(_LOOKUP_PAUSE_SECONDS):
                raise
            await self._names.refresh()
            if {endpoint.where for endpoint in self.endpoints} <= known:
                raise
        return await self._race(dial)

    async def _race(self, dial: Dial) -> Carrier:
        """Connect to one endpoint after the other until one succeeds; a slow one gets company instead of a follower."""
        tried: set[Endpoint] = {dial.avoid} if dial.avoid is not None and self._others(dial.avoid) else set()
        running: dict[asyncio.Task[Carrier], Endpoint] = {}
        failure: BaseException | None = None
        waits = 0
        try:
            while True:
                endpoint = self._choose(tried)
                if endpoint is not None and endpoint.stuck:
                    tried.add(endpoint)
                    dial.where, failure = endpoint.where, endpoint.health.error
                    continue
                if endpoint is not None and (not tried or (not running and failure is None) or self.budget.spend()):
                    tried.add(endpoint)
                    running[self._attempt(endpoint, endpoint.carrier(dial))] = endpoint
                elif not running:
                    raise failure or OSError("no address")
                timeout = self._limits.hedge_seconds
                done, _ = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    waits += 1
                    self._waited(dial, waits)
                for task in done:
                    error = task.exception()
                    if error is None:
                        del running[task]
                        return task.result()
                    dial.where, failure = running.pop(task).where, error
        finally:
            for task in running:
                task.add_done_callback(_keep)

    def _waited(self, dial: Dial, waits: int) -> None:
        """Connecting takes long; the lookup's OSError when that is because the name is gone."""
        if waits >= _SUSPICIOUS_WAITS:
            self._suspect()
        if not self.endpoints and self._names.failure is not None:
            dial.where = self.where
            raise self._names.failure

    def _attempt(self, endpoint: Endpoint, work: Coroutine[Any, Any, Carrier]) -> asyncio.Task[Carrier]:
        task = asyncio.get_running_loop().create_task(work, name=f"connect {endpoint.where}")
        endpoint.attempts += 1
        self._tasks.add(task)  # type: ignore[arg-type]  # its result is nobody's business but the callback's

        def ended(task: asyncio.Task[Carrier]) -> None:
            endpoint.attempts -= 1
            self._tasks.discard(task)

        task.add_done_callback(ended)
        return task

    # Addresses

    def _vanished(self) -> None:
        """The name is gone. It can be taken away by mistake, a connection in use cannot."""
        self._keep_only([endpoint for endpoint in self.endpoints if endpoint.open])

    def _apply(self, addresses: Sequence[Address]) -> None:
        known = {endpoint.where: endpoint for endpoint in self.endpoints}
        fresh: list[Endpoint] = []
        for address in addresses:
            where = _text(address) if not self.local else self.where
            endpoint = known.pop(where, None)
            fresh.append(endpoint if endpoint is not None else self._endpoint(where, address))
        self._keep_only(fresh)

    def _keep_only(self, wanted: list[Endpoint]) -> None:
        for gone in self.endpoints:
            if gone not in wanted:
                gone.retire()
                self._leaving.append(gone)
        self.endpoints = wanted
        self.take = wanted[0].take if len(wanted) == 1 else self._balanced
        if self.retired:
            self.retire()
        elif self._queue:
            self._attend(True)

    def _endpoint(self, where: str, address: Address) -> Endpoint:
        return Endpoint(self, where=where, ways=self._connector(address), limits=self._limits)

    # Housekeeping

    def sweep(self, tick: int, horizon: int, requests: int) -> None:
        """Once per `sweep_seconds`: `requests` were made since the last one; what is idle since `horizon` is closed."""
        self.tick = tick
        self.budget.earn(requests, self._limits.sweep_seconds)
        self.refusals.sweep()
        for endpoint in self._all():
            endpoint.sweep(horizon)
        self._leaving = [endpoint for endpoint in self._leaving if endpoint.open or endpoint.dialing]
        self.start_waiting()
        if self.retired:
            return
        now = time.monotonic()
        if len(self.endpoints) > 1:
            for endpoint in self.endpoints:
                if endpoint.health.failures and now >= endpoint.health.trial_at and not endpoint.dialing:
                    self._attempt(endpoint, endpoint.connect()).add_done_callback(_keep)
        in_use = now - self._dialed_at < _IN_USE_SECONDS or any(endpoint.open for endpoint in self.endpoints)
        if self._named and in_use:
            self._names.look_again(self._limits.resolve_seconds)

    def retire(self) -> None:
        """No route leads here any more; what is in progress finishes."""
        self.retired = True
        self.refusals.sweep()
        for endpoint in self._all():
            endpoint.retire()

    def revive(self) -> None:
        """A route leads here again."""
        self.retired = False
        for endpoint in self.endpoints:
            endpoint.retired = False
        self._attend(bool(self._queue))

    @property
    def connections(self) -> int:
        return sum(endpoint.open for endpoint in self._all())

    def abort(self) -> None:
        """Break everything off."""
        self.retire()
        self._queue.clear()
        for endpoint in self._all():
            endpoint.abort()


def _keep(task: asyncio.Task[Carrier]) -> None:
    """An attempt whose request is served already, or that had none."""
    if not task.cancelled() and task.exception() is None:
        connection = task.result()
        connection.endpoint.keep(connection, dedicated=connection.dedicated)


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
