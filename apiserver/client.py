"""Reading and writing API objects: one interface, in process or over HTTP."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from apimachinery import status
from apimachinery.options import DeleteOptions, WriteOptions, parse_list_options
from apimachinery.types import Object
from apiserver.registry import Registry
from apiserver.resource import Resource
from apiserver.rest.dispatch import Verbs
from apiserver.rest.tracking import Configuration


@dataclass(frozen=True, slots=True)
class ResourceRef:
    """Names a resource for a client."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, an item or a subresource of it."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts.extend(part for part in (name, subresource) if part)
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`type` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR (then `object` is a Status)."""

    type: str
    object: Object


class ListWatch(Protocol):
    """What an informer needs. Both methods raise APIError; returned objects are never mutated."""

    async def list(self, ref: ResourceRef, namespace: str = "") -> Object:
        """The list document: `metadata.resourceVersion` and `items`."""
        ...

    def watch(
        self, ref: ResourceRef, namespace: str = "", *, resource_version: str
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]: ...


class Client(ListWatch, Protocol):
    """What controllers know of an API server. All methods raise APIError; returned objects are never mutated."""

    async def get(self, ref: ResourceRef, namespace: str, name: str) -> Object: ...

    async def create(self, ref: ResourceRef, namespace: str, obj: Object) -> Object: ...

    async def update(self, ref: ResourceRef, namespace: str, obj: Object) -> Object: ...

    async def update_status(self, ref: ResourceRef, namespace: str, obj: Object) -> Object: ...

    async def delete(
        self,
        ref: ResourceRef,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None: ...

    async def apply(self, ref: ResourceRef, namespace: str, obj: Object, *, field_manager: str) -> Object:
        """Server-side apply: create the object, or make the fields it names what it says.

        What the manager applied earlier and does not name now is removed. Conflicts are overridden.
        """
        ...


class LocalClient:
    """A client of the server in this process, without HTTP. `manager` names the writer."""

    def __init__(self, registry: Registry, verbs: Verbs, *, manager: str) -> None:
        self._registry = registry
        self._verbs = verbs
        self._options = WriteOptions(dry_run=False, field_manager=manager, field_validation="Strict", force=None)

    def _resource(self, ref: ResourceRef) -> Resource:
        resource = self._registry.find(ref.group, ref.version, ref.plural)
        if resource is None:
            raise status.APIError(404, "NotFound", "the server could not find the requested resource")
        return resource

    async def get(self, ref: ResourceRef, namespace: str, name: str) -> Object:
        return (await self._verbs.reader.get(self._resource(ref), namespace, name)).object

    async def list(self, ref: ResourceRef, namespace: str = "") -> Object:
        resource = self._resource(ref)
        page = await self._verbs.reader.list(resource, namespace, parse_list_options({}))
        items = [stored.decoded() for stored in page.items]
        head = {"kind": resource.list_kind, "apiVersion": resource.api_version}
        return {**head, "metadata": page.metadata, "items": items}

    @asynccontextmanager
    async def watch(
        self, ref: ResourceRef, namespace: str = "", *, resource_version: str
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        query = {"watch": ["true"], "resourceVersion": [resource_version], "allowWatchBookmarks": ["true"]}
        batches = await self._verbs.watcher.events(self._resource(ref), namespace, parse_list_options(query))

        async def events() -> AsyncGenerator[WatchEvent, None]:
            async with aclosing(batches):
                async for batch in batches:
                    for output in batch:
                        yield WatchEvent(output.type, output.document)

        async with aclosing(events()) as iterator:
            yield iterator

    async def create(self, ref: ResourceRef, namespace: str, obj: Object) -> Object:
        result = await self._verbs.writer.create(self._resource(ref), namespace, obj, self._options)
        return result.stored.object

    async def update(self, ref: ResourceRef, namespace: str, obj: Object) -> Object:
        name = obj["metadata"]["name"]
        result = await self._verbs.writer.update(self._resource(ref), namespace, name, obj, self._options)
        return result.stored.object

    async def update_status(self, ref: ResourceRef, namespace: str, obj: Object) -> Object:
        name = obj["metadata"]["name"]
        result = await self._verbs.writer.update(
            self._resource(ref), namespace, name, obj, self._options, status_only=True
        )
        return result.stored.object

    async def delete(
        self,
        ref: ResourceRef,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        options = DeleteOptions(
            dry_run=False,
            grace_period_seconds=None,
            propagation_policy=None,
            orphan_dependents=None,
            uid=uid,
            resource_version=resource_version,
        )
        await self._verbs.remover.delete(self._resource(ref), namespace, name, options)

    async def apply(self, ref: ResourceRef, namespace: str, obj: Object, *, field_manager: str) -> Object:
        resource = self._resource(ref)
        config = Configuration({"apiVersion": resource.api_version, "kind": resource.kind, **obj})
        options = replace(self._options, field_manager=field_manager, force=True)
        result = await self._verbs.writer.apply(resource, namespace, obj["metadata"]["name"], config, options)
        return result.stored.object
