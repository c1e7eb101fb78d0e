"""Fields that a schema does not know, and fields that it fills in."""

from collections.abc import Iterator
from typing import Any

from apimachinery.field_errors import Path
from apimachinery.json_values import copy_json
from apimachinery.schema.node import child, children
from apimachinery.schema.object_meta import Schema, with_root_fields
from apimachinery.types import Object


def prune(obj: Object, schema: Schema) -> list[Path]:
    """Drop the fields the schema does not declare, in place.

    Gives their paths; those of one object are in document order and before those further in: `spec.foo`,
    `spec.items[0].bar`.
    """
    dropped = list(_unknown(obj, with_root_fields(schema)))
    for holder, name, _ in dropped:
        del holder[name]
    return [_path(steps) for _, _, steps in dropped]


_Steps = tuple[str | int, ...]


def _unknown(value: Any, schema: Schema) -> Iterator[tuple[Object, str, _Steps]]:
    """The unknown members: what holds each, its name, and the steps that lead there. A clean value costs no paths."""
    if isinstance(value, dict):
        for name in value:
            if child(schema, name) is None:
                yield value, name, (name,)
    for name, item, found in children(value, schema):
        if isinstance(item, dict | list) and found:
            for holder, unknown, steps in _unknown(item, found):
                yield holder, unknown, (name, *steps)


def _path(steps: _Steps) -> Path:
    path = Path()
    for step in steps:
        path = path.index(step) if isinstance(step, int) else path.child(step)
    return path


def apply_defaults(obj: Object, schema: Schema) -> None:
    """Fill in defaults and settle nulls, in place.

    A declared field that is absent, or null without being nullable, gets its default; a null without one counts as
    absent and is dropped. Nothing is filled in below a parent that is absent. Null items of lists stay, for validation
    to refuse.
    """
    _apply_defaults(obj, with_root_fields(schema))


def _apply_defaults(value: Any, schema: Schema) -> None:
    if isinstance(value, dict):
        for name, found in (schema.get("properties") or {}).items():
            if "default" in found and (name not in value or _counts_as_absent(value[name], found)):
                value[name] = copy_json(found["default"])
        nulls = [name for name, item, found in children(value, schema) if found and _counts_as_absent(item, found)]
        for name in nulls:
            del value[name]
    for _, item, found in children(value, schema):
        if isinstance(item, dict | list) and found:
            _apply_defaults(item, found)


def _counts_as_absent(value: Any, schema: Schema) -> bool:
    return value is None and schema.get("nullable") is not True
