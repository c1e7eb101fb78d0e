"""The calls that a resource answers, apart from how an OpenAPI version writes them down."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from apimachinery.gvk import GroupVersion
from apimachinery.openapi import components
from apimachinery.openapi.components import component_name
from apimachinery.openapi.model import GroupVersionKind, ResourceModel, SubresourceModel

Location = Literal["path", "query"]

PRODUCES: Final = ("application/json", "application/yaml")
WATCH_PRODUCES: Final = (*PRODUCES, "application/json;stream=watch")
PATCH_CONSUMES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A path or query parameter."""

    name: str
    type: str
    description: str
    location: Location = "query"


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The body of a request: a named schema in one of some media types."""

    component: str
    media_types: tuple[str, ...] = PRODUCES
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method on one path."""

    method: str
    action: str
    """The value of `x-kubernetes-action`; empty for calls that are not about a resource."""
    id: str
    description: str
    kind: GroupVersionKind | None
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    response: str
    """The component of a successful answer."""
    codes: tuple[int, ...] = (200,)
    produces: tuple[str, ...] = PRODUCES


@dataclass(frozen=True, slots=True, kw_only=True)
class PathItem:
    """All calls on one path, with the parameters they share."""

    path: str
    parameters: tuple[Parameter, ...]
    operations: tuple[Operation, ...]


_PRETTY = Parameter("pretty", "string", "`true` indents the answer, for people to read.")
_NAMESPACE = Parameter("namespace", "string", "The namespace of the object.", "path")
_NAME = Parameter("name", "string", "The name of the object.", "path")

_DRY_RUN = Parameter("dryRun", "string", "`All` runs every check and changes nothing. No other value is known.")
_FIELD_MANAGER = Parameter(
    "fieldManager",
    "string",
    "The name of who makes the change, at most 128 printable characters; by default taken from the User-Agent.",
)
_FIELD_VALIDATION = Parameter(
    "fieldValidation",
    "string",
    "What happens to unknown and duplicate fields: `Ignore` drops them, `Warn` (default) drops them with a warning, "
    "`Strict` refuses the request.",
)
_FORCE = Parameter("force", "boolean", "Take over fields that others manage. Only for apply patches.")
_WRITE = (_DRY_RUN, _FIELD_MANAGER, _FIELD_VALIDATION)

_SELECT = (
    Parameter("continue", "string", "The token of the next page, from the previous one."),
    Parameter("fieldSelector", "string", "Restrict the objects by their fields, such as `metadata.name=a`."),
    Parameter("labelSelector", "string", "Restrict the objects by their labels, such as `app=web,tier in (a,b)`."),
    Parameter("limit", "integer", "The greatest number of objects in an answer; the rest follows by `continue`."),
    Parameter("resourceVersion", "string", "The version of the store to read at or to watch from."),
    Parameter("resourceVersionMatch", "string", "How resourceVersion counts: `Exact` or `NotOlderThan`."),
    Parameter("timeoutSeconds", "integer", "After how many seconds the call ends."),
)
_WATCH = (
    Parameter("allowWatchBookmarks", "boolean", "Ask for BOOKMARK events, which only carry a resourceVersion."),
    Parameter("sendInitialEvents", "boolean", "Begin a watch with the present objects, closed by a BOOKMARK event."),
    Parameter("watch", "boolean", "Answer with a stream of changes instead of a list."),
)
_DELETE = (
    _DRY_RUN,
    Parameter("gracePeriodSeconds", "integer", "How many seconds the object may take to end; 0 means at once."),
    Parameter("orphanDependents", "boolean", "Deprecated in favour of propagationPolicy."),
    Parameter("propagationPolicy", "string", "What happens to dependents: `Orphan`, `Background` or `Foreground`."),
)


