"""One address of an upstream: its connections, reused last in first out, and its health."""

import asyncio
import ssl
import time
from collections import OrderedDict
from collections.abc import Awaitable, Iterator
from typing import NamedTuple, Protocol

from aggregator.proxy.carrier import Carrier
from aggregator.proxy.health import Health
from aggregator.proxy.limits import Limits
from aggregator.proxy.lines import retry_after
from aggregator.proxy.sharing import Connect, Sharing
from aggregator.proxy.upstream_conn import UpstreamConnection
from apiserver import logs

CONNECT_ERRORS = (OSError, ssl.SSLError, TimeoutError, UnicodeError)

log = logs.get("aggregator.proxy")


class Ways(NamedTuple):
    """How an address is connected to."""

    own: Connect
    """For a connection of HTTP/1.1."""
    shared: Connect | None = None
    """For one that may turn out to be of HTTP/2."""


class Waiter(Protocol):
    """Whoever asked for a new connection."""

    def upstream_connected(self, connection: Carrier) -> None: ...

    def upstream_unreachable(self, error: BaseException) -> None: ...


class Owner(Protocol):
    """The upstream that an endpoint is part of."""

    authority: bytes
    name: str
    tick: int

    def next_waiting(self, connection: Carrier) -> bool:
        """A connection has become unused: whether a request that waits has taken it."""

    def start_waiting(self) -> None:
        """A request is over whose connection nobody can take."""

    def full(self) -> bool:
        """As many requests as allowed are in progress."""

    def connection_lost(self, endpoint: "Endpoint") -> None: ...

    def busy_elsewhere(self, endpoint: "Endpoint", seconds: float) -> bool:
        """This endpoint wants to be left alone; whether another one can stand in."""

    def may_retry(self, endpoint: "Endpoint", *, reused: bool) -> bool:
        """Whether a request that got no answer from this endpoint may be sent again."""

    def dial(self, waiter: Waiter, *, long_running: bool, alone: bool) -> "Dial":
        """Get a connection for a request; `alone`: one that is not shared."""

    def retry(self, waiter: Waiter, endpoint: "Endpoint", *, long_running: bool) -> "Dial": ...


class Dial:
    """A connection being made or waited for. `cancel` leaves it to the pool."""

    __slots__ = ("alone", "avoid", "dedicated", "long_running", "queue", "waiter", "where")

    def __init__(
        self,
        waiter: Waiter,
        where: str,
        *,
        dedicated: bool = False,
        long_running: bool = False,
        alone: bool = False,
        avoid: "Endpoint | None" = None,
    ) -> None:
        self.waiter: Waiter | None = waiter
        self.where = where
        """For words about what failed."""
        self.dedicated = dedicated
        self.long_running = long_running
        self.alone = alone
        """The request must not share."""
        self.avoid = avoid
        """The endpoint that has just failed the request."""
        self.queue: OrderedDict[Dial, None] | None = None
        """Where it waits, if it does."""

    def cancel(self) -> None:
        self.waiter = None
        if self.queue is not None:
            self.queue.pop(self, None)

    def succeed(self, connection: Carrier) -> bool:
        """Hand a connection over; False when nobody wants it any more."""
        waiter, self.waiter = self.waiter, None
        if waiter is None:
            return False
        waiter.upstream_connected(connection)
        return True

    def fail(self, error: BaseException) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.upstream_unreachable(error)


