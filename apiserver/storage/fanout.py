"""One history of events per resource, which watchers read at their own pace.

A watcher has no buffer of its own: it is a position in the shared history. Publishing therefore costs the same however
many watchers lag, memory is bounded by the history alone, and a watcher whose position has left the history is ended.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Final

from apimachinery.gvk import GroupResource
from apiserver.storage.base import Event, ExpiredError


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLimits:
    """How much of the past each resource remembers; whichever limit is reached first. Nothing is forgotten for its age.

    Clients expect to come back after 75 s, or after a few thousand events, without listing again (rest.md A5.2). The
    defaults remember 80 s of 100 changes a second of objects up to 8 kB, and days of a quiet resource.
    """

    events: int = 8192
    """Number of events."""

    bytes: int = 64 * 1024 * 1024
    """Sum of the JSON sizes of the remembered objects; keeps large objects from filling memory."""


DEFAULT_LIMITS: Final = HistoryLimits()


_WOKEN_AT_ONCE: Final = 16
_LONGEST_SHARE: Final = 0.0001
"""Seconds between two watchers that are woken, when there are few enough of them."""
_CYCLE: Final = 0.1
"""Seconds in which all watchers are woken; also the time that a fan-out may save up while it is idle."""
_PIECE_BYTES: Final = 1024 * 1024
_PIECES: Final = 128


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive events for a watcher, and the number to go on from."""

    events: tuple[Event, ...]
    end: int


class Channel:
    """The recent events of one resource. Events are counted from 0; `start` and `end` are such numbers."""

    def __init__(self, revision: int, limits: HistoryLimits) -> None:
        self.oldest = revision
        """The smallest revision that can be watched from."""
        self.start = 0
        self._limits = limits
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._waiting: dict[str, set[Subscription]] = {}
        self._pieces: dict[tuple[int, str, int], Piece] = {}

    @property
    def end(self) -> int:
        return self.start + len(self._events)

    def at(self, number: int) -> Event:
        return self._events[number - self.start]

    def seek(self, revision: int) -> int:
        """The number of the first event with a greater revision. ExpiredError when some of them are forgotten."""
        if revision < self.oldest:
            raise ExpiredError(revision, self.oldest)
        return self.start + bisect_right(self._events, revision, key=lambda event: event.revision)

    def newest_first(self, number: int) -> Iterator[Event]:
        """The events from the newest back to `number`."""
        return islice(reversed(self._events), self.end - number)

    def piece(self, number: int, namespace: str, limit: int) -> "Piece":
        """The events of a namespace from `number` on, which is one of them; shared by all who are as far."""
        key = (number, namespace, limit)
        piece = self._pieces.get(key)
        if piece is None:
            if len(self._pieces) >= _PIECES:
                self._pieces.clear()
            piece = self._pieces[key] = self._cut(number, namespace, limit)
        return piece

    def _cut(self, number: int, namespace: str, limit: int) -> "Piece":
        events: list[Event] = []
        size = 0
        while number < self.end and len(events) < limit and size < _PIECE_BYTES:
            event = self.at(number)
            if namespace in ("", event.current.key.namespace):
                events.append(event)
                size += len(event.current.json)
            number += 1
        return Piece(tuple(events), number)

    def append(self, event: Event) -> None:
        number = self.end
        self._pieces.clear()
        self._events.append(event)
        self._bytes += len(event.current.json)
        while len(self._events) > self._limits.events or (self._bytes > self._limits.bytes and len(self._events) > 1):
            forgotten = self._events.popleft()
            self._bytes -= len(forgotten.current.json)
            self.oldest = forgotten.revision
            self.start += 1
        for namespace in {"", event.current.key.namespace}:
            for subscription in self._waiting.pop(namespace, ()):
                subscription.wake(number)

    def wait(self, subscription: "Subscription") -> None:
        self._waiting.setdefault(subscription.namespace, set()).add(subscription)

    def stop_waiting(self, subscription: "Subscription") -> None:
        waiting = self._waiting.get(subscription.namespace)
        if waiting is not None:
            waiting.discard(subscription)
            if not waiting:
                del self._waiting[subscription.namespace]


class Waker:
    """Wakes waiting subscriptions, so many at a time that other work of the process is not held up.

    A woken watcher encodes and sends. A thousand that are woken at once keep every other request waiting until all
    have sent; woken for each of a hundred events a second, they take more than a processor. So a busy fan-out is
    paced: 10,000 are woken in a second, or, where more are waiting, all of them within a tenth of a second. While a
    watcher is in the queue further events join it, so that it gets fewer and larger pieces. What comes after a pause
    is not held back.
    """

    def __init__(self) -> None:
        self._queue: deque[Subscription] = deque()
        self._scheduled: asyncio.Handle | None = None
        self._due = 0.0
        """The time (of the event loop) by which all that were woken have had their share."""

    def add(self, subscription: "Subscription") -> None:
        self._queue.append(subscription)
        if self._scheduled is None:
            self._schedule(asyncio.get_running_loop())

    def close(self) -> None:
        """Forget who is waiting."""
        self._queue.clear()
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        late = self._due <= loop.time()
        self._scheduled = loop.call_soon(self._wake) if late else loop.call_at(self._due, self._wake)

    def _wake(self) -> None:
        self._scheduled = None
        loop = asyncio.get_running_loop()
        share = min(_LONGEST_SHARE, _CYCLE / max(1, len(self._queue)))
        count = min(_WOKEN_AT_ONCE, len(self._queue))
        self._due = max(self._due, loop.time() - _CYCLE) + share * count
        for _ in range(count):
            self._queue.popleft().interrupt()
        if self._queue:
            self._schedule(loop)


