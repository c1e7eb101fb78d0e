"""Bringing what a client sent into the shape of its kind: types, defaults, field validation (rest.md A3.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from apimachinery import codec, patch, status
from apimachinery import schema as schemas
from apimachinery.field_errors import Path, invalid, quote
from apimachinery.gvk import GroupKind
from apimachinery.json_values import copy_json
from apimachinery.types import Object
from apiserver.resource import Resource

_OWNERS: Final = (
    ".metadata.ownerReferences contains duplicate entries{after}; API server dedups owner references in 1.20+, and may "
    "reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {uids}"
)
_AFTER_PATCH: Final = " after mutating admission happens"
"""The originals look at the owners of a patched object only at that point, and say so."""


class _Fault(Exception):
    """Why a document does not decode as its kind."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A client's object in the shape of its kind, and what it should be warned about."""

    object: Object
    warnings: list[str] = field(default_factory=list)


def check_shape(resource: Resource, document: Any, field_validation: str, duplicates: Sequence[str] = ()) -> Checked:
    """The object with defaults, without unknown fields; APIError 400 when it is not of this kind.

    `duplicates` are sentences about keys that the document repeats; they count as unknown fields do.
    """
    try:
        return _shaped(resource, document, field_validation, duplicates, "")
    except _Fault as fault:
        raise status.bad_request(_cannot_handle(resource, str(fault))) from None


def check_patched_shape(
    resource: Resource, media_type: str, body: bytes, patched: Object, field_validation: str
) -> Checked:
    """As `check_shape`, for what the patch `body` made of an object; APIError 422 on the field `patch`.

    The error shows the result, or for a strategic merge patch the patch.
    """
    duplicates = [] if field_validation == "Ignore" else patch.strict_problems(media_type, body)
    try:
        return _shaped(resource, patched, field_validation, duplicates, _AFTER_PATCH)
    except _Fault as fault:
        shown = body if media_type == patch.STRATEGIC_MERGE_PATCH else codec.encode_json(patched)
        error = invalid(Path.of("patch"), shown.decode().strip(), str(fault))
        raise status.invalid(GroupKind("", ""), "", [error]) from None


def _shaped(
    resource: Resource, document: Any, field_validation: str, duplicates: Sequence[str], patched: str
) -> Checked:
    if not isinstance(document, dict):
        raise _Fault("json: cannot unmarshal into Go value of an object")
    _check_type(resource, document)
    obj: Object = {**copy_json(document), "apiVersion": resource.api_version, "kind": resource.kind}
    if obj.get("metadata") is None:
        obj["metadata"] = {}
    fault = schemas.type_error(obj, resource.schema, resource.kind)
    if fault is not None:
        raise _Fault(fault)
    warnings: list[str] = []
    dropped = schemas.prune(obj, resource.schema)
    if field_validation != "Ignore":
        warnings = [*duplicates, *(f"unknown field {quote(str(path))}" for path in dropped)]
    if warnings and field_validation == "Strict":
        raise _Fault(f"strict decoding error: {', '.join(warnings)}")
    obj["metadata"] = {name: value for name, value in obj["metadata"].items() if not _is_left_out(name, value)}
    schemas.apply_defaults(obj, resource.schema)
    resource.strategy.default(obj)
    return Checked(obj, [*warnings, *_deduplicate_owners(obj["metadata"], patched), *resource.strategy.warnings(obj)])


def _is_left_out(name: str, value: Any) -> bool:
    """Whether metadata is written without this member, because it is empty.

    Numbers count: a grace period of 0 seconds says something. So do managedFields: an empty list resets them.
    """
    return value is None or (name != "managedFields" and value in ("", [], {}))


def _check_type(resource: Resource, document: Mapping[str, Any]) -> None:
    """Type information may be missing, but not wrong."""
    api_version, kind = document.get("apiVersion"), document.get("kind")
    if api_version and api_version != resource.api_version:
        raise status.bad_request(
            f"the API version in the data ({api_version}) does not match "
            f"the expected API version ({resource.api_version})"
        )
    if kind and kind != resource.kind:
        raise status.bad_request(f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}')


def _cannot_handle(resource: Resource, fault: str) -> str:
    return f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {fault}'


def _deduplicate_owners(metadata: Object, patched: str) -> list[str]:
    """Drop owner references that are there already, in place; the warning about it, if any."""
    owners: list[Object] = metadata.get("ownerReferences") or []
    if len(owners) < 2:
        return []
    kept: dict[bytes, Object] = {}
    dropped: list[str] = []
    for owner in owners:
        identity = orjson.dumps(owner, option=orjson.OPT_SORT_KEYS)
        if identity in kept:
            dropped.append(str(owner.get("uid", "")))
        else:
            kept[identity] = owner
    if not dropped:
        return []
    metadata["ownerReferences"] = list(kept.values())
    return [_OWNERS.format(after=patched, uids=", ".join(dropped))]
