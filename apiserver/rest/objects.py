"""Pure rules of a write: checking what a client sent, stamping what the server owns (rest.md A3.3 to A3.5)."""

from datetime import UTC, datetime

from apimachinery import schema as schemas
from apimachinery import status
from apimachinery.field_errors import FieldError, Path, invalid
from apimachinery.gvk import GroupKind
from apimachinery.names import validate_path_segment_name
from apimachinery.types import Object
from apimachinery.validation import validate_object_meta, validate_object_meta_update
from apiserver.resource import Resource
from apiserver.rest.bodies import Document
from apiserver.rest.shape import Checked, check_shape

_GENERATED_BASE_LIMIT = 58
_SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
_RESTORED_FIELDS = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")


def timestamp(now: float) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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


def check_patched(resource: Resource, checked: Checked, live: Object | None, namespace: str, name: str) -> None:
    """Check the identity of the result of a patch; APIError as for an update.

    A resourceVersion that the patch left as it was is dropped: the client made no claim, so a lost race is tried again
    and not refused.
    """
    check_namespace(resource, checked.object, namespace)
    check_name(checked.object, name)
    metadata = checked.object["metadata"]
    if live is not None and metadata.get("resourceVersion") == live["metadata"]["resourceVersion"]:
        metadata.pop("resourceVersion")


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


def check_virtual(resource: Resource, namespace: str, document: Document, field_validation: str) -> Checked:
    """An object sent to a resource without storage, in the shape of its kind; APIError 400, 422 with every fault."""
    checked = check_shape(resource, document.content, field_validation, document.duplicates)
    check_namespace(resource, checked.object, namespace)
    errors = schemas.validate(checked.object, resource.schema)
    _raise(resource, checked.object, errors or resource.strategy.validate_create(checked.object))
    return checked


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
            f"StorageError: invalid object, Code: 4, Key: {_storage_key(resource, stored)}, ResourceVersion: 0, "
            f"AdditionalErrorMsg: Precondition failed: UID in precondition: {given['uid']}, "
            f"UID in object meta: {stored['uid']}",
        )
    version = given.get("resourceVersion") or ""
    if version and version != stored["resourceVersion"]:
        raise status.conflict(resource.group_resource, name)


def _storage_key(resource: Resource, metadata: Object) -> str:
    parts = (resource.group, resource.plural, metadata.get("namespace", ""), metadata["name"])
    return "".join(f"/{part}" for part in parts if part)


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
