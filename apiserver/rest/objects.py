"""Pure rules of a write: checking what a client sent, stamping what the server owns (rest.md A3.3 to A3.5)."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from apimachinery import schema as schemas
from apimachinery import status
from apimachinery.field_errors import FieldError, Path, invalid
from apimachinery.gvk import GroupKind
from apimachinery.names import validate_path_segment_name
from apimachinery.types import Object
from apimachinery.validation import validate_object_meta, validate_object_meta_update
from apiserver.resource import Resource

_GENERATED_BASE_LIMIT = 58
_SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
_RESTORED_FIELDS = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")


@dataclass(frozen=True, slots=True)
class Checked:
    """A client's object in the shape of its kind, and what it should be warned about."""

    object: Object
    warnings: list[str] = field(default_factory=list)


def timestamp(now: float) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_shape(resource: Resource, document: Any, field_validation: str) -> Checked:
    """The object with defaults, without unknown fields; APIError 400 when it is not of this kind."""
    if not isinstance(document, dict):
        raise status.bad_request(_cannot_handle(resource, "json: cannot unmarshal into Go value of an object"))
    _check_type(resource, document)
    obj: Object = {**deepcopy(document), "apiVersion": resource.api_version, "kind": resource.kind}
    if obj.get("metadata") is None:
        obj["metadata"] = {}
    fault = schemas.type_error(obj, resource.schema, resource.kind)
    if fault is not None:
        raise status.bad_request(_cannot_handle(resource, fault))
    warnings = _unknown_fields(resource, obj, field_validation)
    schemas.prune(obj, resource.schema)
    schemas.apply_defaults(obj, resource.schema)
    resource.strategy.default(obj)
    return Checked(obj, warnings)


def _check_type(resource: Resource, document: Mapping[str, Any]) -> None:
    """Type information may be missing, but not wrong."""
    api_version, kind = document.get("apiVersion"), document.get("kind")
    if api_version and api_version != resource.api_version:
        raise status.bad_request(
            f"the API version in the data ({api_version}) does not match "
            f"the expected API version ({resource.api_version})"
        )
    if kind and kind != resource.kind:
        raise status.bad_request(f"{kind} in version {resource.version!r} cannot be handled as a {resource.kind}")


def _cannot_handle(resource: Resource, fault: str) -> str:
    return f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {fault}'


def _unknown_fields(resource: Resource, obj: Object, field_validation: str) -> list[str]:
    if field_validation == "Ignore":
        return []
    unknown = [f'unknown field "{path}"' for path in schemas.unknown_fields(obj, resource.schema)]
    if unknown and field_validation == "Strict":
        raise status.bad_request(_cannot_handle(resource, f"strict decoding error: {', '.join(unknown)}"))
    return unknown


def check_namespace(resource: Resource, obj: Object, namespace: str) -> None:
    """Set the namespace of the request in the object; APIError 400 when the object names another one."""
    metadata = obj["metadata"]
    if not resource.namespaced:
        metadata.pop("namespace", None)
        return
    given = metadata.get("namespace") or namespace
    if given != namespace:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = namespace


def check_name(obj: Object, name: str) -> None:
    """APIError 400 unless the object carries the name of the URL."""
    given = obj["metadata"].get("name") or ""
    if not given:
        raise status.bad_request("name must be provided")
    if given != name:
        raise status.bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")


def check_patched(
    resource: Resource, patched: Object, live: Object | None, namespace: str, name: str, field_validation: str
) -> Checked:
    """The result of a patch in the shape of its kind; APIError as for an update.

    A resourceVersion that the patch left as it was is dropped: the client made no claim, so a lost race is tried again
    and not refused.
    """
    checked = check_shape(resource, patched, field_validation)
    check_namespace(resource, checked.object, namespace)
    check_name(checked.object, name)
    metadata = checked.object["metadata"]
    if live is not None and metadata.get("resourceVersion") == live["metadata"]["resourceVersion"]:
        metadata.pop("resourceVersion")
    return checked


