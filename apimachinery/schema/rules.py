"""Validation of an object against its schema; the texts of rest.md B4.1."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import orjson

from apimachinery.field_errors import (
    ErrorType,
    FieldError,
    Path,
    duplicate,
    invalid,
    not_supported,
    quote,
    required,
    too_long,
    too_many,
    type_invalid,
)
from apimachinery.json_values import is_integer, is_number, type_name
from apimachinery.schema import formats
from apimachinery.schema.node import children
from apimachinery.schema.object_meta import Schema, with_root_fields
from apimachinery.types import Object

_INTEGER_RANGES: Final = {"int32": 2**31, "int64": 2**63}


def validate(obj: Object, schema: Schema) -> list[FieldError]:
    """Every fault of the object, metadata excepted. The object must be JSON (`type_error` finds what is not)."""
    root = with_root_fields(schema)
    errors = list(_object(obj, root, Path()))
    for name, value, found in children(obj, root):
        if name != "metadata":
            errors.extend(_value(value, found, Path().child(str(name))))
    return errors


def _value(value: Any, schema: Schema, path: Path) -> Iterator[FieldError]:
    if value is None and schema.get("nullable") is True:
        return
    wanted = _missed_type(value, schema)
    if wanted:
        found_type = type_name(value)
        yield type_invalid(path, found_type, f"{path} in body must be of type {wanted}: {quote(found_type)}")
        return
    if "enum" in schema and not any(_same(value, option) for option in schema["enum"]):
        yield not_supported(path, value, [str(option) for option in schema["enum"]])
    if isinstance(value, dict):
        yield from _object(value, schema, path)
    elif isinstance(value, list):
        yield from _list(value, schema, path)
    elif isinstance(value, str):
        yield from _string(value, schema, path)
    elif is_number(value):
        yield from _number(value, schema, path)
    for name, item, found in children(value, schema):
        if found:
            yield from _value(item, found, path.index(name) if isinstance(name, int) else path.child(name))
    yield from _junctors(value, schema, path)


def _missed_type(value: Any, schema: Schema) -> str:
    """The declared type when the value has another one, else empty."""
    if schema.get("x-kubernetes-int-or-string") is True:
        return "" if isinstance(value, str) or is_integer(value) else "integer,string"
    wanted = str(schema.get("type", ""))
    name = type_name(value)
    if not wanted or name == wanted or (wanted == "number" and name == "integer"):
        return ""
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        return ""
    return wanted


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) and type_name(left) == type_name(right)


def _object(value: Object, schema: Schema, path: Path) -> Iterator[FieldError]:
    for name in schema.get("required") or ():
        if name not in value:
            yield required(path.child(name))
    yield from _count(len(value), schema, path, "Properties")


def _count(count: int, schema: Schema, path: Path, what: str) -> Iterator[FieldError]:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if least is not None and count < least:
        yield invalid(path, count, f"{path} in body should have at least {least} {what.lower()}")
    if most is not None and count > most:
        yield too_many(path, count, most)


def _list(value: list[Any], schema: Schema, path: Path) -> Iterator[FieldError]:
    yield from _count(len(value), schema, path, "Items")
    list_type = schema.get("x-kubernetes-list-type")
    if list_type not in ("set", "map"):
        return
    keys = schema.get("x-kubernetes-list-map-keys") or []
    properties = (schema.get("items") or {}).get("properties") or {}
    seen: set[bytes] = set()
    for index, item in enumerate(value):
        shown = item
        if list_type == "map":
            if not isinstance(item, dict):
                continue
            shown = {}
            for key in keys:
                found = item.get(key, (properties.get(key) or {}).get("default"))
                if found is not None:
                    shown[key] = found
        identity = orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)
        if identity in seen:
            yield duplicate(path.index(index), shown)
        seen.add(identity)


def _string(value: str, schema: Schema, path: Path) -> Iterator[FieldError]:
    most = schema.get("maxLength")
    if most is not None and len(value) > most:
        yield too_long(path, most)
    least = schema.get("minLength")
    if least is not None and len(value) < least:
        yield invalid(path, value, f"{path} in body should be at least {least} chars long")
    pattern = schema.get("pattern")
    if pattern is not None and not _compiled(pattern).search(value):
        yield invalid(path, value, f"{path} in body should match '{pattern}'")
    name = schema.get("format")
    if name and not formats.fits(value, name):
        yield type_invalid(path, value, f"{path} in body must be of type {name}: {quote(value)}")


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as RE2 reads it: `$` is the very end of the text (not before a final newline), classes are ASCII."""
    out: list[str] = []
    in_class = escaped = False
    for char in pattern:
        if escaped:
            out.append("Z" if char == "z" and not in_class else char)
            escaped = False
            continue
        escaped = char == "\\"
        if char == "[":
            in_class = True
        elif char == "]":
            in_class = False
        out.append(r"\Z" if char == "$" and not in_class else char)
    return re.compile("".join(out), re.ASCII)


def _number(value: float, schema: Schema, path: Path) -> Iterator[FieldError]:
    limit = _INTEGER_RANGES.get(str(schema.get("format", "")))
    if limit is not None and not -limit <= value < limit:
        yield type_invalid(path, value, f"{path} in body must be of type {schema['format']}: {quote(str(value))}")
    least, most, factor = schema.get("minimum"), schema.get("maximum"), schema.get("multipleOf")
    if least is not None:
        exclusive = schema.get("exclusiveMinimum") is True
        if value < least or (exclusive and value == least):
            words = "greater than" if exclusive else "greater than or equal to"
            yield invalid(path, value, f"{path} in body should be {words} {least}")
    if most is not None:
        exclusive = schema.get("exclusiveMaximum") is True
        if value > most or (exclusive and value == most):
            words = "less than" if exclusive else "less than or equal to"
            yield invalid(path, value, f"{path} in body should be {words} {most}")
    if factor and value % factor != 0:
        yield invalid(path, value, f"{path} in body should be a multiple of {factor}")


def _junctors(value: Any, schema: Schema, path: Path) -> Iterator[FieldError]:
    """allOf, anyOf, oneOf and not, which restrict a value beyond the rest of its schema."""

    def faults(option: Schema) -> list[FieldError]:
        return list(_value(value, option, path))

    def unmet(rule: str) -> FieldError:
        return FieldError(ErrorType.INVALID, path, "", f'"{path}" must {rule}')

    if all_of := schema.get("allOf"):
        errors = [error for option in all_of for error in faults(option)]
        if errors:
            yield unmet("validate all the schemas (allOf)")
            yield from errors
    if any_of := schema.get("anyOf"):
        outcomes = [faults(option) for option in any_of]
        if all(outcomes):
            yield unmet("validate at least one schema (anyOf)")
            yield from outcomes[0]
    if one_of := schema.get("oneOf"):
        matching = sum(not faults(option) for option in one_of)
        if matching != 1:
            found = f"Found {matching} valid alternatives" if matching else "Found none valid"
            yield unmet(f"validate one and only one schema (oneOf). {found}")
    if "not" in schema and not faults(schema["not"]):
        yield unmet("not validate the schema (not)")
