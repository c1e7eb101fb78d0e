"""The kind `v1 Namespace`, read-only: a mirror of where this server keeps objects.

Clients ask for namespaces to tell a wrong name from a missing object (kubectl), wait for them before they do anything
(operators), or look one up before they let an object be created in it (API servers written in Go). They restrict
nothing here: an object can be created in any namespace. So every name that could be one is confirmed to whoever asks
for it, also because other servers may hold objects in it that are unknown here. Lists and watches show those in which
this server holds an object; they are stored objects, so that lists and watches are those of every resource.
"""

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from aggregator.api.first_pass import FirstPass
from apimachinery.gvk import GroupResource
from apimachinery.names import validate_dns1123_label
from apimachinery.table import AGE_COLUMN, NAME_COLUMN, Column
from apimachinery.types import Object
from apiserver.client import ResourceRef
from apiserver.controller import Controller
from apiserver.registry import Registry
from apiserver.resource import Resource
from apiserver.rest.objects import timestamp
from apiserver.storage.base import ExistsError, ExpiredError, Key, NotFoundError, Store
from apiserver.strategy import Strategy

NAMESPACES: Final = ResourceRef("", "v1", "namespaces")
ALWAYS: Final = frozenset({"default", "kube-system"})
"""Those that are there whatever they hold: where clients look first, and where the trust of servers is published."""
_KIND: Final = "Namespace"
_NAME_LABEL: Final = "kubernetes.io/metadata.name"
_UIDS: Final = uuid.UUID("7a1c9f4e-4f0e-4c35-9d0c-5d5b1f3c8e26")
"""What the uids of namespaces are derived in."""
_AGAIN_SECONDS: Final = 1.0
_STEPS: Final = {"ADDED": 1, "MODIFIED": 0, "DELETED": -1}


class NamespaceStrategy(Strategy):
    tracks_generation = False

    def validate_name(self, name: str) -> Sequence[str]:
        return validate_dns1123_label(name)


def _phase(obj: Object, _now: float) -> str:
    phase: str = (obj.get("status") or {}).get("phase") or ""
    return phase


