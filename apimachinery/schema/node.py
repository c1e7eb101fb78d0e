"""How a schema node describes the members of a value."""

from collections.abc import Iterator
from typing import Any

from apimachinery.schema.object_meta import Schema, with_root_fields

_EMBEDDED = "x-kubernetes-embedded-resource"


def child(schema: Schema, name: str) -> Schema | None:
    """The schema of member `name`, an empty one if anything is allowed there, or None if the member is unknown."""
    properties = schema.get("properties") or {}
    if name in properties:
        found: Schema = properties[name]
        return found
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        return additional
    free = additional is True or schema.get("x-kubernetes-preserve-unknown-fields") is True
    return {} if free or not (properties or "type" in schema) else None


def expand(schema: Schema) -> Schema:
    """The schema with what it implies: an embedded resource has the root fields of an object."""
    return with_root_fields(schema) if schema.get(_EMBEDDED) is True else schema


def children(value: Any, schema: Schema) -> Iterator[tuple[str | int, Any, Schema]]:
    """Each known member or item of a container in document order: name or index, value, schema."""
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        for name, item in value.items():
            found = properties.get(name)
            if found is None:
                found = child(schema, name)
            if found is not None:
                yield name, item, expand(found) if _EMBEDDED in found else found
    elif isinstance(value, list):
        items = expand(schema.get("items") or {})
        for index, item in enumerate(value):
            yield index, item, items
