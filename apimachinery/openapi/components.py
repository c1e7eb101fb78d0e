"""The named schemas of OpenAPI documents: those every API shares, and those of each resource."""

from collections.abc import Iterable, Mapping
from typing import Final

from apimachinery.openapi.model import GroupVersionKind, ResourceModel, SubresourceModel
from apimachinery.schema import OBJECT_META_SCHEMA, with_root_fields
from apimachinery.types import Object

GVK_EXTENSION: Final = "x-kubernetes-group-version-kind"
REF_PREFIX: Final = "#/components/schemas/"

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
OBJECT_META: Final = _META + "ObjectMeta"
LIST_META: Final = _META + "ListMeta"
STATUS: Final = _META + "Status"
DELETE_OPTIONS: Final = _META + "DeleteOptions"
PATCH: Final = _META + "Patch"
API_RESOURCE_LIST: Final = _META + "APIResourceList"
_STATUS_DETAILS = _META + "StatusDetails"
_STATUS_CAUSE = _META + "StatusCause"
_PRECONDITIONS = _META + "Preconditions"
_API_RESOURCE = _META + "APIResource"

_API_VERSION_TEXT = (
    "The group and version of the API whose schema this object has, as `group/version`. "
    "The server may leave out what it can infer from the URL."
)
_KIND_TEXT = "The kind of this object, in CamelCase. It follows from the URL of the resource and cannot be changed."


def reference(name: str, description: str = "") -> Object:
    """A schema that is another one; with a description of its own, as a reference has no room for one."""
    target = {"$ref": REF_PREFIX + name}
    return {"description": description, "allOf": [target]} if description else target


def _text(description: str) -> Object:
    return {"type": "string", "description": description}


def _texts(description: str) -> Object:
    return {
        "type": "array",
        "description": description,
        "items": {"type": "string"},
        "x-kubernetes-list-type": "atomic",
    }


def _integer(description: str, format_: str) -> Object:
    return {"type": "integer", "format": format_, "description": description}


def _flag(description: str) -> Object:
    return {"type": "boolean", "description": description}


def _list_of(name: str, description: str) -> Object:
    return {"type": "array", "description": description, "items": reference(name)}


def _object(description: str, properties: Mapping[str, Object], required: Iterable[str] = ()) -> Object:
    schema: Object = {"type": "object", "description": description, "properties": dict(properties)}
    needed = list(required)
    if needed:
        schema["required"] = needed
    return schema


def _type_meta() -> dict[str, Object]:
    return {"apiVersion": _text(_API_VERSION_TEXT), "kind": _text(_KIND_TEXT)}


def _status_schemas() -> dict[str, Object]:
    return {
        STATUS: _object(
            "Status is the answer of a call that does not return an object, above all of one that failed.",
            {
                **_type_meta(),
                "metadata": reference(LIST_META, "Standard list metadata."),
                "status": _text("The outcome of the call: `Success` or `Failure`."),
                "message": _text("What happened, for people to read."),
                "reason": _text("Why the call failed, in one CamelCase word that programs can compare."),
                "details": reference(_STATUS_DETAILS, "More about the reason; which fields are set depends on it."),
                "code": _integer("The HTTP status code of the answer; 0 if not set.", "int32"),
            },
        ),
        _STATUS_DETAILS: _object(
            "StatusDetails says what a Status is about.",
            {
                "name": _text("The name of the object, when a single one is concerned."),
                "group": _text("The API group of the object."),
                "kind": _text("The kind or the resource of the object."),
                "uid": _text("The uid of the object, when a single one is concerned."),
                "causes": {
                    **_list_of(_STATUS_CAUSE, "Each fault that contributed to the failure."),
                    "x-kubernetes-list-type": "atomic",
                },
                "retryAfterSeconds": _integer("After how many seconds the call may be tried again.", "int32"),
            },
        ),
        _STATUS_CAUSE: _object(
            "StatusCause is one fault among those that made a call fail.",
            {
                "field": _text("The path of the field at fault, such as `spec.ports[0].name`."),
                "message": _text("The fault, for people to read."),
                "reason": _text("The kind of fault, for programs to compare."),
            },
        ),
    }


def _discovery_schemas() -> dict[str, Object]:
    return {
        API_RESOURCE_LIST: _object(
            "APIResourceList names the resources that are served in a group and version.",
            {
                **_type_meta(),
                "groupVersion": _text("The group and version of the resources in this list."),
                "resources": {
                    **_list_of(_API_RESOURCE, "The resources and their subresources."),
                    "x-kubernetes-list-type": "atomic",
                },
            },
            ("groupVersion", "resources"),
        ),
        _API_RESOURCE: _object(
            "APIResource describes a resource: its names, its scope and what can be done with it.",
            {
                "name": _text("The plural name, or `<plural>/<subresource>`."),
                "singularName": _text("The singular name."),
                "namespaced": _flag("Whether objects live in namespaces."),
                "kind": _text("The kind of the objects."),
                "group": _text("The group of the kind, if it differs from that of the list."),
                "version": _text("The version of the kind, if it differs from that of the list."),
                "verbs": _texts("What can be done with the resource: get, list, watch, create, update, patch, ..."),
                "shortNames": _texts("Shorter names for use on a command line."),
                "categories": _texts("The groups of resources that it belongs to, such as `all`."),
            },
            ("name", "singularName", "namespaced", "kind", "verbs"),
        ),
    }


