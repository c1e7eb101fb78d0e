"""The schema of what every object has: apiVersion, kind and metadata."""

from typing import Any, Final

Schema = dict[str, Any]
"""An OpenAPI v3 schema as in a CustomResourceDefinition, without `$ref`. Schemas are shared: never mutate one."""


def _string(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _time(description: str) -> Schema:
    return _string(description, format="date-time")


def _integer(description: str) -> Schema:
    return {"type": "integer", "format": "int64", "description": description}


def _string_map(description: str) -> Schema:
    return {"type": "object", "additionalProperties": {"type": "string"}, "description": description}


_OWNER_REFERENCE: Final[Schema] = {
    "type": "object",
    "description": "Names an object that this object depends on, in the same namespace or cluster-scoped.",
    "required": ["apiVersion", "kind", "name", "uid"],
    "x-kubernetes-map-type": "atomic",
    "properties": {
        "apiVersion": _string("API version of the owner."),
        "blockOwnerDeletion": {
            "type": "boolean",
            "description": "Whether a foreground deletion of the owner waits until this reference is gone.",
        },
        "controller": {
            "type": "boolean",
            "description": "Whether the owner is the controller that manages this object.",
        },
        "kind": _string("Kind of the owner."),
        "name": _string("Name of the owner."),
        "uid": _string("UID of the owner."),
    },
}

_MANAGED_FIELDS_ENTRY: Final[Schema] = {
    "type": "object",
    "description": "The fields that one manager set with one kind of operation.",
    "properties": {
        "apiVersion": _string("API version in which the fields are written."),
        "fieldsType": _string("Format of the fields; only FieldsV1 exists."),
        "fieldsV1": {
            "type": "object",
            "description": "The set of fields, as nested objects.",
            "x-kubernetes-preserve-unknown-fields": True,
        },
        "manager": _string("Name of the manager."),
        "operation": _string("Apply or Update."),
        "subresource": _string("Subresource through which the fields were set; empty for the object itself."),
        "time": _time("When the set of fields last changed."),
    },
}

OBJECT_META_SCHEMA: Final[Schema] = {
    "type": "object",
    "description": "Data that every stored object has: its identity, its place and its bookkeeping.",
    "properties": {
        "annotations": _string_map("Free key/value data for tools, which selectors cannot query; 256 KiB at most."),
        "creationTimestamp": _time("When the server created the object. Set by the server."),
        "deletionGracePeriodSeconds": _integer("Seconds the object has to finish once its deletion was asked for."),
        "deletionTimestamp": _time("When the object is to go away; set by the server when deletion was asked for."),
        "finalizers": {
            "type": "array",
            "description": "Work to be done before the object may go away; whoever does it removes its entry.",
            "items": {"type": "string"},
            "x-kubernetes-list-type": "set",
            "x-kubernetes-patch-strategy": "merge",
        },
        "generateName": _string("Prefix from which the server makes a unique name when name is empty."),
        "generation": _integer("Counts the changes of the desired state. Set by the server."),
        "labels": _string_map("Key/value data by which objects are grouped and selected."),
        "managedFields": {
            "type": "array",
            "description": "Which manager set which fields. Maintained by the server.",
            "items": _MANAGED_FIELDS_ENTRY,
            "x-kubernetes-list-type": "atomic",
        },
        "name": _string("Name, unique among the objects of its kind and namespace. Cannot change."),
        "namespace": _string("Namespace in which the name is unique; empty for cluster-scoped kinds. Cannot change."),
        "ownerReferences": {
            "type": "array",
            "description": "Objects this one depends on; it is collected when all of them are gone.",
            "items": _OWNER_REFERENCE,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
            "x-kubernetes-patch-merge-key": "uid",
            "x-kubernetes-patch-strategy": "merge",
        },
        "resourceVersion": _string("Opaque version of the object, which changes with every write. Set by the server."),
        "selfLink": _string("Deprecated; no longer filled in."),
        "uid": _string("Identity of the object in time and space. Set by the server."),
    },
}
"""Schema of `metadata`."""

_ROOT_FIELDS: Final[Schema] = {
    "apiVersion": _string("Group and version of the schema in which the object is written, as group/version."),
    "kind": _string("Kind of the object, in CamelCase. Cannot change."),
    "metadata": OBJECT_META_SCHEMA,
}


def with_root_fields(schema: Schema) -> Schema:
    """The object-level schema with `apiVersion`, `kind` and `metadata` spelled out, without references."""
    return {**schema, "type": "object", "properties": {**(schema.get("properties") or {}), **_ROOT_FIELDS}}
