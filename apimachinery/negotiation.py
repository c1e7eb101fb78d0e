"""Which representation an answer takes, from the Accept header (rest.md A1.2, aggregator.md 4.2, 5.1, 5.2)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from apimachinery import status
from apimachinery.codec import JSON, YAML, body_media_type, decode_body, duplicate_fields, encode_json, encode_yaml
from apimachinery.options import Query, first

__all__ = [
    "JSON",
    "OPENAPI_V2_PROTOBUF",
    "YAML",
    "Choice",
    "body_media_type",
    "choose",
    "choose_discovery",
    "choose_openapi_v2",
    "choose_openapi_v3",
    "decode_body",
    "duplicate_fields",
    "encode_json",
    "encode_yaml",
    "pretty_wanted",
]

OPENAPI_V2_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

_META_GROUP = "meta.k8s.io"
_META_VERSIONS = ("v1", "v1beta1")
_DISCOVERY_GROUP = "apidiscovery.k8s.io"
_DISCOVERY_KIND = "APIGroupDiscoveryList"
_DISCOVERY_VERSIONS = ("v2", "v2beta1")
_TRANSFORM_PARAMETERS = frozenset({"as", "g", "v"})
_TRUE_TEXTS = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_PRETTY_AGENTS = ("curl", "Wget", "Mozilla/5.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The representation agreed on."""

    media_type: str = JSON
    as_kind: str = ""
    """What the object is converted to: empty (nothing), Table, PartialObjectMetadata, PartialObjectMetadataList or
    APIGroupDiscoveryList."""
    version: str = ""
    """The version of `as_kind`, without its group."""
    pretty: bool = False
    """Whether the clause itself asked for indentation (`;pretty=1`)."""


@dataclass(frozen=True, slots=True)
class _Clause:
    main: str
    sub: str
    parameters: Mapping[str, str]

    def matches(self, media_type: str) -> bool:
        main, _, sub = media_type.partition("/")
        if self.main == "*":
            return self.sub == "*"
        return self.main == main and self.sub in (sub, "*")

    @property
    def transforms(self) -> bool:
        return not _TRANSFORM_PARAMETERS.isdisjoint(self.parameters)

    def converts(self, group: str, kinds: Collection[str], versions: Collection[str]) -> bool:
        """Whether the clause asks for one of the kinds, in one of the versions of the group."""
        asked = self.parameters
        return asked.get("g") == group and asked.get("as") in kinds and asked.get("v") in versions


def _quality(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value <= 1 else 0.0


def _parse_clause(text: str) -> tuple[float, _Clause] | None:
    media_range, *raw_parameters = text.split(";")
    main, slash, sub = (piece.strip().lower() for piece in media_range.partition("/"))
    if not slash and main == "*":
        sub = "*"
    if not main or not sub or "/" in sub:
        return None
    quality = 1.0
    parameters: dict[str, str] = {}
    for raw in raw_parameters:
        name, equals, value = raw.partition("=")
        if not equals:
            continue
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "q":
            quality = _quality(value)
        else:
            parameters[name] = value
    return quality, _Clause(main, sub, parameters)


def _clauses(accept: str) -> list[_Clause]:
    """The clauses in the order a client prefers them: by quality, then specific before wildcard, then as written.

    A clause with quality 0 names what is not acceptable (RFC 9110 12.4.2) and is left out.
    """
    parsed = [clause for text in accept.split(",") if (clause := _parse_clause(text)) is not None]
    ranked = sorted(parsed, key=lambda pair: (-pair[0], pair[1].main == "*", pair[1].sub == "*"))
    return [clause for quality, clause in ranked if quality > 0]


def _first_match(clause: _Clause, media_types: Iterable[str]) -> str | None:
    return next((media_type for media_type in media_types if clause.matches(media_type)), None)


def choose(accept: str, *, as_kinds: Collection[str] = (), stream: bool = False) -> Choice:
    """The representation of an answer; an empty `accept` means JSON. APIError 406 when no clause can be met.

    `as_kinds` are the conversions that the endpoint can do; a clause that asks for another one is passed over.
    A `stream` (watch) exists in JSON only, as YAML has no framing.
    """
    if not accept.strip():
        return Choice()
    media_types = (JSON,) if stream else (JSON, YAML)
    for clause in _clauses(accept):
        media_type = _first_match(clause, media_types)
        if media_type is None or clause.parameters.get("sv"):
            continue
        asked_stream = clause.parameters.get("stream", "")
        if asked_stream and (asked_stream != "watch" or media_type != JSON):
            continue
        if clause.transforms and not clause.converts(_META_GROUP, as_kinds, _META_VERSIONS):
            continue
        return Choice(
            media_type=media_type,
            as_kind=clause.parameters.get("as", ""),
            version=clause.parameters.get("v", ""),
            pretty=clause.parameters.get("pretty") == "1",
        )
    suffix = ";stream=watch" if stream else ""
    raise status.only_media_types(media_type + suffix for media_type in media_types)


def choose_discovery(accept: str) -> Choice:
    """The representation of `/api` and `/apis`: aggregated when any clause asks for it, even after a plain one.

    APIError 406 when the client offers nothing but conversions that are unknown here.
    """
    for clause in _clauses(accept):
        media_type = _first_match(clause, (JSON, YAML))
        if media_type and clause.converts(_DISCOVERY_GROUP, (_DISCOVERY_KIND,), _DISCOVERY_VERSIONS):
            return Choice(
                media_type=media_type,
                as_kind=_DISCOVERY_KIND,
                version=clause.parameters["v"],
                pretty=clause.parameters.get("pretty") == "1",
            )
    return choose(accept)


def _choose_document(accept: str, offers: Sequence[tuple[str, str]]) -> str | None:
    """The content type of the first offer (name in Accept, content type) that the client takes."""
    if not accept.strip():
        return offers[0][1]
    for clause in _clauses(accept):
        for offer, content_type in offers:
            if clause.matches(offer):
                return content_type
    return None


def choose_openapi_v2(accept: str) -> str | None:
    """The content type of the OpenAPI v2 document, JSON or protobuf; None when nothing is acceptable (406)."""
    offers = (
        (JSON, JSON),
        (OPENAPI_V2_PROTOBUF, OPENAPI_V2_PROTOBUF),
        # Clients ask with `@`, which is no legal character of a media type; the answer names the legal form.
        ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", OPENAPI_V2_PROTOBUF),
    )
    return _choose_document(accept, offers)


def choose_openapi_v3(accept: str) -> str | None:
    """The content type of an OpenAPI v3 document; None when nothing is acceptable (406). Only JSON exists."""
    return _choose_document(accept, ((JSON, JSON),))


def pretty_wanted(query: Query, user_agent: str) -> bool:
    """Whether to indent: as the `pretty` parameter says, else for people's tools (curl, wget, browsers)."""
    text = first(query, "pretty")
    if text:
        return text in _TRUE_TEXTS
    return user_agent.startswith(_PRETTY_AGENTS)
