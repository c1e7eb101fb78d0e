"""Asking one aggregated server for its OpenAPI documents, as few of them as possible (aggregator.md 5)."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.api import openapi_answer, openapi_jobs
from aggregator.api.discovery_sources import Source
from aggregator.api.openapi_answer import RemoteOpenAPI, UnusableDocumentError, V2Document, V3Document
from aggregator.api.openapi_worker import OpenAPIWorker
from aggregator.api.ports import FETCH_ERRORS, Fetch
from aggregator.upstream.backend import Backend
from apimachinery import discovery
from apiserver.http1 import Response

_HEADERS: Final = (
    ("X-Remote-User", "system:aggregator"),
    ("X-Remote-Group", "system:masters"),
    ("Accept", "application/json"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAPILimits:
    """`timeout` in seconds for each request, `max_body` in bytes."""

    timeout: float = 30.0
    max_body: int = 32 * 1024 * 1024


class _FailedError(Exception):
    """The server gave no good answer; the text says to what and why."""


class OpenAPIFetcher:
    """Turns the answers of a server into documents; never raises for what the server does."""

    def __init__(self, fetch: Fetch, limits: OpenAPILimits | None = None, worker: OpenAPIWorker | None = None) -> None:
        self._fetch = fetch
        self._limits = limits or OpenAPILimits()
        self._worker = worker or OpenAPIWorker()

    async def poll(self, backend: Backend, source: Source, known: RemoteOpenAPI) -> tuple[RemoteOpenAPI, str]:
        """(the newest good documents, what went wrong). What cannot be had now stays as it was."""
        faults: list[str] = []
        v2, v3 = known.v2, known.v3
        has_v3 = True
        try:
            v2 = await self._v2(backend, source, known.v2)
        except _FailedError as error:
            faults.append(str(error))
        try:
            roots = await self._root(backend, source)
            has_v3 = roots is not None
            if roots is not None:
                v3 = await self._v3(backend, roots, known.v3, faults)
        except _FailedError as error:
            faults.append(str(error))
        if not has_v3 and v2 is not None and (v2 is not known.v2 or not v3):
            try:
                v3 = await self._converted(v2, source)
            except UnusableDocumentError as error:
                faults.append(f"GET /openapi/v2: {error}")
        return RemoteOpenAPI(v3=v3, v2=v2), "; ".join(faults)

    async def _v2(self, backend: Backend, source: Source, known: V2Document | None) -> V2Document | None:
        """None when the server has no v2 document."""
        path = "/openapi/v2"
        headers = list(_HEADERS)
        if known is not None and known.from_server and known.owned == source.owned:
            headers.append(("If-None-Match", known.etag))
        answer = await self._get(backend, path, headers)
        if answer.status == 304 and known is not None:
            return known
        if answer.status == 404:
            return None
        body = _good(answer, path)
        etag = answer.header("etag")
        tag = etag or await asyncio.to_thread(discovery.etag, body)
        if known is not None and known.etag == tag and known.owned == source.owned:
            return known
        try:
            (reduced,) = await self._worker.run("reduce-v2", [body, openapi_jobs.encode_owned(source.owned)])
        except UnusableDocumentError as error:
            raise _FailedError(f"GET {path}: {error}") from error
        return V2Document(body=reduced, etag=tag, from_server=bool(etag), owned=source.owned)

    async def _converted(self, v2: V2Document, source: Source) -> dict[str, V3Document]:
        found = await self._worker.run("convert", [v2.body, openapi_jobs.encode_owned(source.owned)])
        return {key.decode(): await _hashed(body) for key, body in zip(found[::2], found[1::2], strict=True)}

    async def _root(self, backend: Backend, source: Source) -> Mapping[str, tuple[str, str]] | None:
        """None when the server has no v3 documents at all."""
        path = "/openapi/v3"
        answer = await self._get(backend, path, _HEADERS)
        if answer.status == 404:
            return None
        try:
            return openapi_answer.parse_root(_good(answer, path), source.owned)
        except UnusableDocumentError as error:
            raise _FailedError(f"GET {path}: {error}") from error

    async def _v3(
        self,
        backend: Backend,
        roots: Mapping[str, tuple[str, str]],
        known: Mapping[str, V3Document],
        faults: list[str],
    ) -> dict[str, V3Document]:
        documents: dict[str, V3Document] = {}
        for key, (path, source_hash) in roots.items():
            old = known.get(key)
            if old is not None and source_hash and old.source_hash == source_hash:
                documents[key] = old
                continue
            try:
                documents[key] = await self._v3_document(backend, path, source_hash)
            except _FailedError as error:
                faults.append(str(error))
                if old is not None:
                    documents[key] = old
        return documents

    async def _v3_document(self, backend: Backend, path: str, source_hash: str) -> V3Document:
        answer = await self._get(backend, path, _HEADERS)
        body = _good(answer, path)
        try:
            await self._worker.run("check-v3", [body])
        except UnusableDocumentError as error:
            raise _FailedError(f"GET {path}: {error}") from error
        return await _hashed(body, source_hash)

    async def _get(
        self, backend: Backend, path: str, headers: "list[tuple[str, str]] | tuple[tuple[str, str], ...]"
    ) -> Response:
        limits = self._limits
        try:
            return await self._fetch(backend, path, headers=headers, timeout=limits.timeout, max_body=limits.max_body)
        except FETCH_ERRORS as error:
            raise _FailedError(f"GET {path}: {error or type(error).__name__}") from error


async def _hashed(body: bytes, source_hash: str = "") -> V3Document:
    # Hashing lets go of the interpreter lock, so a thread is enough.
    return await asyncio.to_thread(openapi_answer.v3_document, body, source_hash)


def _good(answer: Response, path: str) -> bytes:
    if answer.status != 200:
        raise _FailedError(f"GET {path}: bad status {answer.status}")
    return answer.body