class Endpoint:
    """One upstream address with one TLS identity."""

    def __init__(self, owner: Owner, *, where: str, ways: Ways, limits: Limits) -> None:
        self.owner = owner
        self.where = where
        self.authority = owner.authority
        self.head_bytes = limits.head_bytes
        self.health = Health()
        self.retired = False
        """No route leads here any more: connections close as they become unused."""
        self.attention = False
        """What becomes unused is not simply kept: the endpoint is retired, or requests wait for a connection."""
        self.connections: set[UpstreamConnection] = set()
        """Those of HTTP/1.1."""
        self.dialing = 0
        self.attempts = 0
        """Connections being made, those included that are only decided on: one turn of the loop may decide on many."""
        self.sharing = Sharing(self, ways.shared, streams=limits.shared_streams) if ways.shared is not None else None
        self._connect = ways.own
        self._own_dials = 0
        self._own_connections = limits.own_connections
        self._lasting = 0
        """Own connections with long-running requests, as far as known; counted anew once per tick when it matters."""
        self._counted_tick = 0
        self._idle: list[UpstreamConnection] = []
        self._idle_connections = limits.idle_connections
        self._unsafe_ticks = limits.unsafe_reuse_ticks

    @property
    def pending(self) -> int:
        """Requests in progress, connections being made included."""
        return self.in_use + self.attempts

    @property
    def in_use(self) -> int:
        """Requests in progress."""
        shared = self.sharing.busy if self.sharing is not None else 0
        return len(self.connections) - len(self._idle) + shared

    def carriers(self) -> Iterator[Carrier]:
        """What requests are in progress on, and what is unused."""
        yield from self.connections
        if self.sharing is not None:
            yield from self.sharing.streams()

    @property
    def stuck(self) -> bool:
        """Connecting takes for ever there, and somebody is finding out already whether it still does."""
        return self.dialing > 0 and isinstance(self.health.error, TimeoutError)

    def take(self, replayable: bool, lasting: bool) -> Carrier | None:
        """An idle connection, or a place on a shared one, if there is one that this request may use.

        One that is `lasting`, such as a watch, shares before others have to: own connections cost less per request, and
        it would keep one from many.
        """
        sharing = self.sharing
        if lasting and sharing is not None and not sharing.declined and self._crowded(sharing, True):
            return sharing.stream() if not self.attention else None
        idle = self._idle
        if idle:
            if replayable:
                return idle.pop()
            last = idle[-1]
            if self.owner.tick - last.idle_tick <= self._unsafe_ticks and not last.transport.is_closing():
                return idle.pop()
            return None
        if sharing is None or not sharing.connections or self.attention or sharing.declined:
            return None
        # Own connections that have ended are made anew first.
        return sharing.stream() if self._crowded(sharing, False) and not self.owner.full() else None

    def give_back(self, connection: UpstreamConnection) -> None:
        if self.attention and (self.retired or self.owner.next_waiting(connection)):
            if self.retired:
                connection.close()
            return
        if len(self._idle) >= self._idle_connections:
            connection.close()
            return
        connection.idle_tick = self.owner.tick
        self._idle.append(connection)

    async def carrier(self, dial: Dial) -> Carrier:
        """A new connection, or a place on a shared one if there are many. One of CONNECT_ERRORS, which ejects the
        endpoint."""
        sharing = self.sharing
        alone = dial.dedicated or dial.alone
        if sharing is not None and not alone and not sharing.declined and self._crowded(sharing, dial.long_running):
            self.dialing += 1
            try:
                stream = await sharing.join()
            except CONNECT_ERRORS as error:
                self.failed(error)
                raise
            finally:
                self.dialing -= 1
            if stream is not None:
                return stream
            idle = self.take(False, False)
            if idle is not None:
                # The connection on which the backend has said that it does not share.
                return idle
        return await self.connect(dedicated=dial.dedicated)

    def _crowded(self, sharing: Sharing, lasting: bool) -> bool:
        """As many own connections as there should be are in use or being made."""
        own = len(self.connections) + self._own_dials
        if lasting:
            return bool(sharing.connections) or own >= self._own_connections
        if own - self._lasting >= self._own_connections and self._counted_tick != self.owner.tick:
            self._counted_tick = self.owner.tick
            self._lasting = sum(map(is_lasting, self.connections))
        return own - self._lasting >= self._own_connections

    async def connect(self, *, dedicated: bool = False) -> UpstreamConnection:
        """A new connection. One of CONNECT_ERRORS when it cannot be made, which ejects the endpoint."""
        made: list[UpstreamConnection] = []

        def factory() -> UpstreamConnection:
            connection = UpstreamConnection(self)
            connection.dedicated = dedicated
            made.append(connection)
            return connection

        self.dialing += 1
        self._own_dials += 1
        try:
            await self._connect(factory)
        except CONNECT_ERRORS as error:
            self.failed(error)
            raise
        finally:
            self.dialing -= 1
            self._own_dials -= 1
        self.passed()
        return made[-1]

    def passed(self) -> None:
        """A connection was made."""
        if self.health.passed():
            log.info("endpoint is back", upstream=self.owner.name, endpoint=self.where)

    def failed(self, error: BaseException | None) -> None:
        """It could not be reached, or failed a request before it said anything."""
        if self.health.failed(time.monotonic(), error):
            reason = str(error) if error is not None else "connection closed"
            log.warning("endpoint ejected", upstream=self.owner.name, endpoint=self.where, error=reason)

    def timed_out(self, began_tick: int) -> None:
        """A request that began then got no answer at all; ejected if nobody else got one either."""
        answered = self.sharing is not None and self.sharing.answered_since(began_tick)
        if not answered and not any(connection.idle_tick >= began_tick for connection in self._idle):
            self.failed(TimeoutError("no answer in time"))

    def asked_to_rest(self, lines: list[bytes]) -> bool:
        """Whether the fields of a 503 say when to come back (RFC 9110 10.2.3), and another endpoint can stand in."""
        seconds = retry_after(lines)
        return seconds is not None and self.owner.busy_elsewhere(self, seconds)

    def keep(self, connection: Carrier, *, dedicated: bool) -> None:
        """A connection whose waiter has gone."""
        if dedicated or not isinstance(connection, UpstreamConnection):
            connection.close()
        else:
            self.give_back(connection)

    def opened(self, connection: UpstreamConnection) -> None:
        self.connections.add(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        self.connections.discard(connection)
        self.withdraw(connection)
        self.owner.connection_lost(self)

    def withdraw(self, connection: UpstreamConnection) -> None:
        """The peer closes this connection: no request may take it."""
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, older_than_tick: int) -> None:
        """Close connections unused since before that tick."""
        if self.sharing is not None:
            self.sharing.look(time.monotonic(), older_than_tick)
        keep = [connection for connection in self._idle if connection.idle_tick >= older_than_tick]
        for connection in self._idle:
            if connection.idle_tick < older_than_tick:
                connection.close()
        self._idle = keep

    def retire(self) -> None:
        self.retired = self.attention = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        if self.sharing is not None:
            self.sharing.retire()

    def abort(self) -> None:
        """Break everything off."""
        for connection in list(self.connections):
            connection.transport.abort()
        if self.sharing is not None:
            self.sharing.abort()

    @property
    def open(self) -> int:
        """Connections, those that nobody uses included."""
        return len(self.connections) + (len(self.sharing.connections) if self.sharing is not None else 0)


def is_lasting(carrier: Carrier) -> bool:
    """It serves a request that may last for ever."""
    exchange = carrier.exchange
    return exchange is not None and (exchange.long_running or carrier.dedicated)


def start(work: Awaitable[None], name: str, tasks: set[asyncio.Task[None]]) -> None:
    """Run `work` in a task that `tasks` holds until it ends."""
    task = asyncio.get_running_loop().create_task(_run(work), name=name)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _run(work: Awaitable[None]) -> None:
    await work