def _options_schemas() -> dict[str, Object]:
    return {
        DELETE_OPTIONS: _object(
            "DeleteOptions may be given when an object is deleted.",
            {
                **_type_meta(),
                "dryRun": _texts("`All` checks everything and deletes nothing. No other value is known."),
                "gracePeriodSeconds": _integer(
                    "How many seconds the object may take to end; 0 means at once.", "int64"
                ),
                "orphanDependents": _flag("Deprecated in favour of propagationPolicy. Whether dependents are kept."),
                "preconditions": reference(_PRECONDITIONS, "What must be true for the deletion to happen (else 409)."),
                "propagationPolicy": _text(
                    "What happens to dependents: `Orphan` keeps them, `Background` deletes them later, "
                    "`Foreground` deletes them first."
                ),
            },
        ),
        _PRECONDITIONS: _object(
            "Preconditions must hold before an object is deleted.",
            {
                "uid": _text("The uid that the object must have."),
                "resourceVersion": _text("The resourceVersion that the object must have."),
            },
        ),
        PATCH: {"type": "object", "description": "Patch is a change to an object, in the form its content type names."},
    }


def _list_meta_schema() -> Object:
    return _object(
        "ListMeta is the metadata of a list.",
        {
            "continue": _text("The token that asks for the next page; empty on the last one. It is opaque."),
            "remainingItemCount": _integer("How many items follow this page; absent if unknown.", "int64"),
            "resourceVersion": _text(
                "The version of the store at which the list was read, to watch from. It is opaque."
            ),
            "selfLink": _text("Deprecated, never set."),
        },
    )


def _kinds(schema: Object, kinds: Iterable[GroupVersionKind]) -> Object:
    return {**schema, GVK_EXTENSION: [kind.extension() for kind in kinds]}


def _shared(models: Iterable[ResourceModel]) -> dict[str, Object]:
    schemas = {
        OBJECT_META: OBJECT_META_SCHEMA,
        LIST_META: _list_meta_schema(),
        **_status_schemas(),
        **_options_schemas(),
        **_discovery_schemas(),
    }
    served = sorted({(model.group, model.version) for model in models} | {("", "v1")})
    schemas[STATUS] = _kinds(schemas[STATUS], [GroupVersionKind("", "v1", "Status")])
    schemas[API_RESOURCE_LIST] = _kinds(schemas[API_RESOURCE_LIST], [GroupVersionKind("", "v1", "APIResourceList")])
    schemas[DELETE_OPTIONS] = _kinds(
        schemas[DELETE_OPTIONS], [GroupVersionKind(group, version, "DeleteOptions") for group, version in served]
    )
    return schemas


def component_name(group: str, version: str, kind: str) -> str:
    """The name of a kind's schema, unique and stable: the group's labels reversed, the version, the kind."""
    labels = reversed(group.split(".")) if group else ["core"]
    return ".".join([*labels, version, kind])


def _with_type_meta(schema: Object) -> Object:
    properties = {**_type_meta(), **schema.get("properties", {})}
    return {**schema, "type": "object", "properties": dict(sorted(properties.items()))}


def _described(schema: Object, description: str) -> Object:
    return {**schema, "description": description} if description else schema


def _object_schema(model: ResourceModel) -> Object:
    described = _described(model.schema, model.description)
    if model.virtual:
        return _with_type_meta(described)
    rooted = with_root_fields(described)
    metadata = reference(OBJECT_META, "Standard object metadata: name, namespace, labels, annotations and so on.")
    properties = {**rooted["properties"], "metadata": metadata}
    return {**rooted, "properties": dict(sorted(properties.items()))}


def _list_schema(model: ResourceModel, item: str) -> Object:
    properties = {
        **_type_meta(),
        "metadata": reference(LIST_META, "Standard list metadata."),
        "items": _list_of(item, f"The {model.kind} objects."),
    }
    schema = _object(f"{model.list_kind} is a list of {model.kind}.", dict(sorted(properties.items())), ["items"])
    return schema


def _subresource_schema(subresource: SubresourceModel) -> Object:
    return _with_type_meta(_described(subresource.schema, subresource.description))


def components(models: Iterable[ResourceModel]) -> dict[str, Object]:
    """Every named schema of the resources, in OpenAPI v3 form, by name."""
    known = list(models)
    schemas = _shared(known)
    for model in known:
        name = component_name(model.group, model.version, model.kind)
        schemas[name] = _kinds(_object_schema(model), [GroupVersionKind(model.group, model.version, model.kind)])
        if not model.virtual:
            list_name = component_name(model.group, model.version, model.list_kind)
            kind = GroupVersionKind(model.group, model.version, model.list_kind)
            schemas[list_name] = _kinds(_list_schema(model, name), [kind])
        for subresource in model.subresources:
            group_version = subresource.group_version or model.group_version
            kind = GroupVersionKind(group_version.group, group_version.version, subresource.kind)
            schemas.setdefault(
                component_name(kind.group, kind.version, kind.kind),
                _kinds(_subresource_schema(subresource), [kind]),
            )
    return dict(sorted(schemas.items()))
