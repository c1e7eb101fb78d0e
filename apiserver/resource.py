"""How a server declares a resource: everything else (routes, discovery, OpenAPI, tables) is derived from it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from apimachinery.gvk import GroupKind, GroupResource, GroupVersion
from apimachinery.identity import User
from apimachinery.protobuf.message import Message
from apimachinery.scale import ScalePaths
from apimachinery.table import Column
from apimachinery.types import Object
from apiserver.strategy import Strategy

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubresourceRequest:
    """What a custom subresource is asked: the caller, the parent object and the query (single values)."""

    user: User
    parent: Object
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """What a resource without storage is sent: the caller and the object, checked against schema and strategy."""

    user: User
    namespace: str
    object: Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Subresource:
    """A custom subresource, answered with GET by a function of the parent object."""

    name: str
    kind: str
    get: Callable[[SubresourceRequest], Awaitable[Object]]
    schema: Object = field(default_factory=dict)
    """OpenAPI schema of the answer."""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resource:
    """A kind of object and how the API shows it."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    schema: Object
    """OpenAPI v3 schema of the object, as in a CRD: `type: object`, `properties` such as `spec` and `status`.

    `apiVersion`, `kind` and `metadata` are added by the library. Descriptions show in `kubectl explain`.
    """
    strategy: Strategy = field(default_factory=Strategy)
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    """Table columns; empty means Name and Age (`apimachinery.table.DEFAULT_COLUMNS`)."""
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    """Custom subresources. `status` is not listed here: it exists when `strategy.has_status`."""
    scale: ScalePaths | None = None
    """Where the numbers of replicas are; declares the scale subresource, with which `kubectl scale` works."""
    selectable_fields: tuple[str, ...] = ()
    """Dotted paths usable in field selectors besides metadata.name and metadata.namespace, e.g. `spec.host`."""
    virtual_list: Callable[[User], Awaitable[Object]] | None = None
    """For a resource without storage: answers list (and nothing else) with one document. `verbs` must be ("list",)."""
    virtual_create: Callable[[CreateRequest], Awaitable[Object]] | None = None
    """For a resource without storage: answers create (and nothing else) with the complete object, such as a question
    with its answer. It may raise APIError. `verbs` must be ("create",)."""
    unstored: Callable[[str], Object | None] | None = None
    """What get answers for a name that is not stored, instead of 404; None for a name that cannot be. Lists and watches
    show what is stored."""
    protobuf: Message | None = None
    """The message that clients may send instead of JSON or YAML; answers are JSON all the same."""
    description: str = ""

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List"

    @property
    def group_version(self) -> GroupVersion:
        return GroupVersion(self.group, self.version)

    @property
    def group_resource(self) -> GroupResource:
        return GroupResource(self.group, self.plural)

    @property
    def group_kind(self) -> GroupKind:
        return GroupKind(self.group, self.kind)

    @property
    def api_version(self) -> str:
        return str(self.group_version)
