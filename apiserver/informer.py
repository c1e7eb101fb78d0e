"""A cache of one resource, kept current by list and watch; what every controller looks at."""

import asyncio
from collections.abc import Callable

from apimachinery.status import APIError
from apimachinery.types import Object
from apiserver import http1, logs
from apiserver.client import ListWatch, ResourceRef

Handler = Callable[[Object | None, Object | None], None]
"""Called with (old, new): old is None when the object appeared, new is None when it is gone."""

_FIRST_DELAY = 0.05
_LONGEST_DELAY = 5.0

log = logs.get("informer")


class _ExpiredWatchError(Exception):
    """The watch cannot go on from where it was: list again, at once."""


class Informer:
    """Objects are shared with their readers: never mutate one. Handlers are called in order, on the event loop."""

    def __init__(self, client: ListWatch, ref: ResourceRef) -> None:
        self.ref = ref
        self.synced = asyncio.Event()
        """Set after the first complete list has been handed to the handlers."""
        self._client = client
        self._objects: dict[tuple[str, str], Object] = {}
        self._handlers: list[Handler] = []
        self._revision = ""

    def add_handler(self, handler: Handler) -> None:
        """Objects already known are handed over at once."""
        self._handlers.append(handler)
        for obj in self._objects.values():
            handler(None, obj)

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get((namespace, name))

    def list(self) -> list[Object]:
        return list(self._objects.values())

    async def run(self) -> None:
        """List and watch until cancelled; failures are logged and tried again with a growing delay."""
        delay = _FIRST_DELAY
        while True:
            try:
                if not self._revision:
                    await self._relist()
                await self._follow()
                delay = _FIRST_DELAY
            except _ExpiredWatchError:
                self._revision = ""
                continue
            except (APIError, http1.HTTPClientError, OSError, ValueError) as error:
                log.warning("list or watch failed", resource=self.ref.plural, group=self.ref.group, error=str(error))
                self._revision = ""
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)

    async def _relist(self) -> None:
        document = await self._client.list(self.ref)
        found = {_key(item): item for item in document["items"]}
        for key in [key for key in self._objects if key not in found]:
            self._set(key, None)
        for key, item in found.items():
            self._set(key, item)
        self._revision = document["metadata"]["resourceVersion"]
        self.synced.set()

    async def _follow(self) -> None:
        async with self._client.watch(self.ref, resource_version=self._revision) as events:
            async for event in events:
                if event.type == "ERROR":
                    raise _ExpiredWatchError
                self._revision = event.object["metadata"]["resourceVersion"]
                if event.type != "BOOKMARK":
                    self._set(_key(event.object), None if event.type == "DELETED" else event.object)

    def _set(self, key: tuple[str, str], new: Object | None) -> None:
        old = self._objects.get(key)
        if _version(old) == _version(new):
            return
        if new is None:
            del self._objects[key]
        else:
            self._objects[key] = new
        for handler in self._handlers:
            try:
                handler(old, new)
            except Exception as error:
                # One broken handler must not stop the cache that all the others stand on.
                log.error("handler failed", resource=self.ref.plural, object="/".join(key), error=repr(error))


def _key(obj: Object) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(obj: Object | None) -> tuple[str, str] | None:
    if obj is None:
        return None
    return obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]