def check_path_name(name: str) -> None:
    """APIError 400 when a name could not be one segment of a path."""
    for fault in validate_path_segment_name(name):
        raise status.bad_request(f'Name parameter invalid: "{name}": {fault}')


def clear_system_fields(obj: Object) -> None:
    """Drop from a new object what only the server fills in, in place."""
    metadata = obj["metadata"]
    if metadata.get("resourceVersion"):
        raise status.APIError(500, "", "resourceVersion should not be set on objects to be created")
    for name in (*_SYSTEM_FIELDS, "generation", "resourceVersion"):
        metadata.pop(name, None)


def stamp_new(resource: Resource, obj: Object, *, uid: str, now: float, suffix: str) -> None:
    """Fill in what the server owns in a new object, in place. A name is generated from `generateName` and `suffix`."""
    metadata = obj["metadata"]
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"][:_GENERATED_BASE_LIMIT] + suffix
    metadata["uid"] = uid
    metadata["creationTimestamp"] = timestamp(now)
    if resource.strategy.tracks_generation:
        metadata["generation"] = 1


def validate_new(resource: Resource, obj: Object) -> None:
    """APIError 422 with every fault of a new object."""
    errors = validate_object_meta(
        obj["metadata"], namespaced=resource.namespaced, validate_name=resource.strategy.validate_name
    )
    errors += schemas.validate(obj, resource.schema)
    errors += resource.strategy.validate_create(obj)
    _raise(resource, obj, errors)


def restore_metadata(obj: Object, old: Object) -> None:
    """Put back the metadata that only the server changes."""
    metadata, stored = obj["metadata"], old["metadata"]
    for name in _RESTORED_FIELDS:
        if name in stored:
            metadata[name] = stored[name]
        else:
            metadata.pop(name, None)
    metadata.pop("selfLink", None)


def check_precondition(resource: Resource, obj: Object, old: Object) -> None:
    """APIError 409 when the client's resourceVersion or uid is not the stored one (rest.md A3.5)."""
    given, stored = obj["metadata"], old["metadata"]
    name = stored["name"]
    if given.get("uid") and given["uid"] != stored["uid"]:
        raise status.conflict(
            resource.group_resource,
            name,
            f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: {stored['uid']}",
        )
    version = given.get("resourceVersion") or ""
    if version and version != stored["resourceVersion"]:
        raise status.conflict(resource.group_resource, name)


def require_resource_version(resource: Resource, obj: Object) -> None:
    """APIError 422 for a PUT without resourceVersion where a blind overwrite is not allowed."""
    if obj["metadata"].get("resourceVersion") or resource.strategy.allow_unconditional_update:
        return
    error = invalid(Path.of("metadata", "resourceVersion"), 0, "must be specified for an update")
    # The originals name the resource, not the kind, in this one message.
    kind = GroupKind(resource.group, resource.plural)
    raise status.invalid(kind, obj["metadata"].get("name", ""), [error])


def bump_generation(resource: Resource, obj: Object, old: Object) -> None:
    """Count a change outside of metadata and status."""
    if not resource.strategy.tracks_generation:
        return
    ignored = {"metadata", "status"} if resource.strategy.has_status else {"metadata"}
    before = {name: value for name, value in old.items() if name not in ignored}
    after = {name: value for name, value in obj.items() if name not in ignored}
    if before != after:
        obj["metadata"]["generation"] = int(old["metadata"].get("generation", 0)) + 1


def validate_changed(resource: Resource, obj: Object, old: Object, *, status_only: bool) -> None:
    """APIError 422 with every fault of an update."""
    errors = validate_object_meta_update(obj["metadata"], old["metadata"])
    if status_only:
        errors += resource.strategy.validate_status_update(obj, old)
    else:
        errors += validate_object_meta(
            obj["metadata"], namespaced=resource.namespaced, validate_name=resource.strategy.validate_name
        )
        errors += schemas.validate(obj, resource.schema)
        errors += resource.strategy.validate_update(obj, old)
    _raise(resource, obj, errors)


def _raise(resource: Resource, obj: Object, errors: list[FieldError]) -> None:
    if errors:
        raise status.invalid(resource.group_kind, obj["metadata"].get("name") or "", errors)
