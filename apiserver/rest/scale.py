"""The scale subresource: reads and writes of an `autoscaling/v1 Scale` that become ones of the object itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from apimachinery import scale as scales
from apimachinery.json_values import copy_json
from apimachinery.options import WriteOptions
from apimachinery.patch import apply_patch
from apimachinery.scale import ScalePaths
from apimachinery.table import AGE_COLUMN, NAME_COLUMN, Column
from apimachinery.types import Object
from apiserver.resource import Resource
from apiserver.rest import objects
from apiserver.rest.read import Reader
from apiserver.rest.shape import Checked, check_patched_shape, check_shape
from apiserver.rest.tracking import Configuration
from apiserver.rest.write import Result, Wish, Writer
from apiserver.storage.base import Key, Stored


def _replicas(part: str) -> Callable[[Object, float], Any]:
    return lambda scale, _now: scale[part]["replicas"]


def kind(namespaced: bool) -> Resource:
    """Scale as a resource, for the rules that every object goes through; nothing of it is stored."""
    return Resource(
        group=scales.GROUP,
        version=scales.VERSION,
        kind=scales.KIND,
        plural="scales",
        singular="scale",
        namespaced=namespaced,
        schema=scales.SCHEMA,
        columns=(
            NAME_COLUMN,
            Column("Desired", "integer", _replicas("spec"), description="Number of replicas that are wanted."),
            Column("Available", "integer", _replicas("status"), description="Number of replicas that there are."),
            AGE_COLUMN,
        ),
    )


NAMESPACED, CLUSTER_SCOPED = kind(True), kind(False)


@dataclass(frozen=True, slots=True)
class Target:
    """The object whose scale is asked for. `declared` is of its resource."""

    resource: Resource
    declared: ScalePaths
    namespace: str
    name: str

    @property
    def kind(self) -> Resource:
        return NAMESPACED if self.resource.namespaced else CLUSTER_SCOPED

    @property
    def key(self) -> Key:
        return Key(self.resource.group_resource, self.namespace, self.name)

    def scale(self, obj: Object) -> Object:
        return scales.of(obj, self.declared, self.resource.api_version)


class Scaler:
    """The verbs of the scale subresource. Errors are those of the same verbs of the object, and of `scales`."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, target: Target, resource_version: str = "") -> Stored:
        stored = await self._reader.get(target.resource, target.namespace, target.name, resource_version)
        return _shown(target, stored)

    async def update(
        self, target: Target, document: Any, options: WriteOptions, duplicates: Sequence[str] = ()
    ) -> Result:
        """Set the number of replicas to that of a complete Scale."""
        checked = check_shape(target.kind, document, options.field_validation, duplicates)
        objects.check_namespace(target.kind, checked.object, target.namespace)
        objects.check_name(checked.object, target.name)
        return await self._write(target, options, lambda _scale: checked)

    async def patch(self, target: Target, media_type: str, body: bytes, options: WriteOptions) -> Result:
        """Set the number of replicas to what a patch makes of the Scale."""

        def patched(live: Object) -> Checked:
            scale = apply_patch(media_type, live, body, scales.SCHEMA)
            checked = check_patched_shape(target.kind, media_type, body, scale, options.field_validation)
            objects.check_patched(target.kind, checked, live, target.namespace, target.name)
            return checked

        return await self._write(target, options, patched)

    async def apply(self, target: Target, config: Configuration, options: WriteOptions) -> Result:
        """Set the number of replicas to what an applied Scale says, and own it."""

        def change(live: Object) -> Wish:
            scale = target.scale(live)
            applied = self._writer.tracker.applied(
                target.kind, scale, config.object, options, subresource=scales.SUBRESOURCE
            )
            warnings = config.check_duplicates(options.field_validation)
            checked = check_shape(target.kind, applied.object, options.field_validation)
            objects.check_patched(target.kind, checked, scale, target.namespace, target.name)
            return self._wish(target, live, checked, applied.managed_fields, warnings)

        return _result(target, await self._writer.change(target.resource, target.key, change, options))

    async def _write(self, target: Target, options: WriteOptions, wanted: Callable[[Object], Checked]) -> Result:
        def change(live: Object) -> Wish:
            scale = target.scale(live)
            checked = wanted(scale)
            managed = self._writer.tracker.updated(
                target.kind, scale, checked.object, options, subresource=scales.SUBRESOURCE
            )
            return self._wish(target, live, checked, managed, [])

        return _result(target, await self._writer.change(target.resource, target.key, change, options))

    @staticmethod
    def _wish(target: Target, live: Object, checked: Checked, managed: list[Object], warnings: list[str]) -> Wish:
        """The object with the replicas of the Scale, which is as new as the Scale claims to be."""
        obj: Object = copy_json(live)
        metadata, given = obj["metadata"], checked.object["metadata"]
        scales.set_replicas(obj, target.declared, scales.wanted(checked.object, target.declared))
        for name in ("resourceVersion", "uid"):
            metadata.pop(name, None)
            if given.get(name):
                metadata[name] = given[name]
        entries = scales.owners(live["metadata"].get("managedFields"), managed, target.declared, obj["apiVersion"])
        return Wish(obj, entries, [*warnings, *checked.warnings])


def _result(target: Target, result: Result) -> Result:
    return Result(_shown(target, result.stored), warnings=result.warnings)


def _shown(target: Target, stored: Stored) -> Stored:
    return Stored(stored.key, target.scale(stored.object), stored.revision)
