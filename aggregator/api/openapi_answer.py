"""Reading the OpenAPI documents of aggregated servers; nothing in them is trusted (aggregator.md 5).

Pure, but slow for large documents: everything but `parse_root` is for `openapi_worker` to call.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import orjson

from apimachinery import discovery
from apimachinery.gvk import GroupVersion
from apimachinery.openapi import merge, protobuf, v2_to_v3

_V3_PREFIX: Final = "/openapi/v3/"
_MALFORMED = (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""What code that expects a well-formed document raises on any other."""


class UnusableDocumentError(ValueError):
    """The document is not what it should be; the text says why, for a log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class V3Document:
    """The v3 document of a group version as a server sent it."""

    body: bytes
    hash: str
    """Of the body, upper-case hexadecimal; ours, whatever the server calls it."""
    source_hash: str = ""
    """What the server's root document says, to tell whether the document changed; empty when it says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class V2Document:
    """The v2 document of a server, reduced to the group versions it may speak for."""

    body: bytes
    etag: str
    """Of the server's answer; made from the body when it sends none, and then not to be sent back."""
    from_server: bool
    owned: tuple[GroupVersion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOpenAPI:
    """What one server said last and well. `v3` is by key, `apis/<group>/<version>`."""

    v3: Mapping[str, V3Document] = field(default_factory=dict)
    v2: V2Document | None = None


def key_of(group_version: GroupVersion) -> str:
    """The key of a group version in the root document of OpenAPI v3."""
    return group_version.path.removeprefix("/")


def parse_root(body: bytes, owned: Collection[GroupVersion]) -> dict[str, tuple[str, str]]:
    """(path to ask, hash) by key, for the group versions the server may speak for."""
    paths = _load(body).get("paths")
    if not isinstance(paths, dict):
        raise UnusableDocumentError("the root document has no paths")
    found: dict[str, tuple[str, str]] = {}
    for key in map(key_of, owned):
        entry = paths.get(key)
        url = entry.get("serverRelativeURL") if isinstance(entry, dict) else None
        if not isinstance(url, str):
            continue
        # Only the path of this very document is asked for, whatever the server points to.
        own = _V3_PREFIX + key
        try:
            split = urlsplit(url)
        except ValueError as error:
            raise UnusableDocumentError(f"the root document has a bad URL: {error}") from error
        if split.path == own and split.query.isascii() and " " not in split.query:
            hashes = parse_qs(split.query).get("hash", [""])
            found[key] = (f"{own}?{split.query}" if split.query else own, hashes[0])
        else:
            found[key] = (own, "")
    return found


def check_v3(body: bytes) -> None:
    """UnusableDocumentError unless this is an OpenAPI v3 document."""
    version = _load(body).get("openapi")
    if not isinstance(version, str) or not version.startswith("3."):
        raise UnusableDocumentError("not an OpenAPI v3 document")


def v3_document(body: bytes, source_hash: str = "") -> V3Document:
    """A document that has been checked, with a hash of our own."""
    return V3Document(body=body, hash=discovery.etag(body).strip('"'), source_hash=source_hash)


def reduced_v2(body: bytes, owned: Collection[GroupVersion]) -> bytes:
    """The document without what belongs to group versions of others; checked to survive merging and encoding."""
    spec = _load(body)
    if spec.get("swagger") != "2.0":
        raise UnusableDocumentError("not an OpenAPI v2 document")
    try:
        filtered = merge.filter_paths(spec, [f"{group_version.path}/" for group_version in owned])
        protobuf.encode_v2(merge.merge([filtered]))
        return orjson.dumps(filtered)
    except _MALFORMED as error:
        raise _malformed(error) from error


def converted(spec: bytes, owned: Collection[GroupVersion]) -> dict[str, bytes]:
    """v3 documents by key for a server that has only v2; lossy. Group versions without paths get none."""
    document = _load(spec)
    found: dict[str, bytes] = {}
    for group_version in owned:
        try:
            part = merge.filter_paths(document, [f"{group_version.path}/"])
            if part.get("paths"):
                body = orjson.dumps(v2_to_v3.convert(part), option=orjson.OPT_APPEND_NEWLINE)
                found[key_of(group_version)] = body
        except _MALFORMED as error:
            raise _malformed(error) from error
    return found


def _load(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except ValueError as error:
        raise UnusableDocumentError(f"no JSON: {error}") from error
    if not isinstance(document, dict):
        raise UnusableDocumentError("no JSON object")
    return document


def _malformed(error: Exception) -> UnusableDocumentError:
    return UnusableDocumentError(f"malformed OpenAPI v2 document: {type(error).__name__}: {error}")
