"""List and watch over HTTP: how a process learns the objects of an API server that it is not part of."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urlencode

import orjson

from apimachinery import status
from apimachinery.types import Object
from apiserver import http1
from apiserver.client import ResourceRef, WatchEvent

_ANSWER_SECONDS = 30.0
_LIST_LIMIT = 256 * 1024 * 1024
_WATCH_SECONDS = 600
_ERROR_LIMIT = 1024 * 1024


class HttpListWatch:
    """Speaks to `target` with fixed `headers`, e.g. the identity of this process. Raises APIError for a Status answer
    and `http1.HTTPClientError` when there is no complete answer."""

    def __init__(self, target: http1.Target, headers: Sequence[tuple[str, str]]) -> None:
        self._target = target
        self._headers = (("Accept", "application/json"), *headers)

    async def list(self, ref: ResourceRef, namespace: str = "") -> Object:
        response = await http1.request(
            self._target,
            "GET",
            ref.path(namespace),
            self._headers,
            timeout=_ANSWER_SECONDS,
            max_body=_LIST_LIMIT,
        )
        return _checked(response.status, response.body)

    @asynccontextmanager
    async def watch(
        self, ref: ResourceRef, namespace: str = "", *, resource_version: str
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        query = urlencode(
            {
                "watch": "true",
                "resourceVersion": resource_version,
                "allowWatchBookmarks": "true",
                "timeoutSeconds": _WATCH_SECONDS,
            }
        )
        path = f"{ref.path(namespace)}?{query}"
        async with http1.stream_lines(self._target, "GET", path, self._headers, head_timeout=_ANSWER_SECONDS) as stream:
            if stream.status != 200:
                _checked(stream.status, await stream.read(_ERROR_LIMIT, timeout=_ANSWER_SECONDS))
            async with aclosing(_events(stream)) as events:
                yield events


async def _events(stream: http1.LineStream) -> AsyncGenerator[WatchEvent, None]:
    async for line in stream.lines():
        document = orjson.loads(line)
        yield WatchEvent(document["type"], document["object"])


def _checked(code: int, body: bytes) -> Object:
    """The document of a good answer; the APIError that any other one stands for."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if code == 200 and isinstance(document, dict):
        return document
    if isinstance(document, dict) and document.get("kind") == "Status":
        raise status.from_document(document)
    raise status.APIError(code, "", f"unexpected answer with code {code}")
