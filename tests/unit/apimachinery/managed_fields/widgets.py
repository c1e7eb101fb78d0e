"""An object with an owner for each field, and what the tests of Update and Apply do with it."""

from typing import Any

from apimachinery.managed_fields import paths, typed, update
from apimachinery.managed_fields.ownership import Rules
from apimachinery.managed_fields.paths import PathSet
from apimachinery.managed_fields.update import Writer
from apimachinery.schema import Schema
from apimachinery.types import Object

V1 = "test.example.com/v1"
SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer"},
                "color": {"type": "string"},
                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            },
        },
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    },
}
TYPE = typed.object_type(SCHEMA)


def rules(*reset: str, version: str = V1) -> Rules:
    return Rules(
        type=TYPE,
        api_version=version,
        serves=lambda known: known.startswith("test.example.com/"),
        reset=PathSet.of((paths.name(field),) for field in reset),
    )


MAIN, STATUS = rules("status"), rules("metadata", "spec")


def writer(manager: str, day: int = 1, subresource: str = "") -> Writer:
    return Writer(manager=manager, now=time(day), subresource=subresource)


def time(day: int) -> str:
    return f"2026-01-{day:02}T00:00:00Z"


def widget(metadata: Object | None = None, **spec: Any) -> Object:
    return {"apiVersion": V1, "kind": "Widget", "metadata": {"name": "w", **(metadata or {})}, "spec": spec}


def stored(obj: Object, entries: list[Object]) -> Object:
    """As a server keeps it."""
    metadata = {**obj["metadata"], "uid": "u", "creationTimestamp": time(1), "resourceVersion": "7", "generation": 1}
    metadata.pop("managedFields", None)
    return {**obj, "metadata": {**metadata, "managedFields": entries} if entries else metadata}


def created(obj: Object, manager: str = "creator", day: int = 1) -> Object:
    return stored(obj, update.update(None, obj, MAIN, writer(manager, day)))


def applied(
    live: Object | None, config: Object, manager: str = "one", day: int = 2, *, force: bool = False, by: Rules = MAIN
) -> Object:
    result = update.apply(live, config, by, writer(manager, day), force=force)
    return stored(result.object, result.managed_fields)


def owners(obj: Object) -> dict[str, tuple[str, Any]]:
    """`manager/operation[/subresource]` -> (day of its time, its fields)."""
    found = {}
    for entry in obj["metadata"].get("managedFields", []):
        parts = [entry["manager"], entry["operation"], entry.get("subresource")]
        found["/".join(part for part in parts if part)] = (entry.get("time", "")[8:10], entry["fieldsV1"])
    return found


def spec(*names: str) -> Object:
    return {"f:spec": {f"f:{name}": {} for name in names}}
