"""The order in which APIServices and their groups are shown (aggregator.md 1.6)."""

from collections.abc import Iterable

from aggregator.api import references
from apimachinery.gvk import version_sort_key
from apimachinery.types import Object


def by_priority(apiservices: Iterable[Object]) -> list[Object]:
    """All services: highest group priority first, ties by object name."""
    return sorted(apiservices, key=lambda obj: (-references.group_priority(obj), obj["metadata"]["name"]))


def by_group(apiservices: Iterable[Object]) -> list[tuple[str, list[Object]]]:
    """The services of each group, most preferred version first; a group stands where its highest service stands."""
    groups: dict[str, list[Object]] = {}
    for obj in by_priority(apiservices):
        groups.setdefault(references.group_version(obj).group, []).append(obj)
    return [(group, sorted(members, key=_version_key)) for group, members in groups.items()]


def _version_key(obj: Object) -> tuple[int, tuple[int, int, int, int, str]]:
    return (-references.version_priority(obj), version_sort_key(references.group_version(obj).version))
