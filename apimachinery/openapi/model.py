"""What OpenAPI documents are built from."""

from dataclasses import dataclass, field

from apimachinery.gvk import GroupVersion
from apimachinery.types import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class SubresourceModel:
    """A custom subresource."""

    name: str
    kind: str
    verbs: tuple[str, ...] = ("get",)
    """Of get, create, update and patch."""
    schema: Object = field(default_factory=dict)
    """Schema of the answer, without apiVersion and kind; ignored when `kind` is the kind of the resource."""
    description: str = ""
    group_version: GroupVersion | None = None
    """Of its kind; None for that of the resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceModel:
    """A resource as its OpenAPI documents describe it."""

    group: str
    version: str
    kind: str
    list_kind: str
    plural: str
    singular: str
    namespaced: bool
    verbs: tuple[str, ...]
    schema: Object
    """Object-level schema without apiVersion, kind and metadata."""
    description: str = ""
    has_status: bool = False
    subresources: tuple[SubresourceModel, ...] = ()
    virtual: bool = False
    """Whether listing answers one document of `kind` itself, and nothing is stored."""

    @property
    def group_version(self) -> GroupVersion:
        return GroupVersion(self.group, self.version)


@dataclass(frozen=True, slots=True)
class GroupVersionKind:
    """A kind in the form of the extension `x-kubernetes-group-version-kind`."""

    group: str
    version: str
    kind: str

    def extension(self) -> Object:
        return {"group": self.group, "version": self.version, "kind": self.kind}
