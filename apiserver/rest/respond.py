"""Negotiated answers: objects, lists, tables, metadata, Status errors and watch streams (rest.md A1)."""

import asyncio
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson
from starlette.responses import Response

from apimachinery import codec, negotiation, status, table
from apimachinery.field_errors import quote
from apimachinery.negotiation import Choice
from apimachinery.options import Query
from apimachinery.status import APIError
from apimachinery.types import Object
from apiserver import zipped
from apiserver.resource import Resource
from apiserver.rest.read import Page
from apiserver.rest.stream import EventEncoder, Form, WatchResponse
from apiserver.rest.watch import EventStream
from apiserver.storage.base import Stored

ALL_KINDS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
"""What objects and lists can be converted to.

Which of the metadata kinds fits shows too late for the next clause of an Accept header: asking for the wrong one is an
error (rest.md A1.2).
"""
_DECODED_AT_ONCE = 250
_WARNING_BUDGET = 4096
_WARNING_CUT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the request says about the form of its answer."""

    accept: str = ""
    accept_encoding: str = ""
    user_agent: str = ""
    query: Query = field(default_factory=dict)

    @property
    def pretty(self) -> bool:
        return negotiation.pretty_wanted(self.query, self.user_agent)

    @property
    def include_object(self) -> str:
        return next(iter(self.query.get("includeObject", ())), "")


class Responder:
    """Turns results into responses. `now` is the clock that ages in tables are counted from."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._encoder = EventEncoder(now)

    def item(
        self, asked: Asked, resource: Resource, stored: Stored, *, code: int = 200, warnings: Sequence[str] = ()
    ) -> Response:
        choice = negotiation.choose(asked.accept, as_kinds=ALL_KINDS)
        plain = choice.as_kind == "" and choice.media_type == "application/json"
        if plain and not (choice.pretty or asked.pretty):
            return finish(asked, stored.json + b"\n", choice.media_type, code=code, warnings=warnings)
        document = stored.object
        if choice.as_kind == "Table":
            version = stored.object["metadata"].get("resourceVersion", "")
            document = self._table(asked, resource, [document], {"resourceVersion": version}, choice)
        elif choice.as_kind == "PartialObjectMetadata":
            document = table.partial_object_metadata(document, version=choice.version)
        elif choice.as_kind == "PartialObjectMetadataList":
            found = f"the requested object is not a list (*{resource.version}.{resource.kind})"
            raise status.not_acceptable(f"you requested PartialObjectMetadataList, but {found}")
        return encoded(asked, document, choice, code=code, warnings=warnings)

    async def page(self, asked: Asked, resource: Resource, page: Page) -> Response:
        choice = negotiation.choose(asked.accept, as_kinds=ALL_KINDS)
        plain = choice.as_kind == "" and choice.media_type == "application/json"
        if plain and not (choice.pretty or asked.pretty):
            return await _finish_list(asked, _list_json(resource, page))
        if choice.as_kind == "PartialObjectMetadata":
            found = f"the requested object is a list (*{resource.version}.{resource.list_kind})"
            raise status.not_acceptable(f"you requested PartialObjectMetadata, but {found}")
        convert, member = self._list_of(asked, resource, page.metadata, choice)
        if choice.media_type == codec.JSON and not (choice.pretty or asked.pretty):
            return await _finish_list(asked, await _converted_json(convert, member, page.items))
        return encoded(asked, convert([stored.decoded() for stored in page.items]), choice)

    def _list_of(
        self, asked: Asked, resource: Resource, metadata: Object, choice: Choice
    ) -> tuple[Callable[[Sequence[Object]], Object], str]:
        """How a list document is made of objects, and its member that grows with them."""
        if choice.as_kind == "Table":
            return lambda objects: self._table(asked, resource, objects, metadata, choice), "rows"
        if choice.as_kind == "PartialObjectMetadataList":
            version = choice.version
            return lambda objects: table.partial_object_metadata_list(metadata, objects, version=version), "items"
        head = {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata}
        return lambda objects: {**head, "items": objects}, "items"

    def virtual(self, asked: Asked, resource: Resource, document: Object) -> Response:
        """The answer of a resource without storage: the document itself, or one table row of it."""
        choice = negotiation.choose(asked.accept, as_kinds=("Table",))
        if choice.as_kind == "Table":
            document = self._table(asked, resource, [document], {}, choice)
        return encoded(asked, document, choice)

    def stream(self, asked: Asked, resource: Resource, events: EventStream) -> Response:
        kinds = ("Table", "PartialObjectMetadata")
        choice = negotiation.choose(asked.accept, as_kinds=kinds, stream=True)
        include = table.parse_include_object(asked.include_object)
        form = Form(resource=resource, as_kind=choice.as_kind, version=choice.version, include=include)
        return WatchResponse(events, form, self._encoder, choice.media_type, dict(NO_CACHE))

    def _table(
        self, asked: Asked, resource: Resource, documents: Sequence[Object], list_meta: Object, choice: Choice
    ) -> Object:
        return table.build(
            self._columns(resource),
            documents,
            list_meta=list_meta,
            now=self.now(),
            include_object=table.parse_include_object(asked.include_object),
            version=choice.version,
        )

    @staticmethod
    def _columns(resource: Resource) -> tuple[table.Column, ...]:
        return resource.columns or table.DEFAULT_COLUMNS


