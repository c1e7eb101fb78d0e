"""Discovery documents, plain and aggregated, and how those of several servers merge (aggregator.md 4, 1.6)."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from apimachinery.gvk import GroupVersion, version_sort_key
from apimachinery.types import Object

Freshness = Literal["Current", "Stale"]

_AGGREGATED_GROUP = "apidiscovery.k8s.io"
_AGGREGATED_KIND = "APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True, kw_only=True)
class APIResource:
    """A resource, or with a `/` in its name a subresource, as discovery shows it."""

    name: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    group: str = ""
    """Group and version of the kind, which may differ from those the resource is served under."""
    version: str = ""


def aggregated_content_type(version: str, media_type: str = "application/json") -> str:
    """The content type of an aggregated document, in exactly the spelling that clients compare with."""
    return f"{media_type};g={_AGGREGATED_GROUP};v={version};as={_AGGREGATED_KIND}"


def etag(data: bytes) -> str:
    """The quoted entity tag of a document: upper-case hexadecimal SHA-512."""
    return f'"{hashlib.sha512(data).hexdigest().upper()}"'


def _legacy_entry(served: GroupVersion, resource: APIResource) -> Object:
    entry: Object = {
        "name": resource.name,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.version and (resource.group, resource.version) != (served.group, served.version):
        entry["group"] = resource.group
        entry["version"] = resource.version
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    return entry


def resource_list(group_version: GroupVersion, resources: Iterable[APIResource]) -> Object:
    """The APIResourceList of a group version."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": str(group_version),
        "resources": [_legacy_entry(group_version, resource) for resource in resources],
    }


def _response_kind(resource: APIResource) -> Object:
    if not resource.kind:
        return {"group": "", "version": "", "kind": ""}
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _scope(namespaced: bool) -> str:
    return "Namespaced" if namespaced else "Cluster"


