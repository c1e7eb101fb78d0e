"""The discovery documents of the resources that a server itself serves."""

from apimachinery import discovery
from apimachinery.gvk import GroupVersion
from apiserver import discovery_snapshot
from apiserver.documents import Answer
from apiserver.registry import Registry


class LocalDiscovery:
    """`/api`, `/apis`, `/apis/<group>` and `/apis/<group>/<version>` from a registry."""

    def __init__(self, registry: Registry) -> None:
        self._snapshot = discovery_snapshot.build(entries_of(registry))
        self._lists = discovery_snapshot.plain(
            {
                group_version.path: discovery.resource_list(group_version, registry.api_resources(group_version))
                for group_version in registry.group_versions()
            }
        )

    @property
    def paths(self) -> list[str]:
        return sorted({*self._lists.paths, *self._snapshot.paths})

    def respond(self, target: str, accept: str, if_none_match: str) -> Answer | None:
        listed = self._lists.respond(target, accept, if_none_match)
        return listed or self._snapshot.respond(target, accept, if_none_match)


def entries_of(registry: Registry) -> list[discovery.GroupVersionEntry]:
    """One discovery entry for each served group version."""
    return [_entry(registry, group_version) for group_version in registry.group_versions()]


def _entry(registry: Registry, group_version: GroupVersion) -> discovery.GroupVersionEntry:
    return discovery.GroupVersionEntry(
        group=group_version.group,
        version=group_version.version,
        document=discovery.version_document(group_version.version, registry.api_resources(group_version)),
    )
