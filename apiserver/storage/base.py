"""The storage contract: compare-and-swap on objects, one revision counter, watches from a revision."""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import orjson

from apimachinery.gvk import GroupResource
from apimachinery.types import Object

EventType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Where an object lives. `namespace` is empty for cluster-scoped resources. Sorts in list order."""

    resource: GroupResource
    namespace: str
    name: str

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.resource} {name}"


DECODED_BYTES: Final = 2 * 1024 * 1024
"""How much JSON is kept decoded as well, in a process. Decoded objects take four to five times their JSON."""


class Stored:
    """One revision of an object; shared by everybody who reads it, so `object` must never be mutated.

    `object` holds `metadata.resourceVersion` equal to `revision`. What is kept is the JSON: an object that comes from
    a store is decoded when it is asked for, and only those that were asked for lately stay decoded. Decoding 1 kB takes
    about 5 µs; keeping every object decoded would take several times the memory of the JSON, and the garbage
    collector's time with it.
    """

    __slots__ = ("_json", "_object", "key", "revision")

    def __init__(self, key: Key, obj: Object, revision: int) -> None:
        """For an object at hand, which is encoded at most once, at first use."""
        self.key = key
        self.revision = revision
        self._object: Object | None = obj
        self._json: bytes | None = None

    @classmethod
    def of_json(cls, key: Key, json: bytes, revision: int) -> "Stored":
        """For an encoded object; `json` must hold the names in `key`, and `revision`."""
        stored = cls.__new__(cls)
        stored.key = key
        stored.revision = revision
        stored._object = None
        # An encoder's result keeps the buffer that it grew in, several times its length; a copy has its own size.
        stored._json = bytes(memoryview(json))
        return stored

    @property
    def json(self) -> bytes:
        if self._json is None:
            self._json = orjson.dumps(self._object)
        return self._json

    @property
    def object(self) -> Object:
        """The object. To be read on the thread of the event loop only; `decoded` works on any."""
        obj = self._object
        if obj is None:
            obj = self._object = orjson.loads(self.json)
            _decoded.keep(self)
        return obj

    def decoded(self) -> Object:
        """The object, without keeping it decoded: for passes over many objects. Shared all the same, perhaps."""
        obj = self._object
        return orjson.loads(self.json) if obj is None else obj

    def forget_decoded(self) -> None:
        """Keep the JSON alone."""
        if self._json is not None:
            self._object = None


class _Decoded:
    """The objects that were decoded last. First in, first out: counting uses would cost more than decoding again."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._kept: deque[Stored] = deque()

    def keep(self, stored: Stored) -> None:
        self._kept.append(stored)
        self._size += len(stored.json)
        while self._size > self._limit and len(self._kept) > 1:
            oldest = self._kept.popleft()
            self._size -= len(oldest.json)
            oldest.forget_decoded()


_decoded: Final = _Decoded(DECODED_BYTES)


@dataclass(frozen=True, slots=True)
class Event:
    """A change. `current` is the object after it (for DELETED: its last state, carrying the deletion's revision);
    `previous` the object before it (None for ADDED)."""

    type: EventType
    current: Stored
    previous: Stored | None
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All objects of a resource (optionally of one namespace) at one revision, in key order."""

    revision: int
    items: tuple[Stored, ...]


class NotFoundError(Exception):
    """No object has this key."""


class ExistsError(Exception):
    """An object has this key already."""

    def __init__(self, current: Stored) -> None:
        super().__init__(f"{current.key} exists")
        self.current = current


class RevisionMismatchError(Exception):
    """The object is not at the expected revision any more; `current` is what it is now."""

    def __init__(self, current: Stored) -> None:
        super().__init__(f"{current.key} is at revision {current.revision}")
        self.current = current


class ExpiredError(Exception):
    """The asked revision is older than the retained history; `oldest` is the smallest one that can be watched from."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"revision {asked} is older than {oldest}")
        self.asked = asked
        self.oldest = oldest


class StorageError(Exception):
    """The medium failed (disk full, permission, ...), or the store is closed. What readers see is unchanged."""


class InvalidObjectError(ValueError):
    """The object cannot be stored: JSON cannot express it (too deep, say), or its metadata do not name its key."""


FROM_NOW: Final = None


class Watch(Protocol):
    """A subscription. Iterate it for events in revision order.

    Iteration ends (StopAsyncIteration) when the store closes or when the subscriber fell too far behind: it then
    lists again.
    """

    @property
    def revision(self) -> int:
        """Every event with a greater revision is still to come, none at or below it.

        It moves: past each delivered event, and to the store's newest revision while none is waiting to be read. So
        it is the revision of a bookmark.
        """
        ...

    def __aiter__(self) -> AsyncIterator[Event]: ...

    async def __anext__(self) -> Event: ...

    def drain(self, limit: int = 256) -> Sequence[Event]:
        """The events that can be had without waiting, at most `limit` and about 1 MiB; to be sent in one piece.

        Watches that are equally far get the same sequence, so that what is made of it can be shared.
        """
        ...

    async def wait(self, until: float) -> bool:
        """Return when there is an event to drain, or when the event loop's clock reaches `until`.

        False as soon as iteration would end. Cheap for thousands of watches: one future each, and a timer that is
        kept as long as `until` stays the same.
        """
        ...

    def end(self) -> None:
        """End the watch from outside, as if the store had closed; what was not read yet is dropped."""
        ...


class Store(Protocol):
    """Every write takes a new revision, strictly increasing over all resources, also across restarts and crashes.

    A write that returned is durable. One that raised StorageError did not happen; only when the medium then stops
    working altogether, or the process ends at that moment, a restart may find it. One that was cancelled may happen.
    Objects given to a store are copied: what is stored is their JSON, with sorted keys.
    """

    @property
    def revision(self) -> int:
        """The newest revision."""
        ...

    async def get(self, key: Key) -> Stored:
        """NotFoundError if there is none."""
        ...

    async def list(self, resource: GroupResource, namespace: str = "") -> Snapshot:
        """All objects of a resource; of all namespaces when `namespace` is empty."""
        ...

    async def list_at(self, resource: GroupResource, namespace: str = "", *, revision: int) -> Snapshot:
        """The list as it was at `revision`. ExpiredError when that is too long ago, ValueError when it is to come."""
        ...

    async def create(self, key: Key, obj: Object) -> Stored:
        """Store a new object; sets its `metadata.resourceVersion`. ExistsError, InvalidObjectError, StorageError."""
        ...

    async def update(self, key: Key, obj: Object, *, expected: int) -> Stored:
        """Replace the object that is at revision `expected`.

        NotFoundError, RevisionMismatchError, InvalidObjectError, StorageError.
        """
        ...

    async def delete(self, key: Key, *, expected: int | None = None) -> Stored:
        """Remove an object; returns its last state carrying the deletion's revision.

        NotFoundError, RevisionMismatchError (when `expected` is given and differs), StorageError.
        """
        ...

    def watch(
        self,
        resource: GroupResource,
        namespace: str = "",
        *,
        since: int | None = FROM_NOW,
    ) -> AbstractAsyncContextManager[Watch]:
        """Subscribe to changes with a revision greater than `since` (None: from now). ExpiredError when entered.

        A `since` in the future is accepted: it waits for later events.
        """
        ...