NO_CACHE = (("cache-control", "no-cache, private"),)


def _list_json(resource: Resource, page: Page) -> bytes:
    """The list as JSON, put together from the items' shared encodings."""
    head = orjson.dumps({"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": page.metadata})
    return b"".join((head[:-1], b',"items":[', b",".join([stored.json for stored in page.items]), b"]}\n"))


def untransformed(asked: Asked, content: Object) -> Response:
    """The Status of a delete: conversions that the client asked for do not apply to it."""
    return encoded(asked, content, negotiation.choose(asked.accept, as_kinds=ALL_KINDS))


def document(asked: Asked, content: Object, *, code: int = 200, warnings: Sequence[str] = ()) -> Response:
    """A document that has only its own form."""
    return encoded(asked, content, negotiation.choose(asked.accept), code=code, warnings=warnings)


def encoded(
    asked: Asked, content: Object, choice: Choice, *, code: int = 200, warnings: Sequence[str] = ()
) -> Response:
    if choice.media_type == "application/yaml":
        return finish(asked, codec.encode_yaml(content), choice.media_type, code=code, warnings=warnings)
    body = codec.encode_json(content, pretty=choice.pretty or asked.pretty)
    return finish(asked, body, choice.media_type, code=code, warnings=warnings)


def failure(asked: Asked, error: APIError) -> Response:
    """The Status of an error; JSON when the client accepts nothing that it could be written in."""
    try:
        response = document(asked, error.status, code=error.code)
    except APIError:
        body = codec.encode_json(error.status, pretty=True)
        response = finish(asked, body, "application/json", code=error.code)
    if error.retry_after_seconds is not None:
        response.headers["retry-after"] = str(error.retry_after_seconds)
    if error.code == 403:
        response.headers["x-content-type-options"] = "nosniff"
    return response


async def _converted_json(convert: Callable[[Sequence[Object]], Object], member: str, items: Sequence[Stored]) -> bytes:
    """A converted list as JSON, made in slices: other requests get their turn, and few objects are decoded at once."""
    head = convert([])
    del head[member]
    pieces: list[bytes] = []
    for start in range(0, len(items), _DECODED_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        slice_ = convert([stored.decoded() for stored in items[start : start + _DECODED_AT_ONCE]])
        pieces.append(orjson.dumps(slice_[member])[1:-1])
    return b"".join((orjson.dumps(head)[:-1], b',"%b":[' % member.encode(), b",".join(pieces), b"]}\n"))


async def _finish_list(asked: Asked, body: bytes) -> Response:
    """As `finish`; compresses on a thread, as a large list takes as long as hundreds of other requests."""
    if not _compresses(asked, body):
        return finish(asked, body, codec.JSON)
    return _zipped(await asyncio.to_thread(gzip.compress, body, zipped.LEVEL), codec.JSON)


def _compresses(asked: Asked, body: bytes) -> bool:
    return len(body) > zipped.OVER_BYTES and zipped.accepted(asked.accept_encoding)


def _zipped(body: bytes, media_type: str, code: int = 200) -> Response:
    encoding = {"content-encoding": "gzip", "vary": "Accept-Encoding", "content-type": media_type}
    return Response(body, status_code=code, headers=dict(NO_CACHE) | encoding)


def finish(asked: Asked, body: bytes, media_type: str, *, code: int = 200, warnings: Sequence[str] = ()) -> Response:
    if _compresses(asked, body):
        response = _zipped(gzip.compress(body, zipped.LEVEL), media_type, code)
    else:
        response = Response(body, status_code=code, headers=dict(NO_CACHE) | {"content-type": media_type})
    for text in _within_budget(warnings):
        # Header values are ASCII; Go escapes the rest, so do we.
        response.headers.append("warning", f"299 - {quote(text)}".encode("ascii", "backslashreplace").decode())
    return response


def _within_budget(warnings: Sequence[str]) -> list[str]:
    """Without repetition; over the budget each text is cut, and what is still too much is left out."""
    texts = list(dict.fromkeys(warnings))
    if sum(map(len, texts)) <= _WARNING_BUDGET:
        return texts
    kept: list[str] = []
    left = _WARNING_BUDGET
    for text in texts:
        cut = text[:_WARNING_CUT]
        if len(cut) > left:
            break
        kept.append(cut)
        left -= len(cut)
    return kept
