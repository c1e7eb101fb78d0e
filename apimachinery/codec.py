"""Bodies to values and back: JSON and YAML (rest.md A1.1, A1.2)."""

import json
from typing import Any, Final

import orjson

from apimachinery import status, yaml_values
from apimachinery.field_errors import quote

JSON: Final = "application/json"
YAML: Final = "application/yaml"
BODY_MEDIA_TYPES: Final = (JSON, YAML)

DEPTH_LIMIT: Final = yaml_values.DEPTH_LIMIT
"""How deep a body may nest, so that recursive walks over API objects are safe."""


def body_media_type(content_type: str) -> str:
    """The media type of a body from its Content-Type: parameters cut, lower case; JSON when absent."""
    return content_type.partition(";")[0].strip().lower() or JSON


def encode_json(doc: Any, pretty: bool = False) -> bytes:
    """JSON with a newline at its end: compact, or indented by two spaces."""
    return orjson.dumps(doc, option=orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if pretty else 0))


def encode_yaml(doc: Any) -> bytes:
    """YAML in block style with sorted keys, without anchors."""
    return yaml_values.dump(doc)


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH_LIMIT + 1):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.values())
            elif isinstance(item, list):
                deeper.extend(item)
        if not deeper:
            return False
        level = deeper
    return True


def _decode_json(data: bytes) -> Any:
    value = orjson.loads(data)
    # Counting brackets is quick, and hardly any body has enough of them to need the walk.
    if data.count(b"{") + data.count(b"[") > DEPTH_LIMIT and _too_deep(value):
        raise ValueError("exceeded max depth")
    return value


def decode_body(data: bytes, media_type: str) -> Any:
    """The value in a body; of a repeated key the last value counts (see `duplicate_fields`).

    APIError 400 when the body does not parse or nests deeper than DEPTH_LIMIT, 415 for a media type that is neither
    JSON nor YAML.
    """
    if media_type not in BODY_MEDIA_TYPES:
        raise status.unsupported_media_type(BODY_MEDIA_TYPES)
    try:
        return _decode_json(data) if media_type == JSON else yaml_values.load(data)[0]
    except ValueError as error:
        language = "json" if media_type == JSON else "yaml"
        raise status.bad_request(f"couldn't get version/kind; {language} parse error: {error}") from None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its members in order, repeated ones included."""


def _walk_pairs(value: Any, path: str, found: dict[str, None]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, member in value:
            below = f"{path}.{key}" if path else key
            if key in seen:
                found[f"duplicate field {quote(below)}"] = None
            seen.add(key)
            _walk_pairs(member, below, found)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _walk_pairs(item, f"{path}[{position}]", found)


def duplicate_fields(data: bytes, media_type: str) -> list[str]:
    """A sentence for each key that a body repeats, as strict field validation reports it (rest.md A3.3).

    `data` is a body that `decode_body` took.
    """
    if media_type == YAML:
        return yaml_values.load(data)[1]
    found: dict[str, None] = {}
    # Numbers do not matter here, and Python refuses to read integers of thousands of digits.
    _walk_pairs(json.loads(data, object_pairs_hook=_Pairs, parse_int=str, parse_float=str), "", found)
    return list(found)
