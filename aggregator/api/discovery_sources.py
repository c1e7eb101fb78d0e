"""Which servers are asked for discovery, and for which group versions they may speak. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aggregator.api import references
from aggregator.api.references import ServiceReference
from apimachinery.gvk import GroupVersion
from apimachinery.types import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One aggregated server as some APIServices describe it; they share one answer."""

    key: str
    reference: ServiceReference
    apiservices: tuple[Object, ...]

    @property
    def owned(self) -> tuple[GroupVersion, ...]:
        return tuple(references.group_version(obj) for obj in self.apiservices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a server said last. `failed` holds the group versions for which the newest attempt brought nothing."""

    documents: Mapping[GroupVersion, Object] = field(default_factory=dict)
    etag: str = ""
    failed: frozenset[GroupVersion] = frozenset()


def key_of(apiservice: Object) -> str:
    """The key of the source that answers for an APIService; empty for a local one.

    Trust is part of the key: what is fetched without verification must not stand for an APIService that demands it.
    """
    reference = references.service(apiservice)
    if reference is None:
        return ""
    spec = references.spec(apiservice)
    trust = f"{bool(spec.get('insecureSkipTLSVerify'))} {spec.get('caBundle') or ''}"
    return f"{reference}#{hashlib.sha256(trust.encode()).hexdigest()[:16]}"


def sources(apiservices: Iterable[Object]) -> dict[str, Source]:
    """The sources of all remote APIServices by key; members in order of their names."""
    members: dict[str, list[Object]] = {}
    for obj in sorted(apiservices, key=lambda obj: str(obj["metadata"]["name"])):
        key = key_of(obj)
        if key:
            members.setdefault(key, []).append(obj)
    found: dict[str, Source] = {}
    for key, objects in members.items():
        reference = references.service(objects[0])
        if reference is not None:
            found[key] = Source(key=key, reference=reference, apiservices=tuple(objects))
    return found
