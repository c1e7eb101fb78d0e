"""Watches over a store: initial events, replay, selector transitions, bookmarks (rest.md A5)."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from apimachinery import status
from apimachinery.options import ListOptions
from apimachinery.types import Object
from apimachinery.watch import at_revision, bookmark, transition
from apiserver.resource import Resource
from apiserver.rest.context import Context
from apiserver.rest.read import Reader, parse_revision, selection
from apiserver.storage.base import Event, ExpiredError, Snapshot, Stored, Watch

_MINIMUM_SECONDS = 1800
_BOOKMARK_SECONDS = 60.0
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


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a watch begins: with the items of a snapshot (if any), then with the changes after `since`."""

    initial: Snapshot | None
    since: int | None


class Watcher:
    def __init__(self, context: Context, reader: Reader) -> None:
        self._context = context
        self._reader = reader
        self._waiting: set[asyncio.Future[Event]] = set()
        self._closing = False

    def close(self) -> None:
        """End every watch, as if its time were up; a server does this before it stops."""
        self._closing = True
        for pending in self._waiting:
            pending.cancel()

    def _is_closing(self) -> bool:
        return self._closing

    async def events(
        self, resource: Resource, namespace: str, options: ListOptions
    ) -> AsyncGenerator[list[Output], None]:
        """Batches of events, in revision order, until the client's timeout, the store's end or a lag.

        APIError before the first batch is an answer of its own; later trouble is an ERROR event, the last one.
        """
        matches = selection(resource, options) or _everything
        start = await self._start(resource, namespace, options)
        return self._run(resource, namespace, options, start, matches)

    async def _start(self, resource: Resource, namespace: str, options: ListOptions) -> _Start:
        version, initial = options.resource_version, options.send_initial_events
        if version in ("", "0"):
            if initial is False:
                return _Start(None, self._context.store.revision)
            snapshot = await self._context.store.list(resource.group_resource, namespace)
            return _Start(snapshot, snapshot.revision)
        revision = parse_revision(version)
        if initial:
            await self._reader.wait_for(revision)
            snapshot = await self._context.store.list(resource.group_resource, namespace)
            return _Start(snapshot, snapshot.revision)
        return _Start(None, revision)

    async def _run(
        self,
        resource: Resource,
        namespace: str,
        options: ListOptions,
        start: _Start,
        matches: Callable[[Object], bool],
    ) -> AsyncGenerator[list[Output], None]:
        # An empty batch first: the answer's head goes out at once, even when nothing happens for an hour.
        yield []
        if start.initial is not None:
            yield [Output("ADDED", stored=item) for item in start.initial.items if matches(item.object)]
            if options.send_initial_events and options.allow_watch_bookmarks:
                yield [_bookmark(resource, start.initial.revision, initial_events_end=True)]
        try:
            async with self._context.store.watch(resource.group_resource, namespace, since=start.since) as watch:
                async for batch in self._follow(resource, options, watch, matches):
                    yield batch
        except ExpiredError as error:
            expired = status.too_old_resource_version(error.asked, error.oldest)
            yield [Output("ERROR", object=expired.status)]

    async def _follow(
        self, resource: Resource, options: ListOptions, watch: Watch, matches: Callable[[Object], bool]
    ) -> AsyncGenerator[list[Output], None]:
        loop = asyncio.get_running_loop()
        length = options.timeout_seconds or _MINIMUM_SECONDS * (1 + random.random())
        end = loop.time() + length
        bookmarks = options.allow_watch_bookmarks
        mark = loop.time() + min(_BOOKMARK_SECONDS, max(0.0, length - _LAST_BOOKMARK_SECONDS))
        pending: asyncio.Future[Event] | None = None
        try:
            while not self._is_closing() and (now := loop.time()) < end:
                if pending is None:
                    pending = asyncio.ensure_future(anext(watch))
                    self._waiting.add(pending)
                wait_until = min(end, mark) if bookmarks else end
                await asyncio.wait((pending,), timeout=max(0.0, wait_until - now))
                if pending.done():
                    self._waiting.discard(pending)
                    if self._is_closing():
                        return
                    try:
                        events = [pending.result(), *watch.drain()]
                    except StopAsyncIteration:
                        return
                    pending = None
                    batch = [output for event in events if (output := _through(event, matches)) is not None]
                    if batch:
                        yield batch
                if bookmarks and loop.time() >= mark:
                    yield [_bookmark(resource, watch.revision)]
                    mark = _next_mark(loop.time(), end)
        finally:
            if pending is not None:
                self._waiting.discard(pending)
                pending.cancel()


def _next_mark(now: float, end: float) -> float:
    """The time of the next bookmark: about a minute from now, and once shortly before the end."""
    last = end - _LAST_BOOKMARK_SECONDS
    following = now + _BOOKMARK_SECONDS * (0.9 + random.random() * 0.2)
    return min(following, last) if now < last else end + 1


def _everything(_obj: Object) -> bool:
    return True


def _bookmark(resource: Resource, revision: int, *, initial_events_end: bool = False) -> Output:
    document = bookmark(resource.api_version, resource.kind, revision, initial_events_end=initial_events_end)
    return Output("BOOKMARK", object=document)


def _through(event: Event, matches: Callable[[Object], bool]) -> Output | None:
    previous = event.previous.object if event.previous is not None else None
    seen = transition(event.type, event.current.object, previous, matches)
    if seen is None:
        return None
    kind, show_previous = seen
    if show_previous and previous is not None:
        return Output(kind, object=at_revision(previous, event.revision))
    return Output(kind, stored=event.current)
