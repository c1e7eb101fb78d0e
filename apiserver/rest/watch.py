"""Watches over a store: initial events, replay, selector transitions, bookmarks (rest.md A5)."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from apimachinery import status
from apimachinery.options import ListOptions
from apimachinery.types import Object
from apimachinery.watch import at_revision, bookmark, transition
from apiserver.resource import Resource
from apiserver.rest.context import Context
from apiserver.rest.memo import Memo
from apiserver.rest.read import Reader, parse_revision, selection
from apiserver.storage.base import Event, ExpiredError, Snapshot, Stored, Watch

_MINIMUM_SECONDS = 1800
_BOOKMARK_SECONDS = 60.0
_INITIAL_AT_ONCE = 500
_LAST_BOOKMARK_SECONDS = 2.0
"""A bookmark is sent this long before the end, so that the client goes on from there."""


@dataclass(frozen=True, slots=True)
class Output:
    """One event for the client: `stored` when it is an unchanged revision (its JSON is shared), else `object`."""

    type: str
    stored: Stored | None = None
    object: Object | None = None

    @property
    def document(self) -> Object:
        if self.stored is not None:
            return self.stored.object
        assert self.object is not None
        return self.object


Matches = Callable[[Object], bool]


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a watch begins: with the items of a snapshot (if any), then with the changes after `since`.

    With `fault`, the Status that says why it cannot, it ends there.
    """

    initial: Snapshot | None
    since: int | None
    fault: Object | None = None


class Watcher:
    def __init__(self, context: Context, reader: Reader) -> None:
        self._context = context
        self._reader = reader
        self._streams = _OpenStreams()

    def close(self) -> None:
        """End every watch, as if its time were up; a server does this before it stops."""
        self._streams.close()

    async def events(self, resource: Resource, namespace: str, options: ListOptions) -> "EventStream":
        """The events from where the client asked to begin.

        APIError here is an answer of its own; later trouble is an ERROR event, the last one.
        """
        matches = selection(resource, options)
        start = await self._start(resource, namespace, options)
        watch = self._context.store.watch(resource.group_resource, namespace, since=start.since)
        return EventStream(resource, options, start, matches, watch, self._streams)

    async def _start(self, resource: Resource, namespace: str, options: ListOptions) -> _Start:
        version, initial = options.resource_version, options.send_initial_events
        if version in ("", "0"):
            if initial is False:
                return _Start(None, self._context.store.revision)
            snapshot = await self._context.store.list(resource.group_resource, namespace)
            return _Start(snapshot, snapshot.revision)
        revision = parse_revision(version)
        if initial:
            try:
                await self._reader.wait_for(revision)
            except status.APIError as error:
                return _Start(None, None, error.status)
            snapshot = await self._context.store.list(resource.group_resource, namespace)
            return _Start(snapshot, snapshot.revision)
        return _Start(None, revision)


class _OpenStreams:
    """The streams that are being read, so that they can be ended together and share what is made for them."""

    def __init__(self) -> None:
        self.outputs = Memo(_unselected)
        """The outputs of events for watchers without selectors."""
        self._streams: set[EventStream] = set()
        self._closing = False

    def add(self, stream: "EventStream") -> None:
        self._streams.add(stream)
        if self._closing:
            stream.end()

    def discard(self, stream: "EventStream") -> None:
        self._streams.discard(stream)

    def close(self) -> None:
        self._closing = True
        for stream in self._streams:
            stream.end()


class EventStream:
    """Batches of events, in revision order, until the client's timeout, the store's end, a lag, or `end`.

    To be iterated once, by one task; `aclose` is for who stops before the end.
    """

    def __init__(
        self,
        resource: Resource,
        options: ListOptions,
        start: _Start,
        matches: Matches | None,
        watch: AbstractAsyncContextManager[Watch],
        streams: "_OpenStreams",
    ) -> None:
        self._resource = resource
        self._options = options
        self._matches = matches
        self._streams = streams
        self._watch: Watch | None = None
        self._ended = False
        self._batches = self._run(start, watch)

    def __aiter__(self) -> AsyncGenerator[Sequence[Output], None]:
        return self._batches

    async def aclose(self) -> None:
        await self._batches.aclose()

    def end(self) -> None:
        """Finish soon, without an error; callable from any task."""
        self._ended = True
        if self._watch is not None:
            self._watch.end()

    async def _run(
        self, start: _Start, subscription: AbstractAsyncContextManager[Watch]
    ) -> AsyncGenerator[Sequence[Output], None]:
        resource, options, matches = self._resource, self._options, self._matches
        self._streams.add(self)
        try:
            # An empty batch first: the answer's head goes out at once, even when nothing happens for an hour.
            yield ()
            if start.fault is not None:
                yield (Output("ERROR", object=start.fault),)
                return
            if start.initial is not None:
                for items in _slices(start.initial.items):
                    yield [Output("ADDED", stored=item) for item in items if matches is None or matches(item.decoded())]
                if options.send_initial_events and options.allow_watch_bookmarks:
                    yield (_bookmark(resource, start.initial.revision, initial_events_end=True),)
            async with subscription as watch:
                self._watch = watch
                if self._ended:
                    return
                async for batch in self._follow(watch):
                    yield batch
        except ExpiredError as error:
            expired = status.too_old_resource_version(error.asked, error.oldest)
            yield (Output("ERROR", object=expired.status),)
        finally:
            self._watch = None
            self._streams.discard(self)

    async def _follow(self, watch: Watch) -> AsyncGenerator[Sequence[Output], None]:
        loop = asyncio.get_running_loop()
        length = self._options.timeout_seconds or _MINIMUM_SECONDS * (1 + random.random())
        end = loop.time() + length
        bookmarks, matches = self._options.allow_watch_bookmarks, self._matches
        mark = loop.time() + min(_BOOKMARK_SECONDS, max(0.0, length - _LAST_BOOKMARK_SECONDS))
        while loop.time() < end and await watch.wait(min(end, mark) if bookmarks else end) and not self._ended:
            if events := watch.drain():
                if matches is None:
                    yield self._streams.outputs(events)
                elif batch := [output for event in events if (output := _through(event, matches)) is not None]:
                    yield batch
            if bookmarks and loop.time() >= mark:
                yield (_bookmark(self._resource, watch.revision),)
                mark = _next_mark(loop.time(), end)


def _slices(items: Sequence[Stored]) -> Iterator[Sequence[Stored]]:
    """Pieces small enough that other requests get their turn between them."""
    for start in range(0, len(items), _INITIAL_AT_ONCE):
        yield items[start : start + _INITIAL_AT_ONCE]


def _unselected(events: Sequence[Event]) -> Sequence[Output]:
    return tuple(Output(event.type, stored=event.current) for event in events)


def _next_mark(now: float, end: float) -> float:
    """The time of the next bookmark: about a minute from now, and once shortly before the end."""
    last = end - _LAST_BOOKMARK_SECONDS
    following = now + _BOOKMARK_SECONDS * (0.9 + random.random() * 0.2)
    return min(following, last) if now < last else end + 1


def _bookmark(resource: Resource, revision: int, *, initial_events_end: bool = False) -> Output:
    document = bookmark(resource.api_version, resource.kind, revision, initial_events_end=initial_events_end)
    return Output("BOOKMARK", object=document)


def _through(event: Event, matches: Matches) -> Output | None:
    previous = event.previous.object if event.previous is not None else None
    seen = transition(event.type, event.current.object, previous, matches)
    if seen is None:
        return None
    kind, show_previous = seen
    if show_previous and previous is not None:
        return Output(kind, object=at_revision(previous, event.revision))
    return Output(kind, stored=event.current)
