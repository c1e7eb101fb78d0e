"""The first value of a document that does not have the declared JSON type, in the words of a decoder (rest.md A3.3)."""

import base64
import binascii
import re
from typing import Any, Final

from apimachinery.field_errors import quote
from apimachinery.json_values import is_integer, json_fault
from apimachinery.schema import formats
from apimachinery.schema.node import children
from apimachinery.schema.object_meta import Schema, with_root_fields

_NAMES: Final = {bool: "bool", str: "string", int: "number", float: "number", list: "array", type(None): "null"}
_NOT_BASE64: Final = re.compile(r"[^A-Za-z0-9+/]")


def type_error(obj: Any, schema: Schema, kind: str) -> str | None:
    """Why the document cannot be decoded as an object of the schema, or None if it can.

    Only types count (and the text of times and binary data), not whether fields are known or values are valid. A null
    fits everywhere. The path in the text leaves out list indexes and map keys:
    `json: cannot unmarshal string into Go struct field Widget.spec.parts.size of type int32`.
    """
    fault = json_fault(obj)
    if fault:
        return f"json: {fault}"
    if not isinstance(obj, dict):
        return f"json: cannot unmarshal {_value_name(obj)} into Go value of type {kind}"
    return _mismatch(obj, with_root_fields(schema), kind)


def _mismatch(value: Any, schema: Schema, path: str) -> str | None:
    if value is None:
        return None
    unfit = _unfit(value, schema)
    if unfit:
        return f"json: cannot unmarshal {unfit} into Go struct field {path} of type {_type_name(schema)}"
    if isinstance(value, str):
        return _text_error(value, schema)
    properties = schema.get("properties") or {}
    for name, item, found in children(value, schema):
        if found:
            error = _mismatch(item, found, f"{path}.{name}" if name in properties else path)
            if error:
                return error
    return None


def _unfit(value: Any, schema: Schema) -> str:
    """How the decoder names a value that has the wrong type; empty if the type is right."""
    name = _value_name(value)
    if schema.get("x-kubernetes-int-or-string") is True:
        return "" if isinstance(value, str) or is_integer(value) else name
    wanted = schema.get("type")
    if wanted is None:
        return ""
    if wanted == "integer" and name == "number":
        bits = 31 if schema.get("format") == "int32" else 63
        fits = is_integer(value) and -(2**bits) <= value < 2**bits
        return "" if fits else f"number {value}"
    expected = {"number": "number", "integer": "number", "boolean": "bool"}.get(wanted, wanted)
    return "" if name == expected else name


def _text_error(value: str, schema: Schema) -> str | None:
    match schema.get("format"):
        case "date-time" if not formats.is_date_time(value):
            layout = quote("2006-01-02T15:04:05Z07:00")
            return f"parsing time {quote(value)} as {layout}: cannot parse {quote(value)} as {quote('2006')}"
        case "byte":
            position = _base64_fault(value)
            return None if position is None else f"illegal base64 data at input byte {position}"
    return None


def _base64_fault(value: str) -> int | None:
    """Where base64 text goes wrong. Line breaks are skipped, as in PEM bodies."""
    text = value.replace("\r", "").replace("\n", "")
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        bad = _NOT_BASE64.search(text)
        return bad.start() if bad else len(text)
    return None


def _value_name(value: Any) -> str:
    return _NAMES.get(type(value), "object")


def _type_name(schema: Schema) -> str:
    """The Go type a schema stands for in messages."""
    if schema.get("x-kubernetes-int-or-string") is True:
        return "intstr.IntOrString"
    wanted, fmt = schema.get("type"), schema.get("format")
    match wanted:
        case "string":
            return "[]uint8" if fmt == "byte" else "string"
        case "boolean":
            return "bool"
        case "integer":
            return "int32" if fmt == "int32" else "int64"
        case "number":
            return "float32" if fmt == "float" else "float64"
        case "array":
            return f"[]{_type_name(schema.get('items') or {})}"
    additional = schema.get("additionalProperties")
    return f"map[string]{_type_name(additional)}" if isinstance(additional, dict) else "map[string]interface {}"
