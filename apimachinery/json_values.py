"""Decoded JSON as plain values: copies, depth, names of types."""

import math
from typing import Any, Final

MAX_DEPTH: Final = 200
"""Deepest nesting of objects and arrays that is accepted.

Encoders stop at 254 levels and recursive walks must fit in the interpreter's stack, so an object that is stored or
patched stays well below both.
"""


def copy_json(value: Any) -> Any:
    """A copy that shares no object or array with `value`. The value must not be nested deeper than `MAX_DEPTH`."""
    if isinstance(value, dict):
        result = {}
        for key, item in value.items():
            result[key] = copy_json(item) if isinstance(item, dict | list) else item
        return result
    if isinstance(value, list):
        items = []
        for item in value:
            items.append(copy_json(item) if isinstance(item, dict | list) else item)
        return items
    return value


def too_deep(value: Any, limit: int = MAX_DEPTH) -> bool:
    """Whether objects and arrays are nested deeper than `limit` levels. Safe for any depth."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        if not level:
            return False
        inner: list[Any] = []
        for container in level:
            items = container.values() if isinstance(container, dict) else container
            inner.extend(item for item in items if isinstance(item, dict | list))
        level = inner
    return bool(level)


def json_fault(value: Any) -> str | None:
    """Why a decoded document (YAML can say more than JSON) cannot be kept as JSON, or None. Safe for any depth."""
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            for key in item:
                if not isinstance(key, str):
                    return f"object key {key!r:.64} is not a string"
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif fault := _scalar_fault(item):
            return fault
    return "exceeded max depth" if too_deep(value) else None


def _scalar_fault(value: Any) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        surrogate = not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)
        return "string is not valid UTF-8" if surrogate else None
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**64 else "integer does not fit in 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"unsupported number {value}"
    return f"unsupported value of type {type(value).__name__}"


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether the value is a JSON number; infinities and NaN, which YAML can express, are not."""
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def type_name(value: Any) -> str:
    """The JSON type of a value: null, boolean, integer, number, string, array or object.

    A value that JSON cannot express gets the name of its Python type.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for python_type, name in ((int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, python_type):
            return name
    return type(value).__name__