def namespace(name: str) -> Object | None:
    """A namespace that nobody has seen come to be; None when it cannot have this name.

    Its uid follows from the name, as it is the same namespace however often it empties and fills.
    """
    if validate_dns1123_label(name):
        return None
    return {
        "apiVersion": NAMESPACES.version,
        "kind": _KIND,
        "metadata": {
            "name": name,
            "uid": str(uuid.uuid5(_UIDS, name)),
            "creationTimestamp": None,
            "labels": {_NAME_LABEL: name},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


RESOURCE: Final = Resource(
    group=NAMESPACES.group,
    version=NAMESPACES.version,
    kind=_KIND,
    plural=NAMESPACES.plural,
    singular="namespace",
    short_names=("ns",),
    namespaced=False,
    schema={
        "type": "object",
        "description": "Namespace is a scope for names. Any can be used; those with objects in them are listed.",
        "properties": {
            "spec": {
                "type": "object",
                "description": "Without meaning here; there for clients that expect it.",
                "properties": {
                    "finalizers": {
                        "type": "array",
                        "description": "Always `kubernetes`.",
                        "items": {"type": "string"},
                        "x-kubernetes-list-type": "atomic",
                    }
                },
            },
            "status": {
                "type": "object",
                "description": "The state of the namespace.",
                "properties": {"phase": {"type": "string", "description": "Always `Active`."}},
            },
        },
    },
    strategy=NamespaceStrategy(),
    columns=(NAME_COLUMN, Column("Status", "string", _phase, description="The phase of the namespace."), AGE_COLUMN),
    verbs=("get", "list", "watch"),
    selectable_fields=("status.phase",),
    unstored=namespace,
    description="Namespace is a scope for names.",
)


def stored_kinds(registry: Registry) -> list[GroupResource]:
    """The kinds whose objects make namespaces appear: namespaced ones that are kept here."""
    kept = (item for item in registry.resources if item.namespaced and not (item.virtual_list or item.virtual_create))
    return sorted({item.group_resource for item in kept})


class Occupancy:
    """How many objects of each kind are in each namespace. The methods give the namespaces that came or went."""

    def __init__(self) -> None:
        self._kinds: dict[GroupResource, Counter[str]] = {}

    def __contains__(self, name: str) -> bool:
        return any(counts[name] > 0 for counts in self._kinds.values())

    def names(self) -> set[str]:
        return {name for counts in self._kinds.values() for name, count in counts.items() if count > 0}

    def replace(self, kind: GroupResource, namespaces: Iterable[str]) -> set[str]:
        """Count a kind anew: one item of `namespaces` per object."""
        before = self.names()
        self._kinds[kind] = Counter(namespaces)
        return before ^ self.names()

    def change(self, kind: GroupResource, name: str, step: int) -> set[str]:
        """One object more (1) or less (-1)."""
        counts = self._kinds.setdefault(kind, Counter())
        before = counts[name]
        counts[name] += step
        if counts[name] <= 0:
            del counts[name]
        return {name} if (before > 0) != (before + step > 0) else set()


class NamespaceMirror:
    """Keeps the namespaces in line with the objects of a store. `synced` is set when each was looked at once."""

    def __init__(self, store: Store, kinds: Sequence[GroupResource], *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._kinds = kinds
        self._now = now
        self._occupied = Occupancy()
        self._first_pass = FirstPass()
        self._controller = Controller("namespaces", self.reconcile)

    @property
    def synced(self) -> asyncio.Event:
        return self._first_pass.done

    async def run(self) -> None:
        """Follow the store until cancelled."""
        since = {kind: await self._count(kind) for kind in self._kinds}
        known = await self._store.list(RESOURCE.group_resource)
        names = ALWAYS | self._occupied.names() | {stored.key.name for stored in known.items}
        self._first_pass.begin(names)
        self._enqueue(names)
        async with asyncio.TaskGroup() as group:
            for kind, revision in since.items():
                group.create_task(self._follow(kind, revision), name=f"namespaces of {kind}")
            group.create_task(self._controller.run(), name="namespaces controller")

    async def reconcile(self, name: str) -> float | None:
        """Create or remove one namespace, as there are objects in it or not. StorageError."""
        key = Key(RESOURCE.group_resource, "", name)
        try:
            if name in ALWAYS or name in self._occupied:
                await self._create(key)
            else:
                await self._remove(key)
        finally:
            self._first_pass.seen(name)
        return None

    async def _create(self, key: Key) -> None:
        obj = namespace(key.name)
        if obj is not None:
            obj["metadata"]["creationTimestamp"] = timestamp(self._now())
            with contextlib.suppress(ExistsError):
                await self._store.create(key, obj)

    async def _remove(self, key: Key) -> None:
        with contextlib.suppress(NotFoundError):
            await self._store.delete(key)

    async def _count(self, kind: GroupResource) -> int:
        """Count all objects of a kind; the revision to follow it from."""
        snapshot = await self._store.list(kind)
        self._enqueue(self._occupied.replace(kind, (stored.key.namespace for stored in snapshot.items)))
        return snapshot.revision

    async def _follow(self, kind: GroupResource, revision: int) -> None:
        while True:
            with contextlib.suppress(ExpiredError):
                async with self._store.watch(kind, since=revision) as watch:
                    async for event in watch:
                        if step := _STEPS[event.type]:
                            self._enqueue(self._occupied.change(kind, event.current.key.namespace, step))
            # Too far behind, or the store has closed.
            await asyncio.sleep(_AGAIN_SECONDS)
            revision = await self._count(kind)

    def _enqueue(self, names: Iterable[str]) -> None:
        for name in names:
            self._controller.enqueue(name)