def _camel(text: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", text))


def _id_base(group_version: GroupVersion) -> str:
    return _camel(group_version.group or "core") + _camel(group_version.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """What the operations of one path are about."""

    model: ResourceModel
    kind: str
    scope: str
    """The part of operation ids between group version and kind: `Namespaced` or nothing."""
    suffix: str = ""
    """The part of operation ids after the kind: a subresource."""
    group_version: GroupVersion | None = None
    """Of `kind`; None for that of the model."""

    @property
    def group_version_kind(self) -> GroupVersionKind:
        of = self.group_version or self.model.group_version
        return GroupVersionKind(of.group, of.version, self.kind)

    @property
    def component(self) -> str:
        kind = self.group_version_kind
        return component_name(kind.group, kind.version, kind.kind)

    def operation(
        self,
        method: str,
        action: str,
        verb: str,
        description: str,
        *,
        id_suffix: str = "",
        parameters: tuple[Parameter, ...] = (),
        body: Body | None = None,
        response: str = "",
        codes: tuple[int, ...] = (200,),
        produces: tuple[str, ...] = PRODUCES,
    ) -> Operation:
        base = _id_base(self.model.group_version)
        return Operation(
            method=method,
            action=action,
            id=f"{verb}{base}{self.scope}{self.model.kind}{_camel(self.suffix)}{id_suffix}",
            description=description,
            kind=self.group_version_kind,
            parameters=parameters,
            body=body,
            response=response or self.component,
            codes=codes,
            produces=produces,
        )

    def read(self, what: str) -> Operation:
        return self.operation("get", "get", "read", f"read {what}")

    def replace(self, what: str) -> Operation:
        body = Body(component=self.component)
        return self.operation(
            "put", "put", "replace", f"replace {what}", parameters=_WRITE, body=body, codes=(200, 201)
        )

    def patch(self, what: str) -> Operation:
        body = Body(component=components.PATCH, media_types=PATCH_CONSUMES)
        parameters = (*_WRITE, _FORCE)
        return self.operation(
            "patch", "patch", "patch", f"update part of {what}", parameters=parameters, body=body, codes=(200, 201)
        )

    def create(self, what: str) -> Operation:
        body = Body(component=self.component)
        return self.operation(
            "post", "post", "create", f"create {what}", parameters=_WRITE, body=body, codes=(200, 201, 202)
        )


def _list(target: _Target, id_suffix: str = "") -> Operation:
    model = target.model
    kind = model.kind if model.virtual else model.list_kind
    watches = "watch" in model.verbs
    description = f"list or watch objects of kind {model.kind}" if watches else f"list objects of kind {model.kind}"
    return target.operation(
        "get",
        "list",
        "list",
        description,
        id_suffix=id_suffix,
        parameters=(*_SELECT, *_WATCH) if watches else _SELECT,
        response=component_name(model.group, model.version, kind),
        produces=WATCH_PRODUCES if watches else PRODUCES,
    )


def _delete_collection(target: _Target) -> Operation:
    return target.operation(
        "delete",
        "deletecollection",
        "deleteCollection",
        f"delete all selected objects of kind {target.model.kind}",
        parameters=(*_SELECT, *_DELETE),
        body=Body(component=components.DELETE_OPTIONS, required=False),
        response=components.STATUS,
    )


def _delete(target: _Target) -> Operation:
    return target.operation(
        "delete",
        "delete",
        "delete",
        f"delete a {target.model.kind}",
        parameters=_DELETE,
        body=Body(component=components.DELETE_OPTIONS, required=False),
        response=components.STATUS,
        codes=(200, 202),
    )


def _collection(target: _Target) -> Iterator[Operation]:
    verbs = target.model.verbs
    if "list" in verbs:
        yield _list(target)
    if "create" in verbs:
        yield target.create(f"a {target.model.kind}")
    if "deletecollection" in verbs:
        yield _delete_collection(target)


def _item(target: _Target) -> Iterator[Operation]:
    verbs = target.model.verbs
    what = f"the specified {target.model.kind}"
    if "get" in verbs:
        yield target.read(what)
    if "update" in verbs:
        yield target.replace(what)
    if "patch" in verbs:
        yield target.patch(what)
    if "delete" in verbs:
        yield _delete(target)


def _subresource(target: _Target, verbs: Iterable[str]) -> Iterator[Operation]:
    what = f"{target.suffix} of the specified {target.model.kind}"
    for verb in verbs:
        match verb:
            case "get":
                yield target.read(what)
            case "create":
                yield target.create(what)
            case "update":
                yield target.replace(what)
            case "patch":
                yield target.patch(what)


def _subresources(model: ResourceModel) -> Iterator[SubresourceModel]:
    if model.has_status:
        yield SubresourceModel(name="status", kind=model.kind, verbs=("get", "update", "patch"))
    yield from model.subresources


def _resource_paths(model: ResourceModel) -> Iterator[PathItem]:
    base = model.group_version.path
    scope = "Namespaced" if model.namespaced else ""
    shared = (_NAMESPACE, _PRETTY) if model.namespaced else (_PRETTY,)
    collection = f"{base}/namespaces/{{namespace}}/{model.plural}" if model.namespaced else f"{base}/{model.plural}"
    item = f"{collection}/{{name}}"
    target = _Target(model=model, kind=model.kind, scope=scope)
    if model.namespaced and "list" in model.verbs:
        everywhere = _Target(model=model, kind=model.kind, scope="")
        listing = _list(everywhere, "ForAllNamespaces")
        yield PathItem(path=f"{base}/{model.plural}", parameters=(_PRETTY,), operations=(listing,))
    yield PathItem(path=collection, parameters=shared, operations=tuple(_collection(target)))
    yield PathItem(path=item, parameters=(_NAME, *shared), operations=tuple(_item(target)))
    for sub in _subresources(model):
        below = _Target(model=model, kind=sub.kind, scope=scope, suffix=sub.name, group_version=sub.group_version)
        operations = tuple(_subresource(below, sub.verbs))
        yield PathItem(path=f"{item}/{sub.name}", parameters=(_NAME, *shared), operations=operations)


def _discovery_path(group_version: GroupVersion) -> PathItem:
    operation = Operation(
        method="get",
        action="",
        id=f"get{_id_base(group_version)}APIResources",
        description="list the resources of this group and version",
        kind=None,
        response=components.API_RESOURCE_LIST,
    )
    return PathItem(path=f"{group_version.path}/", parameters=(), operations=(operation,))


def paths(group_version: GroupVersion, models: Iterable[ResourceModel]) -> list[PathItem]:
    """Every path of a group version that answers at least one call, sorted."""
    items = [_discovery_path(group_version)]
    for model in models:
        items.extend(item for item in _resource_paths(model) if item.operations)
    return sorted(items, key=lambda item: item.path)


def tag(group_version: GroupVersion) -> str:
    """The tag that groups the operations of a group version."""
    name = _camel(group_version.group or "core")
    return f"{name[:1].lower()}{name[1:]}_{group_version.version}"
