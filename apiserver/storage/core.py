"""What all stores of one process share: objects in memory, reads, watches. How a write is kept is for subclasses."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from apimachinery.gvk import GroupResource
from apimachinery.types import Object
from apiserver.storage.base import FROM_NOW, Event, Key, NotFoundError, Snapshot, Stored, Watch
from apiserver.storage.fanout import Fanout, HistoryLimits
from apiserver.storage.operation import Create, Delete, Operation, Update
from apiserver.storage.table import Table


class CoreStore:
    """Reads never wait. Subclasses implement `_write` and change memory only through `_publish`."""

    def __init__(self, *, revision: int, limits: HistoryLimits) -> None:
        self._tables: dict[GroupResource, Table] = {}
        self._fanout = Fanout(revision, limits)

    @property
    def revision(self) -> int:
        return self._fanout.revision

    async def get(self, key: Key) -> Stored:
        stored = self._current(key)
        if stored is None:
            raise NotFoundError(f"{key} does not exist")
        return stored

    async def list(self, resource: GroupResource, namespace: str = "") -> Snapshot:
        table = self._tables.get(resource)
        return Snapshot(self.revision, table.list(namespace) if table is not None else ())

    async def list_at(self, resource: GroupResource, namespace: str = "", *, revision: int) -> Snapshot:
        if revision > self.revision:
            raise ValueError(f"revision {revision} is in the future, the newest is {self.revision}")
        channel = self._fanout.channel(resource)
        number = channel.seek(revision)
        table = self._tables.get(resource) or Table()
        if number < channel.end:
            table = table.copy()
            for event in channel.newest_first(number):
                table.undo(event)
        return Snapshot(revision, table.list(namespace))

    async def create(self, key: Key, obj: Object) -> Stored:
        return await self._write(Create(key=key, obj=obj))

    async def update(self, key: Key, obj: Object, *, expected: int) -> Stored:
        return await self._write(Update(key=key, obj=obj, expected=expected))

    async def delete(self, key: Key, *, expected: int | None = None) -> Stored:
        return await self._write(Delete(key=key, expected=expected))

    def watch(
        self, resource: GroupResource, namespace: str = "", *, since: int | None = FROM_NOW
    ) -> AbstractAsyncContextManager[Watch]:
        return self._fanout.subscribe(resource, namespace, since)

    async def _write(self, operation: Operation) -> Stored:
        raise NotImplementedError

    def _current(self, key: Key) -> Stored | None:
        table = self._tables.get(key.resource)
        return table.get(key) if table is not None else None

    def _publish(self, events: Iterable[Event]) -> None:
        """Make changes visible, in revision order: to readers and watchers in the same step."""
        events = tuple(events)
        for event in events:
            resource = event.current.key.resource
            table = self._tables.get(resource)
            if table is None:
                table = self._tables[resource] = Table()
            table.apply(event)
        self._fanout.publish(events)
