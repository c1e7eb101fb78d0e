"""The discovery documents of all servers together: a frozen value that is swapped as a whole."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from apimachinery import discovery, negotiation
from apimachinery.codec import JSON
from apimachinery.discovery import GroupVersionEntry
from apimachinery.negotiation import Choice
from apimachinery.types import Object
from apiserver.documents import Answer, not_modified

_AGGREGATED = "APIGroupDiscoveryList"
_YAML_BYTES = 64 * 1024
_ACCEPT_LENGTH = 512
"""Longer Accept headers are not remembered."""


class _Encoded:
    """A document in all its forms, each made when it is first asked for."""

    def __init__(self, document: Object) -> None:
        self._document = document

    @cached_property
    def json(self) -> bytes:
        return negotiation.encode_json(self._document)

    @cached_property
    def etag(self) -> str:
        return discovery.etag(self.json)

    @cached_property
    def _yaml(self) -> bytes:
        # A YAML writer does one megabyte in a second, during which nobody else is served; JSON is YAML, too.
        return self.json if len(self.json) > _YAML_BYTES else negotiation.encode_yaml(self._document)

    def in_form(self, choice: Choice) -> bytes:
        if choice.media_type != JSON:
            return self._yaml
        return negotiation.encode_json(self._document, pretty=True) if choice.pretty else self.json


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySnapshot:
    """Make one with `build` or `plain`."""

    aggregated: Mapping[tuple[str, str], _Encoded]
    """By path (`/apis`, `/api`) and version of the form."""
    plain: Mapping[str, _Encoded]
    """By path: `/api`, `/apis`, `/apis/<group>`."""

    @property
    def paths(self) -> list[str]:
        """The paths of the plain documents, for the list at `/`."""
        return sorted(self.plain)

    def respond(self, target: str, accept: str, if_none_match: str) -> Answer | None:
        """The answer to a GET of a path; None for a path of somebody else. APIError 406 (aggregator.md 4.1 to 4.3)."""
        path = target.partition("?")[0]
        aggregates = (path, "v2") in self.aggregated
        plain = self.plain.get(path.removesuffix("/"))
        if plain is None and not aggregates:
            return None
        choice = _choice(accept, aggregates=aggregates)
        if choice.as_kind == _AGGREGATED:
            content_type = discovery.aggregated_content_type(choice.version, choice.media_type)
            headers = {"content-type": content_type, "cache-control": "public"}
            return _answer(self.aggregated[path, choice.version], choice, headers, if_none_match)
        if plain is None:
            return None
        return _answer(plain, choice, {"content-type": choice.media_type}, if_none_match)


def build(entries: Iterable[GroupVersionEntry]) -> DiscoverySnapshot:
    """The documents that show these group versions; entries without a group belong to `/api`."""
    known = list(entries)
    named = [entry for entry in known if entry.group]
    aggregated: dict[tuple[str, str], _Encoded] = {}
    for path, part in (("/apis", named), ("/api", [entry for entry in known if not entry.group])):
        document = discovery.merge(part)
        aggregated[path, "v2"] = _Encoded(document)
        aggregated[path, "v2beta1"] = _Encoded(discovery.as_v2beta1(document))
    legacy = discovery.api_versions(entry.version for entry in known if not entry.group)
    plain = {"/api": _Encoded(legacy), "/apis": _Encoded(discovery.group_list(named))}
    for group in {entry.group for entry in named}:
        plain[f"/apis/{group}"] = _Encoded(discovery.api_group(group, named))
    return DiscoverySnapshot(aggregated=aggregated, plain=plain)


def plain(documents: Mapping[str, Object]) -> DiscoverySnapshot:
    """Documents by path that have no aggregated form, such as an APIResourceList."""
    return DiscoverySnapshot(aggregated={}, plain={path: _Encoded(document) for path, document in documents.items()})


def _choice(accept: str, *, aggregates: bool) -> Choice:
    if len(accept) > _ACCEPT_LENGTH:
        return _chosen.__wrapped__(accept, aggregates)
    return _chosen(accept, aggregates)


@lru_cache(maxsize=256)
def _chosen(accept: str, aggregates: bool) -> Choice:
    return negotiation.choose_discovery(accept) if aggregates else negotiation.choose(accept)


def _answer(encoded: _Encoded, choice: Choice, headers: dict[str, str], if_none_match: str) -> Answer:
    headers |= {"etag": encoded.etag, "vary": "Accept"}
    if if_none_match and not_modified(if_none_match, encoded.etag):
        return Answer(304, headers, b"")
    return Answer(200, headers, encoded.in_form(choice))
