"""Reading what an aggregated server answers to discovery; nothing in it is trusted (aggregator.md 4.5). Pure."""

from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

from apimachinery import discovery
from apimachinery.gvk import GroupVersion
from apimachinery.types import Object

ACCEPT_AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
MAX_RESOURCES: Final = 10_000
"""Most resources of one group version that are taken over; no real server comes near."""
_FORM: Final = {"g": "apidiscovery.k8s.io", "v": "v2", "as": "APIGroupDiscoveryList"}


class UnusableAnswerError(ValueError):
    """The answer is not what it should be; the text says why, for a log."""


def is_aggregated(content_type: str) -> bool:
    """Whether a Content-Type is JSON in aggregated form v2; parameters may come in any order and with others."""
    media_type, *raw = content_type.split(";")
    parameters = dict(item.strip().split("=", 1) for item in raw if "=" in item)
    return media_type.strip().lower() == "application/json" and all(
        parameters.get(name, "").strip('"') == value for name, value in _FORM.items()
    )


def parse_aggregated(body: bytes, owned: Collection[GroupVersion]) -> dict[GroupVersion, Object]:
    """The version documents of the group versions that the server may speak for; all others are ignored."""
    document = _load(body)
    if document.get("kind") != _FORM["as"]:
        raise UnusableAnswerError(f"the document is no {_FORM['as']}")
    wanted = set(owned)
    found: dict[GroupVersion, Object] = {}
    for group in _dicts(document, "items"):
        name = group.get("metadata", {}).get("name") if isinstance(group.get("metadata"), dict) else None
        for version in _dicts(group, "versions"):
            group_version = GroupVersion(str(name or ""), str(version.get("version") or ""))
            if group_version in wanted:
                found[group_version] = _version_document(version)
    return found


def parse_legacy(body: bytes, group_version: GroupVersion) -> Object:
    """The version document that an APIResourceList amounts to."""
    document = _load(body)
    if document.get("kind") != "APIResourceList":
        raise UnusableAnswerError("the document is no APIResourceList")
    resources = _dicts(document, "resources")
    _check_count(len(resources))
    clean = [entry for entry in map(_legacy_resource, resources) if entry is not None]
    try:
        return discovery.version_document_from_legacy(
            {**document, "groupVersion": str(group_version), "resources": clean}
        )
    except ValueError as error:
        raise UnusableAnswerError(str(error)) from error


def _load(body: bytes) -> Object:
    try:
        document = orjson.loads(body)
    except ValueError as error:
        raise UnusableAnswerError(f"the document is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise UnusableAnswerError("the document is no JSON object")
    return document


def _dicts(parent: Mapping[str, Any], name: str) -> list[Object]:
    found = parent.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise UnusableAnswerError(f"`{name}` is no list of objects")
    return found


def _check_count(count: int) -> None:
    if count > MAX_RESOURCES:
        raise UnusableAnswerError(f"a group version lists {count} resources, more than {MAX_RESOURCES}")


def _version_document(version: Object) -> Object:
    resources = _dicts(version, "resources")
    _check_count(len(resources))
    clean = [_resource(entry) for entry in resources if entry.get("resource") and isinstance(entry["resource"], str)]
    return {"version": str(version["version"]), "freshness": "Current", "resources": clean}


def _resource(entry: Object) -> Object:
    clean: Object = {
        "resource": entry["resource"],
        "responseKind": _kind(entry),
        "scope": "Namespaced" if entry.get("scope") == "Namespaced" else "Cluster",
        "singularResource": _text(entry, "singularResource"),
        "verbs": _texts(entry, "verbs"),
    }
    for name in ("shortNames", "categories"):
        if _texts(entry, name):
            clean[name] = _texts(entry, name)
    subresources = [
        _subresource(item) for item in _dicts(entry, "subresources") if isinstance(item.get("subresource"), str)
    ]
    if subresources:
        clean["subresources"] = subresources
    return clean


def _subresource(entry: Object) -> Object:
    clean: Object = {
        "subresource": entry["subresource"],
        "responseKind": _kind(entry),
        "verbs": _texts(entry, "verbs"),
    }
    accepted = [_group_version_kind(item) for item in _dicts(entry, "acceptedTypes")]
    if accepted:
        clean["acceptedTypes"] = accepted
    return clean


def _kind(entry: Object) -> Object:
    # Clients skip a resource without responseKind, and fail on one that is null.
    found = entry.get("responseKind")
    return _group_version_kind(found if isinstance(found, dict) else {})


def _group_version_kind(entry: Object) -> Object:
    return {name: _text(entry, name) for name in ("group", "version", "kind")}


def _text(entry: Object, name: str) -> str:
    found = entry.get(name)
    return found if isinstance(found, str) else ""


def _texts(entry: Object, name: str) -> list[str]:
    found = entry.get(name)
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def _legacy_resource(entry: Object) -> Object | None:
    name = _text(entry, "name")
    if not name or name.count("/") > 1:
        return None
    clean: Object = {
        "name": name,
        "singularName": _text(entry, "singularName"),
        "namespaced": entry.get("namespaced") is True,
        "kind": _text(entry, "kind"),
        "verbs": _texts(entry, "verbs"),
    }
    for field in ("group", "version"):
        if _text(entry, field):
            clean[field] = _text(entry, field)
    for field in ("shortNames", "categories"):
        if _texts(entry, field):
            clean[field] = _texts(entry, field)
    return clean
