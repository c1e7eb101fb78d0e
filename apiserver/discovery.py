"""The discovery documents of the resources that a server itself serves."""

from typing import NamedTuple, Protocol

from apimachinery import codec, discovery, negotiation
from apimachinery.gvk import GroupVersion
from apimachinery.types import Object
from apiserver.registry import Registry


class Answer(NamedTuple):
    """An HTTP answer as plain data; header names are lower-case."""

    code: int
    headers: dict[str, str]
    body: bytes


class DocumentSource(Protocol):
    """Answers some paths with documents; None for a path that is not its own. Raises APIError (406)."""

    def respond(self, path: str, accept: str, if_none_match: str) -> Answer | None: ...


def json_answer(document: Object) -> Answer:
    return Answer(200, {"content-type": "application/json"}, codec.encode_json(document))


class LocalDiscovery:
    """`/api`, `/apis`, `/apis/<group>` and `/apis/<group>/<version>` from a registry; encoded once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        entries = entries_of(registry)
        groups = {entry.group for entry in entries}
        self._plain: dict[str, Object] = {"/apis": discovery.group_list(entries)}
        self._aggregated = {"/apis": discovery.merge(entries), "/api": discovery.merge([])}
        for group in groups:
            self._plain[f"/apis/{group}"] = discovery.api_group(group, entries)
        for group_version in registry.group_versions():
            document = discovery.resource_list(group_version, registry.api_resources(group_version))
            self._plain[group_version.path] = document

    @property
    def paths(self) -> list[str]:
        return sorted(self._plain)

    def respond(self, path: str, accept: str, if_none_match: str) -> Answer | None:
        path = path.partition("?")[0].rstrip("/")
        if path in self._aggregated:
            choice = negotiation.choose_discovery(accept)
            if choice.as_kind == "APIGroupDiscoveryList":
                return aggregated_answer(self._aggregated[path], choice.version, if_none_match)
        document = self._plain.get(path)
        if document is None:
            return None
        choice = negotiation.choose(accept)
        if choice.media_type == "application/yaml":
            return Answer(200, {"content-type": choice.media_type}, codec.encode_yaml(document))
        return json_answer(document)


def aggregated_answer(document: Object, version: str, if_none_match: str) -> Answer:
    """An aggregated discovery document with ETag; 304 when the client has it already (aggregator.md 4.3)."""
    shown = discovery.as_v2beta1(document) if version == "v2beta1" else document
    body = codec.encode_json(shown)
    tag = discovery.etag(body)
    headers = {
        "content-type": discovery.aggregated_content_type(version),
        "etag": tag,
        "vary": "Accept",
        "cache-control": "public",
    }
    if if_none_match == tag:
        return Answer(304, headers, b"")
    return Answer(200, headers, body)


def entries_of(registry: Registry) -> list[discovery.GroupVersionEntry]:
    """One discovery entry for each served group version."""
    return [_entry(registry, group_version) for group_version in registry.group_versions()]


def _entry(registry: Registry, group_version: GroupVersion) -> discovery.GroupVersionEntry:
    return discovery.GroupVersionEntry(
        group=group_version.group,
        version=group_version.version,
        document=discovery.version_document(group_version.version, registry.api_resources(group_version)),
    )
