"""JSON Patch, RFC 6902, with limits on what a document may cost."""

from typing import Any, Final

import jsonpatch
import orjson

from apimachinery import status
from apimachinery.json_values import copy_json, type_name

MAX_OPERATIONS: Final = 10_000
MAX_COPIED_BYTES: Final = 3 * 1024 * 1024
"""Limit on the JSON size of everything that the `copy` operations of one patch copy."""

_ABSENT: Final = object()
_INAPPLICABLE: Final = (
    jsonpatch.JsonPatchException,
    jsonpatch.JsonPointerException,
    # What the library lets through for operations whose members have unexpected types.
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
)


def apply(document: Any, patch: Any) -> Any:
    """The document after all operations; the arguments stay as they are.

    `test` against `null` also passes where the last member of the path is absent, as API servers do.
    APIError: 400 if the patch is not a list of objects, 413 if it is too long, 422 if an operation is invalid or does
    not apply.
    """
    if not isinstance(patch, list):
        raise status.bad_request(f"error decoding patch: expected a JSON array, got {type_name(patch)}")
    for operation in patch:
        if not isinstance(operation, dict):
            raise status.bad_request(f"error decoding patch: expected a JSON object, got {type_name(operation)}")
    if len(patch) > MAX_OPERATIONS:
        allowed = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}"
        raise status.request_entity_too_large(allowed)
    result = copy_json(document)
    copied = 0
    try:
        for operation in patch:
            name = operation.get("op")
            if name == "copy":
                copied += len(orjson.dumps(_resolve(result, operation.get("from"))))
                if copied > MAX_COPIED_BYTES:
                    raise status.patch_not_applicable()
            elif name == "test" and operation.get("value", _ABSENT) is None and _missing_member(result, operation):
                continue
            result = jsonpatch.apply_patch(result, [operation], in_place=True)
    except _INAPPLICABLE:
        raise status.patch_not_applicable() from None
    return result


def _resolve(document: Any, pointer: Any) -> Any:
    return jsonpatch.JsonPointer(pointer).resolve(document)


def _missing_member(document: Any, operation: dict[str, Any]) -> bool:
    """Whether the path leads to an object that lacks the last member."""
    parent, _, _ = operation.get("path", "").rpartition("/")
    last = jsonpatch.JsonPointer(operation["path"]).parts[-1:]
    holder = _resolve(document, parent)
    return bool(last) and isinstance(holder, dict) and last[0] not in holder
