"""The set of resources a server serves; discovery and OpenAPI models are derived from it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from apimachinery import scale as scales
from apimachinery.discovery import APIResource
from apimachinery.gvk import GroupVersion, version_sort_key
from apimachinery.openapi.model import ResourceModel, SubresourceModel
from apiserver.resource import Resource

_CHANGING: Final = ("get", "patch", "update")
"""What status and scale are asked for."""


class Registry:
    """Immutable; ValueError when two resources have the same group, version and plural name."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self.resources: tuple[Resource, ...] = tuple(resources)
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        for resource in self.resources:
            path = (resource.group, resource.version, resource.plural)
            if path in self._by_path:
                raise ValueError(f"resource {resource.group_resource} is declared twice in version {resource.version}")
            self._by_path[path] = resource

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_path.get((group, version, plural))

    def group_versions(self) -> list[GroupVersion]:
        """Every served group version: groups by name, versions most preferred first."""
        found = {resource.group_version for resource in self.resources}
        return sorted(found, key=lambda gv: (gv.group, version_sort_key(gv.version)))

    def of(self, group_version: GroupVersion) -> list[Resource]:
        return [resource for resource in self.resources if resource.group_version == group_version]

    def api_resources(self, group_version: GroupVersion) -> list[APIResource]:
        """The discovery entries of a group version, each subresource after its resource."""
        entries: list[APIResource] = []
        for resource in self.of(group_version):
            entries.extend(_api_resources(resource))
        return entries

    def models(self, group_version: GroupVersion) -> list[ResourceModel]:
        return [_model(resource) for resource in self.of(group_version)]


def _entry(resource: Resource, name: str, kind: str, verbs: Sequence[str], *, top: bool) -> APIResource:
    return APIResource(
        name=name,
        singular=resource.singular if top else "",
        namespaced=resource.namespaced,
        kind=kind,
        verbs=tuple(verbs),
        short_names=resource.short_names if top else (),
        categories=resource.categories if top else (),
        group=resource.group,
        version=resource.version,
    )


def _api_resources(resource: Resource) -> list[APIResource]:
    entries = [_entry(resource, resource.plural, resource.kind, resource.verbs, top=True)]
    if resource.strategy.has_status:
        entries.append(_entry(resource, f"{resource.plural}/status", resource.kind, _CHANGING, top=False))
    if resource.scale is not None:
        entry = _entry(resource, f"{resource.plural}/{scales.SUBRESOURCE}", scales.KIND, _CHANGING, top=False)
        entries.append(replace(entry, group=scales.GROUP, version=scales.VERSION))
    for sub in resource.subresources:
        entries.append(_entry(resource, f"{resource.plural}/{sub.name}", sub.kind, ("get",), top=False))
    return entries


def _subresource_models(resource: Resource) -> Iterator[SubresourceModel]:
    if resource.scale is not None:
        yield SubresourceModel(
            name=scales.SUBRESOURCE,
            kind=scales.KIND,
            verbs=_CHANGING,
            schema={"properties": {"metadata": {"type": "object"}, **scales.SCHEMA["properties"]}},
            description=scales.SCHEMA["description"],
            group_version=GroupVersion(scales.GROUP, scales.VERSION),
        )
    for sub in resource.subresources:
        yield SubresourceModel(
            name=sub.name, kind=sub.kind, verbs=("get",), schema=sub.schema, description=sub.description
        )


def _model(resource: Resource) -> ResourceModel:
    return ResourceModel(
        group=resource.group,
        version=resource.version,
        kind=resource.kind,
        list_kind=resource.list_kind,
        plural=resource.plural,
        singular=resource.singular,
        namespaced=resource.namespaced,
        verbs=resource.verbs,
        schema=resource.schema,
        description=resource.description,
        has_status=resource.strategy.has_status,
        subresources=tuple(_subresource_models(resource)),
        virtual=resource.virtual_list is not None or resource.virtual_create is not None,
    )