class Fanout:
    """The channels of a store and its newest revision. `revision` is what the store begins at."""

    def __init__(self, revision: int, limits: HistoryLimits) -> None:
        self.revision = revision
        self.closed = False
        self._first = revision
        self._limits = limits
        self._channels: dict[GroupResource, Channel] = {}
        self._open: set[Subscription] = set()
        self.waker = Waker()

    def channel(self, resource: GroupResource) -> Channel:
        channel = self._channels.get(resource)
        if channel is None:
            channel = self._channels[resource] = Channel(self._first, self._limits)
        return channel

    def publish(self, events: Iterable[Event]) -> None:
        """Record events, in revision order, and wake those who wait for them."""
        for event in events:
            self.revision = event.revision
            self.channel(event.current.key.resource).append(event)

    def subscribe(self, resource: GroupResource, namespace: str, since: int | None) -> "Subscription":
        return Subscription(self, self.channel(resource), namespace, since)

    def entered(self, subscription: "Subscription") -> None:
        self._open.add(subscription)

    def left(self, subscription: "Subscription") -> None:
        self._open.discard(subscription)

    def close(self) -> None:
        """End every watch once it has delivered what was published."""
        self.closed = True
        self.waker.close()
        for subscription in self._open:
            subscription.interrupt()


class Subscription:
    """The Watch of a store: a position in a channel. To be read by one task at a time."""

    def __init__(self, fanout: Fanout, channel: Channel, namespace: str, since: int | None) -> None:
        self.namespace = namespace
        self._fanout = fanout
        self._channel = channel
        self._since = since
        self._seen = 0
        self._position = 0
        self._ended = False
        self._asleep = False
        self._wakeup: asyncio.Future[None] | None = None
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "Subscription":
        self._seen = self._fanout.revision if self._since is None else self._since
        self._position = self._channel.seek(self._seen)
        self._fanout.entered(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._fanout.left(self)
        self.end()
        self._set_timer(None)

    def end(self) -> None:
        """End the watch; whoever waits is told at once."""
        self._ended = True
        self.interrupt()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Event:
        while True:
            event = self._peek()
            if event is not None:
                self._take(event)
                return event
            if self._is_over():
                raise StopAsyncIteration
            await self._wait()

    async def wait(self, until: float) -> bool:
        """Return when there is an event, or at the event loop's time `until`; False when the watch is over."""
        if self._peek() is None:
            if self._is_over():
                return False
            if asyncio.get_running_loop().time() < until:
                self._set_timer(until)
                await self._wait()
        return self._peek() is not None or not self._is_over()

    def _is_over(self) -> bool:
        return self._ended or self._fanout.closed

    def drain(self, limit: int = 256) -> Sequence[Event]:
        """The events that can be had without waiting, at most `limit` and about 1 MiB."""
        if self._peek() is None:
            return ()
        piece = self._channel.piece(self._position, self.namespace, limit)
        self._position = piece.end
        self._seen = piece.events[-1].revision
        return piece.events

    @property
    def revision(self) -> int:
        if self._peek() is None and not self._ended:
            self._seen = max(self._seen, self._fanout.revision)
        return self._seen

    def wake(self, number: int) -> None:
        """Event `number` is the first one of interest since this subscription began to wait."""
        self._asleep = False
        self._position = number
        self._fanout.waker.add(self)

    def interrupt(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _peek(self) -> Event | None:
        if self._asleep:
            # Nothing of interest has come, however far the channel has moved on with other namespaces' events.
            return None
        channel = self._channel
        if self._position < channel.start:
            self._ended = True
        if self._ended:
            return None
        while self._position < channel.end:
            event = channel.at(self._position)
            # Revisions up to a `since` in the future are skipped, as those before one in the past.
            if event.revision > self._seen and self.namespace in ("", event.current.key.namespace):
                return event
            self._position += 1
        return None

    def _take(self, event: Event) -> None:
        self._position += 1
        self._seen = event.revision

    def _set_timer(self, due: float | None) -> None:
        """Interrupt at `due`. A timer that is set for the same time is kept: most waits of a watch end at one time."""
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._time_is_up) if due is not None else None

    def _time_is_up(self) -> None:
        self._due = self._timer = None
        self.interrupt()

    async def _wait(self) -> None:
        self._wakeup = asyncio.get_running_loop().create_future()
        self._asleep = True
        self._channel.wait(self)
        try:
            await self._wakeup
        finally:
            self._wakeup = None
            if self._asleep:
                # Closed or cancelled; a cancelled wait may have been woken too, and then its position stands.
                self._asleep = False
                self._channel.stop_waiting(self)
                self._position = self._channel.end
