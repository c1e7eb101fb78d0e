"""How the groups that this server itself serves rank among all groups (aggregator.md 6.3, 6.4). Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aggregator.api import apiservice
from aggregator.api.references import object_name
from apimachinery.gvk import GroupVersion, version_sort_key
from apimachinery.types import Object


@dataclass(frozen=True, slots=True)
class Priority:
    group: int
    version: int


SELF_PRIORITY: Final = Priority(20001, 0)
"""apiregistration.k8s.io leads every list: it has no APIService, and no APIService can rank above it."""

_TABLE: Final = {
    GroupVersion("", "v1"): Priority(18000, 1),
    GroupVersion("apiextensions.k8s.io", "v1"): Priority(16700, 15),
    GroupVersion("admissionregistration.k8s.io", "v1"): Priority(16700, 15),
    GroupVersion("admissionregistration.k8s.io", "v1beta1"): Priority(16700, 12),
    GroupVersion("admissionregistration.k8s.io", "v1alpha1"): Priority(16700, 9),
    GroupVersion("service.grafana.app", "v0alpha1"): Priority(15000, 1),
}
_OTHER_GROUP_PRIORITY: Final = 15000
_OTHER_VERSION_PRIORITY: Final = 9


def priority_of(group_version: GroupVersion) -> Priority:
    """The rank of a local group version; one that the table does not name ranks with service.grafana.app.

    Versions outside the table share one priority, which leaves their order to the order of versions.
    """
    if group_version.group == apiservice.GROUP:
        return SELF_PRIORITY
    return _TABLE.get(group_version, Priority(_OTHER_GROUP_PRIORITY, _OTHER_VERSION_PRIORITY))


def local_apiservices(group_versions: Iterable[GroupVersion]) -> list[Object]:
    """The APIServices of what this server serves itself, but for apiregistration.k8s.io, which is never registered."""
    served = {gv for gv in group_versions if gv.group != apiservice.GROUP}
    return [_local(gv) for gv in sorted(served, key=lambda gv: (gv.group, version_sort_key(gv.version)))]


def _local(group_version: GroupVersion) -> Object:
    priority = priority_of(group_version)
    return {
        "apiVersion": f"{apiservice.GROUP}/{apiservice.VERSION}",
        "kind": "APIService",
        "metadata": {"name": object_name(group_version)},
        "spec": {
            "group": group_version.group,
            "version": group_version.version,
            "groupPriorityMinimum": priority.group,
            "versionPriority": priority.version,
        },
    }
