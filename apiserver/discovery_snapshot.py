"""The discovery documents of all servers together, encoded once: a frozen value that is swapped as a whole."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from apimachinery import discovery, negotiation
from apimachinery.codec import JSON
from apimachinery.discovery import GroupVersionEntry
from apimachinery.types import Object
from apiserver.documents import Answer

_AGGREGATED = "APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class _Encoded:
    document: Object
    body: bytes
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySnapshot:
    """Make one with `build`."""

    aggregated: Mapping[tuple[str, str], _Encoded]
    """By path (`/apis`, `/api`) and version of the form."""
    plain: Mapping[str, _Encoded]
    """By path: `/apis` and `/apis/<group>`."""

    @property
    def paths(self) -> list[str]:
        """The paths of the plain documents, for the list at `/`."""
        return sorted(self.plain)

    def respond(self, target: str, accept: str, if_none_match: str) -> Answer | None:
        """The answer to a GET of a path; None for a path of somebody else. APIError 406 (aggregator.md 4.1 to 4.3)."""
        path = target.partition("?")[0]
        plain = self.plain.get(path.removesuffix("/"))
        if path not in ("/apis", "/api"):
            return _plain_answer(plain, accept) if plain is not None else None
        choice = negotiation.choose_discovery(accept)
        if choice.as_kind == _AGGREGATED:
            return _aggregated_answer(self.aggregated[path, choice.version], choice, if_none_match)
        return _plain_answer(plain, accept) if plain is not None else None


def build(entries: Iterable[GroupVersionEntry]) -> DiscoverySnapshot:
    """The documents that show these group versions; entries without a group belong to `/api`."""
    known = list(entries)
    named = [entry for entry in known if entry.group]
    aggregated: dict[tuple[str, str], _Encoded] = {}
    for path, part in (("/apis", named), ("/api", [entry for entry in known if not entry.group])):
        document = discovery.merge(part)
        aggregated[path, "v2"] = _encode(document)
        aggregated[path, "v2beta1"] = _encode(discovery.as_v2beta1(document))
    plain = {"/apis": _encode(discovery.group_list(named))}
    for group in {entry.group for entry in named}:
        plain[f"/apis/{group}"] = _encode(discovery.api_group(group, named))
    return DiscoverySnapshot(aggregated=aggregated, plain=plain)


def _encode(document: Object) -> _Encoded:
    body = negotiation.encode_json(document)
    return _Encoded(document, body, discovery.etag(body))


def _aggregated_answer(encoded: _Encoded, choice: negotiation.Choice, if_none_match: str) -> Answer:
    headers = {
        "content-type": discovery.aggregated_content_type(choice.version, choice.media_type),
        "etag": encoded.etag,
        "vary": "Accept",
        "cache-control": "public",
    }
    if if_none_match == encoded.etag:
        return Answer(304, headers, b"")
    body = encoded.body if choice.media_type == JSON else negotiation.encode_yaml(encoded.document)
    return Answer(200, headers, body)


def _plain_answer(encoded: _Encoded, accept: str) -> Answer:
    choice = negotiation.choose(accept)
    body = encoded.body if choice.media_type == JSON else negotiation.encode_yaml(encoded.document)
    return Answer(200, {"content-type": choice.media_type}, body)
