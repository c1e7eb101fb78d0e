"""The OpenAPI documents of all servers together: a frozen value that is swapped as a whole (aggregator.md 5)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from aggregator.api.openapi_answer import RemoteOpenAPI, V3Document
from aggregator.api.openapi_worker import OpenAPIWorker
from apimachinery import discovery, negotiation
from apimachinery.openapi import root
from apimachinery.options import parse_query
from apiserver.documents import Answer
from apiserver.openapi import group_version_answer, tagged


class LocalDocuments(Protocol):
    """The documents of what this server serves itself."""

    @property
    def documents(self) -> Mapping[str, bytes]: ...

    @property
    def hashes(self) -> Mapping[str, str]: ...

    @property
    def v2_json(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedV2:
    """The v2 document in both forms; one tag stands for both."""

    json: bytes
    protobuf: bytes
    etag: str
    skipped: tuple[str, ...] = ()
    """Names of the inputs that could not be merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAPISnapshot:
    """Make one with `build`."""

    v2: MergedV2
    v3: Mapping[str, V3Document]
    root: bytes
    root_etag: str

    def respond(self, target: str, accept: str, if_none_match: str, *, now: float) -> Answer | None:
        """The answer to a GET of a path with its query; None for a path of somebody else. `now` is epoch seconds."""
        path, _, query = target.partition("?")
        if path == "/openapi/v2":
            return self._respond_v2(accept, if_none_match)
        if path in ("/openapi/v3", "/openapi/v3/"):
            return tagged("application/json", self.root, if_none_match, tag=self.root_etag)
        key = path.removeprefix("/openapi/v3/")
        document = self.v3.get(key) if key != path else None
        if document is None:
            return None
        wanted = next(iter(parse_query(query).get("hash", ())), "")
        return group_version_answer(key, document.body, document.hash, wanted, accept, if_none_match, now)

    def _respond_v2(self, accept: str, if_none_match: str) -> Answer:
        media_type = negotiation.choose_openapi_v2(accept)
        if media_type is None:
            return Answer(406, {}, b"")
        body = self.v2.json if media_type == negotiation.JSON else self.v2.protobuf
        return tagged(media_type, body, if_none_match, tag=self.v2.etag)


async def merge_v2(worker: OpenAPIWorker, local: bytes, remotes: Sequence[tuple[str, bytes]]) -> MergedV2:
    """The local document and the remote ones (with a name each) in one; what cannot be merged is left out."""
    body, binary, skipped = await worker.run("merge-v2", [local, *(spec for _, spec in remotes)])
    etag = await asyncio.to_thread(discovery.etag, body)
    names = tuple(remotes[position][0] for position in orjson.loads(skipped))
    return MergedV2(json=body, protobuf=binary, etag=etag, skipped=names)


def build(local: LocalDocuments, remotes: Sequence[RemoteOpenAPI], v2: MergedV2) -> OpenAPISnapshot:
    """The documents of this server and of the remote ones, which do not overlap: each owns its group versions."""
    documents = {key: V3Document(body=body, hash=local.hashes[key]) for key, body in local.documents.items()}
    for remote in remotes:
        documents.update(remote.v3)
    body = negotiation.encode_json(root.root({key: document.hash for key, document in documents.items()}))
    return OpenAPISnapshot(v2=v2, v3=documents, root=body, root_etag=discovery.etag(body))