def _aggregated_entry(resource: APIResource) -> Object:
    entry: Object = {
        "resource": resource.name,
        "responseKind": _response_kind(resource),
        "scope": _scope(resource.namespaced),
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    return entry


def version_document(version: str, resources: Iterable[APIResource], freshness: Freshness = "Current") -> Object:
    """One entry of `versions[]` of an aggregated document, subresources below their resource.

    A subresource without its resource gets one of unknown kind; ValueError when the two differ in scope.
    """
    entries: dict[str, Object] = {}
    for resource in resources:
        parent, slash, name = resource.name.partition("/")
        if not slash:
            subresources = entries.get(parent, {}).get("subresources")
            entries[parent] = _aggregated_entry(resource)
            if subresources is not None:
                entries[parent]["subresources"] = subresources
            continue
        if parent not in entries:
            placeholder = APIResource(name=parent, kind="", namespaced=resource.namespaced, verbs=())
            entries[parent] = _aggregated_entry(placeholder)
        elif entries[parent]["scope"] != _scope(resource.namespaced):
            raise ValueError(f"subresource {resource.name} differs in scope from its resource")
        subresource = {
            "subresource": name,
            "responseKind": _response_kind(resource),
            "verbs": list(resource.verbs),
        }
        entries[parent].setdefault("subresources", []).append(subresource)
    return {"version": version, "resources": list(entries.values()), "freshness": freshness}


def _texts(document: Object, field: str) -> tuple[str, ...]:
    value = document.get(field)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{field} of an APIResource must be a list of strings")
    return tuple(value)


def _text(document: Object, field: str) -> str:
    value = document.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{field} must be a string")
    return value


def _from_legacy(served: GroupVersion, document: Any) -> APIResource:
    if not isinstance(document, dict):
        raise ValueError("resources of an APIResourceList must be objects")
    version = _text(document, "version")
    return APIResource(
        name=_text(document, "name"),
        kind=_text(document, "kind"),
        namespaced=document.get("namespaced") is True,
        verbs=_texts(document, "verbs"),
        singular=_text(document, "singularName"),
        short_names=_texts(document, "shortNames"),
        categories=_texts(document, "categories"),
        group=_text(document, "group") if version else served.group,
        version=version or served.version,
    )


def version_document_from_legacy(resource_list_doc: Object) -> Object:
    """The `versions[]` entry that an APIResourceList says the same as. ValueError when it is malformed.

    Where the list leaves out group and version of a kind, they are those of the list.
    """
    served = GroupVersion.parse(_text(resource_list_doc, "groupVersion"))
    resources = resource_list_doc.get("resources")
    if resources is None:
        resources = []
    if not isinstance(resources, list):
        raise ValueError("resources must be a list")
    return version_document(served.version, [_from_legacy(served, item) for item in resources])


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupVersionEntry:
    """A group version that somebody serves."""

    group: str
    version: str
    document: Object
    """The entry of `versions[]`; see `version_document`."""
    group_priority: int = 1000
    """Greater comes first; the greatest among a group's versions counts."""
    version_priority: int = 15
    """Greater comes first within the group."""
    source: int = 0
    """Who serves it; of several sources of one group version the lowest number wins."""


def _winners(entries: Iterable[GroupVersionEntry]) -> Mapping[str, list[GroupVersionEntry]]:
    """Per group one entry for each version, most preferred version first."""
    best: dict[tuple[str, str], GroupVersionEntry] = {}
    for entry in entries:
        key = (entry.group, entry.version)
        if key not in best or entry.source < best[key].source:
            best[key] = entry
    groups: dict[str, list[GroupVersionEntry]] = {}
    for entry in best.values():
        groups.setdefault(entry.group, []).append(entry)
    for members in groups.values():
        members.sort(key=lambda entry: (-entry.version_priority, version_sort_key(entry.version)))
    return groups


def merge(entries: Iterable[GroupVersionEntry]) -> Object:
    """The aggregated document (`apidiscovery.k8s.io/v2`): groups by priority, then name (aggregator.md 4.4)."""
    groups = _winners(entries)
    order = sorted(groups, key=lambda name: (-max(entry.group_priority for entry in groups[name]), name))
    return {
        "kind": _AGGREGATED_KIND,
        "apiVersion": f"{_AGGREGATED_GROUP}/v2",
        "metadata": {},
        "items": [
            {"metadata": {"name": name}, "versions": [entry.document for entry in groups[name]]} for name in order
        ],
    }


def as_v2beta1(doc: Object) -> Object:
    """The same document for clients that only know the beta version, whose shape is the same."""
    return {**doc, "apiVersion": f"{_AGGREGATED_GROUP}/v2beta1"}


def _group_body(name: str, members: Sequence[GroupVersionEntry]) -> Object:
    versions = [{"groupVersion": str(GroupVersion(name, entry.version)), "version": entry.version} for entry in members]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _service_order(entry: GroupVersionEntry) -> tuple[int, str]:
    # Plain discovery walks APIServices by priority and then object name, and those names begin with the version.
    return (-entry.group_priority, f"{entry.version}.{entry.group}")


def group_list(entries: Iterable[GroupVersionEntry]) -> Object:
    """The APIGroupList of `/apis` (aggregator.md 4.1, 1.6): a group stands where its best service sorts.

    The legacy group (empty name) is not part of it.
    """
    groups = _winners(entries)
    ranked = sorted((entry for members in groups.values() for entry in members), key=_service_order)
    order = dict.fromkeys(entry.group for entry in ranked if entry.group)
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group_body(name, groups[name]) for name in order],
    }


def api_versions(versions: Iterable[str]) -> Object:
    """The APIVersions of `/api`, the versions of the legacy group.

    It exists on a server without that group too: there are clients that cannot do without.
    """
    return {"kind": "APIVersions", "versions": list(versions), "serverAddressByClientCIDRs": []}


def api_group(name: str, entries: Iterable[GroupVersionEntry]) -> Object:
    """The APIGroup of `/apis/<group>`. KeyError when no entry is of the group."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group_body(name, _winners(entries)[name])}
