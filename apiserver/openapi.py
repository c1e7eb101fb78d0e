"""The OpenAPI documents of the resources that a server itself serves (aggregator.md 5)."""

from collections.abc import Callable
from email.utils import formatdate
from functools import cached_property

from apimachinery import codec, discovery, negotiation, status
from apimachinery.openapi import protobuf, root, v2, v3
from apimachinery.options import parse_query
from apiserver.documents import Answer, not_modified
from apiserver.registry import Registry

_YEAR_SECONDS = 365 * 24 * 3600
OPENAPI_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


class LocalOpenAPI:
    """`/openapi/v2`, `/openapi/v3` and `/openapi/v3/apis/<group>/<version>`; each built at first use."""

    def __init__(self, registry: Registry, *, title: str, version: str) -> None:
        self._registry = registry
        self._title = title
        self._version = version

    @cached_property
    def documents(self) -> dict[str, bytes]:
        """The v3 document of each group version, by its key in the root document (`apis/<group>/<version>`)."""
        built: dict[str, bytes] = {}
        for group_version in self._registry.group_versions():
            models = self._registry.models(group_version)
            document = v3.build(group_version, models, title=self._title, version=self._version)
            built[group_version.path.removeprefix("/")] = codec.encode_json(document)
        return built

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The hash of each v3 document, by the same keys."""
        return {key: discovery.etag(body).strip('"') for key, body in self.documents.items()}

    @cached_property
    def v2_document(self) -> dict[str, object]:
        """The v2 document of all group versions."""
        models = [model for gv in self._registry.group_versions() for model in self._registry.models(gv)]
        return v2.build(models, title=self._title, version=self._version)

    @cached_property
    def v2_json(self) -> bytes:
        """The same as JSON."""
        return codec.encode_json(self.v2_document)

    @cached_property
    def _v2_protobuf(self) -> bytes:
        return protobuf.encode_v2(self.v2_document)

    def respond(self, target: str, accept: str, if_none_match: str, *, now: float) -> Answer | None:
        """Answer a path with its query string; `now` (epoch seconds) dates what may be cached for a year."""
        path, _, query = target.partition("?")
        if path == "/openapi/v2":
            return self._respond_v2(accept, if_none_match)
        if path in ("/openapi/v3", "/openapi/v3/"):
            return tagged("application/json", codec.encode_json(root.root(self.hashes)), if_none_match)
        key = path.removeprefix("/openapi/v3/")
        if key == path or key not in self.documents:
            return None
        wanted = next(iter(parse_query(query).get("hash", ())), "")
        return group_version_answer(key, self.documents[key], self.hashes[key], wanted, accept, if_none_match, now)

    def _respond_v2(self, accept: str, if_none_match: str) -> Answer:
        media_type = negotiation.choose_openapi_v2(accept)
        if media_type is None:
            return Answer(406, {}, b"")
        body = self.v2_json if media_type == "application/json" else self._v2_protobuf
        return tagged(media_type, body, if_none_match, tag=discovery.etag(self.v2_json))


class OpenAPIDocuments:
    """The documents as a source that an application asks; `now` is its clock in epoch seconds."""

    def __init__(self, documents: LocalOpenAPI, now: Callable[[], float]) -> None:
        self._documents = documents
        self._now = now

    def respond(self, path: str, accept: str, if_none_match: str) -> Answer | None:
        return self._documents.respond(path, accept, if_none_match, now=self._now())


def tagged(media_type: str, body: bytes, if_none_match: str, *, tag: str = "") -> Answer:
    """An answer with an ETag, or 304."""
    tag = tag or discovery.etag(body)
    headers = {"content-type": media_type, "etag": tag, "vary": "Accept"}
    if if_none_match and not_modified(if_none_match, tag):
        return Answer(304, headers, b"")
    return Answer(200, headers, body)


def group_version_answer(
    key: str, body: bytes, current: str, wanted: str, accept: str, if_none_match: str, now: float
) -> Answer:
    """A v3 document: immutable under its own hash, a redirect from an old one (aggregator.md 5.2)."""
    if negotiation.choose_openapi_v3(accept) != "application/json":
        raise status.only_media_types(["application/json"])
    if wanted and wanted != current:
        return Answer(301, {"location": f"/openapi/v3/{key}?hash={current}"}, b"")
    answer = tagged("application/json", body, if_none_match, tag=f'"{current}"')
    if wanted:
        answer.headers["cache-control"] = "public, immutable"
        answer.headers["expires"] = formatdate(now + _YEAR_SECONDS, usegmt=True)
    return answer
