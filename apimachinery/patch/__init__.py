"""Patches: JSON Patch, JSON Merge Patch and strategic merge patch, applied to plain objects (rest.md A4).

Is: the change a patch document makes to an object. Is not: decoding the result (defaults, field validation), conflicts,
server-side apply. May import: the rest of apimachinery, jsonpatch, orjson.
"""

from typing import Any, Final

import orjson

from apimachinery import codec, status
from apimachinery.field_errors import quote
from apimachinery.json_values import too_deep, type_name
from apimachinery.patch import json_patch, merge_patch, strategic
from apimachinery.schema import Schema, with_root_fields
from apimachinery.types import Object

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"

_OPERATION_MEMBERS: Final = frozenset({"op", "path", "from", "value"})
_SUPPORTED: Final = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH)


def apply_patch(media_type: str, live: Object, body: bytes, schema: Schema) -> Object:
    """The object that the patch document `body` makes of `live`; shares nothing with `live`, which stays as it is.

    `schema` is the object-level schema of the resource; only a strategic merge patch reads it. The result is not
    validated. APIError: 415 for another media type (server-side apply needs more than a patch), 400 for a document
    that is no patch, 413 for too many operations, 422 for a patch that does not fit the object.
    """
    if media_type not in _SUPPORTED:
        raise status.unsupported_media_type(_SUPPORTED)
    patch = _decode(body)
    try:
        if media_type == JSON_PATCH:
            result: Any = json_patch.apply(live, patch)
        elif not isinstance(patch, dict):
            raise status.bad_request(f"error decoding patch: expected a JSON object, got {type_name(patch)}")
        elif media_type == MERGE_PATCH:
            result = merge_patch.apply(live, patch)
        else:
            result = strategic.apply(live, patch, with_root_fields(schema))
    except RecursionError:
        raise status.patch_not_applicable() from None
    if not isinstance(result, dict) or too_deep(result):
        raise status.patch_not_applicable()
    return result


def strict_problems(media_type: str, body: bytes) -> list[str]:
    """What strict field validation says about a patch document itself: a sentence for each repeated key and, in a JSON
    patch, for each member of an operation that is none. `body` is one that `apply_patch` took.
    """
    repeated = codec.duplicate_fields(body, codec.JSON)
    if media_type != JSON_PATCH:
        return repeated
    unknown = [
        f"unknown field {quote(f'[{position}].{member}')}"
        for position, operation in enumerate(orjson.loads(body))
        for member in operation
        if member not in _OPERATION_MEMBERS
    ]
    return [f"json patch {problem}" for problem in (*repeated, *unknown)]


def _decode(body: bytes) -> Any:
    try:
        patch = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise status.bad_request(f"error decoding patch: {error}") from None
    if too_deep(patch):
        raise status.bad_request("error decoding patch: exceeded max depth")
    return patch
