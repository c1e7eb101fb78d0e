"""The discovery documents of the resources that a server itself serves."""

from apimachinery import codec, discovery, negotiation
from apimachinery.gvk import GroupVersion
from apiserver import discovery_snapshot
from apiserver.documents import Answer
from apiserver.registry import Registry


class LocalDiscovery:
    """`/api`, `/apis`, `/apis/<group>` and `/apis/<group>/<version>` from a registry."""

    def __init__(self, registry: Registry) -> None:
        self._snapshot = discovery_snapshot.build(entries_of(registry))
        self._lists = {
            group_version.path: discovery.resource_list(group_version, registry.api_resources(group_version))
            for group_version in registry.group_versions()
        }

    @property
    def paths(self) -> list[str]:
        return sorted({*self._lists, *self._snapshot.paths})

    def respond(self, target: str, accept: str, if_none_match: str) -> Answer | None:
        found = self._lists.get(target.partition("?")[0].removesuffix("/"))
        if found is None:
            return self._snapshot.respond(target, accept, if_none_match)
        choice = negotiation.choose(accept)
        body = codec.encode_yaml(found) if choice.media_type == codec.YAML else codec.encode_json(found)
        return Answer(200, {"content-type": choice.media_type}, body)


def entries_of(registry: Registry) -> list[discovery.GroupVersionEntry]:
    """One discovery entry for each served group version."""
    return [_entry(registry, group_version) for group_version in registry.group_versions()]


def _entry(registry: Registry, group_version: GroupVersion) -> discovery.GroupVersionEntry:
    return discovery.GroupVersionEntry(
        group=group_version.group,
        version=group_version.version,
        document=discovery.version_document(group_version.version, registry.api_resources(group_version)),
    )
