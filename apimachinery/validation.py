"""Rules for `metadata` (rest.md A3.4, A3.5; aggregator.md 1.3).

The functions expect metadata that decodes (`schema.type_error` finds nothing): types are not reported here, and a value
of the wrong type counts as absent.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from apimachinery import names
from apimachinery.field_errors import FieldError, Path, forbidden, invalid, not_supported, quote, required, too_long
from apimachinery.gvk import GroupVersion
from apimachinery.json_values import is_integer
from apimachinery.types import Object

MAX_ANNOTATIONS_BYTES: Final = 256 * 1024
"""Limit on all annotation keys and values of an object together."""
MAX_FIELD_MANAGER_BYTES: Final = 128
MAX_SUBRESOURCE_BYTES: Final = 256

IMMUTABLE: Final = "field is immutable"
NAME_REQUIRED: Final = "name or generateName is required"
_METADATA: Final = Path.of("metadata")
# Fields that only the server sets; strings compare with absent as empty.
_IMMUTABLE_STRINGS: Final = ("name", "namespace", "uid")
_IMMUTABLE_VALUES: Final = ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def validate_object_meta(
    meta: Object, *, namespaced: bool, validate_name: Callable[[str], Sequence[str]], path: Path = _METADATA
) -> list[FieldError]:
    """The faults of the metadata of a new object whose name has already been generated."""
    errors: list[FieldError] = []
    prefix = _text(meta, "generateName")
    if prefix:
        # More characters follow, so a final dash is fine.
        masked = f"{prefix[:-1]}a" if len(prefix) > 1 and prefix.endswith("-") else prefix
        errors.extend(invalid(path.child("generateName"), prefix, fault) for fault in validate_name(masked))
    name = _text(meta, "name")
    if name:
        errors.extend(invalid(path.child("name"), name, fault) for fault in validate_name(name))
    else:
        errors.append(required(path.child("name"), NAME_REQUIRED))
    errors.extend(_namespace_faults(_text(meta, "namespace"), namespaced, path.child("namespace")))
    errors.extend(_generation_faults(meta, path))
    errors.extend(_common_faults(meta, path))
    errors.extend(_finalizer_faults(_strings(meta, "finalizers"), path.child("finalizers")))
    return errors


def validate_object_meta_update(new_meta: Object, old_meta: Object, path: Path = _METADATA) -> list[FieldError]:
    """The faults of changed metadata. An update without resourceVersion is one: fill it in where it may be left out."""
    errors: list[FieldError] = []
    if old_meta.get("deletionTimestamp") is not None:
        extra = sorted(set(_strings(new_meta, "finalizers")) - set(_strings(old_meta, "finalizers")))
        if extra:
            shown = f"[]string{{{', '.join(quote(name) for name in extra)}}}"
            rule = "no new finalizers can be added if the object is being deleted"
            errors.append(forbidden(path.child("finalizers"), f"{rule}, found new finalizers {shown}"))
    if not _text(new_meta, "resourceVersion"):
        errors.append(invalid(path.child("resourceVersion"), "", "must be specified for an update"))
    errors.extend(_generation_faults(new_meta, path))
    if _generation(new_meta) < _generation(old_meta):
        errors.append(invalid(path.child("generation"), _generation(new_meta), "must not be decremented"))
    for field in _IMMUTABLE_STRINGS:
        if _text(new_meta, field) != _text(old_meta, field):
            errors.append(invalid(path.child(field), _text(new_meta, field), IMMUTABLE))
    for field in _IMMUTABLE_VALUES:
        if new_meta.get(field) != old_meta.get(field):
            errors.append(invalid(path.child(field), new_meta.get(field), IMMUTABLE))
    errors.extend(_common_faults(new_meta, path))
    return errors


def validate_field_manager(name: str, path: Path) -> list[FieldError]:
    """The faults of the name of a field manager: at most 128 bytes of printable characters."""
    errors: list[FieldError] = []
    if len(name.encode(errors="surrogatepass")) > MAX_FIELD_MANAGER_BYTES:
        errors.append(too_long(path, MAX_FIELD_MANAGER_BYTES))
    position = 0
    for char in name:
        if not char.isprintable():
            errors.append(invalid(path, name, f"invalid character U+{ord(char):04X} (at position {position})"))
        position += len(char.encode(errors="surrogatepass"))
    return errors


def _text(meta: Object, field: str) -> str:
    value = meta.get(field)
    return value if isinstance(value, str) else ""


def _strings(meta: Object, field: str) -> list[str]:
    value = meta.get(field)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _string_map(meta: Object, field: str) -> dict[str, str]:
    value = meta.get(field)
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, str)}


def _objects(meta: Object, field: str) -> list[tuple[int, Object]]:
    value = meta.get(field)
    items = value if isinstance(value, list) else []
    return [(index, item) for index, item in enumerate(items) if isinstance(item, dict)]


def _generation(meta: Object) -> int:
    value: Any = meta.get("generation")
    return value if is_integer(value) else 0


def _namespace_faults(namespace: str, namespaced: bool, path: Path) -> Iterator[FieldError]:
    if not namespaced:
        if namespace:
            yield forbidden(path, "not allowed on this type")
    elif not namespace:
        yield required(path)
    else:
        for fault in names.validate_dns1123_label(namespace):
            yield invalid(path, namespace, fault)


def _generation_faults(meta: Object, path: Path) -> Iterator[FieldError]:
    if _generation(meta) < 0:
        yield invalid(path.child("generation"), _generation(meta), "must be greater than or equal to 0")


def _common_faults(meta: Object, path: Path) -> Iterator[FieldError]:
    for key, value in _string_map(meta, "labels").items():
        for fault in names.validate_qualified_name(key):
            yield invalid(path.child("labels"), key, fault)
        for fault in names.validate_label_value(value):
            yield invalid(path.child("labels"), value, fault)
    yield from _annotation_faults(_string_map(meta, "annotations"), path.child("annotations"))
    yield from _owner_faults(meta, path.child("ownerReferences"))
    for index, entry in _objects(meta, "managedFields"):
        yield from _managed_fields_faults(entry, path.child("managedFields").index(index))


def _annotation_faults(annotations: dict[str, str], path: Path) -> Iterator[FieldError]:
    for key in annotations:
        for fault in names.validate_qualified_name(key.lower()):
            yield invalid(path, key, fault)
    total = sum(len(text.encode(errors="surrogatepass")) for item in annotations.items() for text in item)
    if total > MAX_ANNOTATIONS_BYTES:
        yield too_long(path, MAX_ANNOTATIONS_BYTES)


def _owner_faults(meta: Object, path: Path) -> Iterator[FieldError]:
    controller = ""
    for index, owner in _objects(meta, "ownerReferences"):
        yield from _owner_reference_faults(owner, path.index(index))
        if owner.get("controller") is True:
            named = f"{_text(owner, 'kind')}/{_text(owner, 'name')}"
            if controller:
                rule = "Only one reference can have Controller set to true"
                found = f'Found "true" in references for {controller} and {named}'
                yield invalid(path, meta["ownerReferences"], f"{rule}. {found}")
            else:
                controller = named


def _owner_reference_faults(owner: Object, path: Path) -> Iterator[FieldError]:
    api_version = _text(owner, "apiVersion")
    if not api_version:
        yield required(path.child("apiVersion"), "must not be empty")
    elif not _parses(api_version):
        yield invalid(path.child("apiVersion"), api_version, "must be <group>/<version> or <version>")
    for field in ("kind", "name", "uid"):
        if not _text(owner, field):
            yield required(path.child(field), "must not be empty")
    if (api_version, owner.get("kind")) == ("v1", "Event"):
        yield invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner")


def _parses(api_version: str) -> bool:
    try:
        return bool(GroupVersion.parse(api_version).version)
    except ValueError:
        return False


def _finalizer_faults(finalizers: list[str], path: Path) -> Iterator[FieldError]:
    for finalizer in finalizers:
        for fault in names.validate_qualified_name(finalizer):
            yield invalid(path, finalizer, fault)
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        yield invalid(path, finalizers, "finalizer orphan and foregroundDeletion cannot be both set")


def _managed_fields_faults(entry: Object, path: Path) -> Iterator[FieldError]:
    operation = _text(entry, "operation")
    if not operation:
        yield required(path.child("operation"), "must not be empty")
    elif operation not in ("Apply", "Update"):
        yield not_supported(path.child("operation"), operation, ("Apply", "Update"))
    if _text(entry, "fieldsType") not in ("", "FieldsV1"):
        yield invalid(path.child("fieldsType"), entry["fieldsType"], "must be `FieldsV1`")
    yield from validate_field_manager(_text(entry, "manager"), path.child("manager"))
    if len(_text(entry, "subresource").encode(errors="surrogatepass")) > MAX_SUBRESOURCE_BYTES:
        yield too_long(path.child("subresource"), MAX_SUBRESOURCE_BYTES)
