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

_SHARED_BYTES: Final = 4 * 1024 * 1024
_END: Final = b"}\n"


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

    Whole objects are put together from the store's JSON. Converted ones are kept for the other watchers that want the
    same: for a second, as the ages in them count seconds, and within bounds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.plain = Memo(_plain)
        """The lines of a batch of events with whole objects."""
        self._now = now
        self._shared: dict[tuple[object, ...], bytes] = {}
        self._shared_bytes = 0

    def converted(self, form: Form, output: Output, *, headers: bool) -> bytes:
        """One event in another form; a table names its columns only with `headers`."""
        if output.type == "ERROR":
            return _plain((output,))
        if output.stored is None:
            return self._convert(form, output, self._now(), headers)
        now = self._now()
        key = (form, headers, output.type, output.stored.revision, int(now) if form.as_kind == "Table" else 0)
        line = self._shared.get(key)
        if line is None:
            line = self._shared[key] = self._convert(form, output, now, headers)
            self._shared_bytes += len(line)
            while self._shared_bytes > _SHARED_BYTES and len(self._shared) > 1:
                self._shared_bytes -= len(self._shared.pop(next(iter(self._shared))))
        return line

    @staticmethod
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


def _plain(batch: Sequence[Output]) -> bytes:
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
        if not self._form.as_kind:
            return self._encoder.plain(batch)
        lines: list[bytes] = []
        for output in batch:
            lines.append(self._encoder.converted(self._form, output, headers=not self._named_columns))
            self._named_columns = self._named_columns or output.type != "ERROR"
        return b"".join(lines)

    async def _end_with_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._events.end()
