"""Watch answers: events as lines of JSON, encoded once however many watchers they go to (rest.md A5.1)."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from apimachinery import table
from apimachinery.types import Object
from apiserver.resource import Resource
from apiserver.rest.memo import Memo
from apiserver.rest.watch import EventStream, Output
from apiserver.storage.base import Stored

_END: Final = b"}\n"
_SHARED_EVENTS: Final = 256
_LONGEST_SHARED: Final = 16 * 1024
"""Longer lines are made for each batch: keeping some hundred of them would take more memory than they are worth."""

_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a watcher wants to see of each object."""

    resource: Resource
    as_kind: str = ""
    """Empty for the whole object, Table or PartialObjectMetadata."""
    version: str = "v1"
    include: table.IncludeObject = "Metadata"
    """What a table row holds besides its cells."""


class EventEncoder:
    """Makes lines of events. `now` is the clock that ages in tables are counted from.

    Watchers that are equally far share their batches, and so the lines that are made of them; converted events are
    shared between batches, too. Tables count ages in seconds, so theirs are shared for a second.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._whole = Memo(_whole)
        self._batches: Memo[Sequence[Output], dict[_Key, bytes]] = Memo(lambda _batch: {})
        self._events: Memo[Stored, dict[_Key, bytes]] = Memo(lambda _stored: {}, size=_SHARED_EVENTS)

    def lines(self, form: Form, batch: Sequence[Output], *, headers: bool) -> bytes:
        """The batch as JSON lines; the first table of it names the columns if `headers` says so."""
        if not form.as_kind:
            return self._whole(batch)
        now = self._now()
        known = self._batches(batch)
        key = (form, int(now), headers)
        lines = known.get(key)
        if lines is None:
            lines = known[key] = self._converted(form, batch, now, headers)
        return lines

    def _converted(self, form: Form, batch: Sequence[Output], now: float, headers: bool) -> bytes:
        lines: list[bytes] = []
        for output in batch:
            if output.type == "ERROR":
                lines.append(_whole((output,)))
            else:
                lines.append(self._line(form, output, now, headers))
                headers = False
        return b"".join(lines)

    def _line(self, form: Form, output: Output, now: float, headers: bool) -> bytes:
        if output.stored is None:
            return _convert(form, output, now, headers)
        known = self._events(output.stored)
        key = (form, int(now), headers, output.type)
        line = known.get(key)
        if line is None:
            line = _convert(form, output, now, headers)
            if len(line) <= _LONGEST_SHARED:
                known[key] = line
        return line


def _convert(form: Form, output: Output, now: float, headers: bool) -> bytes:
    document = output.document
    converted: Object
    if form.as_kind == "PartialObjectMetadata":
        converted = table.partial_object_metadata(document, version=form.version)
    else:
        converted = table.build(
            form.resource.columns or table.DEFAULT_COLUMNS,
            [document],
            list_meta={"resourceVersion": document["metadata"].get("resourceVersion", "")},
            now=now,
            include_object=form.include,
            version=form.version,
            headers=headers,
        )
    return _head(output.type) + orjson.dumps(converted) + _END


def _whole(batch: Sequence[Output]) -> bytes:
    pieces: list[bytes] = []
    for output in batch:
        stored = output.stored
        pieces.append(_head(output.type))
        pieces.append(stored.json if stored is not None else orjson.dumps(output.document))
        pieces.append(_END)
    return b"".join(pieces)


def _head(kind: str) -> bytes:
    return b'{"type":"%b","object":' % kind.encode()


class WatchResponse(Response):
    """Sends events as they come, each batch in one piece, until they end or the client leaves."""

    def __init__(
        self, events: EventStream, form: Form, encoder: EventEncoder, media_type: str, headers: Mapping[str, str]
    ) -> None:
        # Response.__init__ is for answers of known length.
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        self._events = events
        self._form = form
        self._encoder = encoder
        self._named_columns = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.create_task(self._end_with_client(receive), name="watch-client")
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for batch in self._events:
                # The empty first batch goes out, too: it carries the head where a server waits for a body.
                await send({"type": "http.response.body", "body": self._encode(batch), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            await self._events.aclose()

    def _encode(self, batch: Sequence[Output]) -> bytes:
        headers = not self._named_columns
        self._named_columns = self._named_columns or any(output.type != "ERROR" for output in batch)
        return self._encoder.lines(self._form, batch, headers=headers)

    async def _end_with_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._events.end()
