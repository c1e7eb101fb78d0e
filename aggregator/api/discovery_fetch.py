"""Asking an aggregated server what it serves: aggregated discovery, else a list per version (aggregator.md 4.5)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from aggregator.api import discovery_answer
from aggregator.api.discovery_answer import UnusableAnswerError
from aggregator.api.discovery_sources import Known, Source
from aggregator.api.ports import AGGREGATOR_USER, FETCH_ERRORS, Fetch
from aggregator.upstream.backend import Backend
from apimachinery.gvk import GroupVersion
from apimachinery.types import Object
from apiserver.http1 import Response

Result = TypeVar("Result")

_IN_THREAD_BYTES = 128 * 1024
"""Bodies above this are parsed in a thread, away from the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """`timeout` in seconds for each request, `max_body` in bytes."""

    timeout: float = 5.0
    max_body: int = 2 * 1024 * 1024
    """Room for some ten thousand resources. Parsing that much holds up everything else for 20 ms."""


class DiscoveryFetcher:
    """Turns the answers of a server into what is known about it; never raises for what the server does."""

    def __init__(self, fetch: Fetch, limits: FetchLimits | None = None) -> None:
        self._fetch = fetch
        self._limits = limits or FetchLimits()

    async def discover(self, backend: Backend, source: Source, known: Known) -> tuple[Known, str]:
        """(what is known now, why something is missing). What cannot be learnt now stays as it was known before."""
        headers = [*AGGREGATOR_USER, ("Accept", discovery_answer.ACCEPT_AGGREGATED)]
        if known.etag and all(group_version in known.documents for group_version in source.owned):
            headers.append(("If-None-Match", known.etag))
        try:
            answer = await self._get(backend, "/apis", headers)
        except FETCH_ERRORS as error:
            return failed(known, source), f"GET /apis: {error or type(error).__name__}"
        if answer.status == 304 and known.etag:
            return replace(known, failed=frozenset()), ""
        if answer.status == 503:
            return failed(known, source), "GET /apis: bad status 503"
        if answer.status == 200 and discovery_answer.is_aggregated(answer.header("content-type")):
            return await self._aggregated(answer, source, known)
        return await self._legacy(backend, source, known)

    async def _aggregated(self, answer: Response, source: Source, known: Known) -> tuple[Known, str]:
        owned = source.owned
        try:
            found = await _parse(answer.body, lambda: discovery_answer.parse_aggregated(answer.body, owned))
        except UnusableAnswerError as error:
            return failed(known, source), f"GET /apis: {error}"
        documents = {gv: found.get(gv) or _nothing(gv) for gv in owned}
        return Known(documents=documents, etag=answer.header("etag")), ""

    async def _legacy(self, backend: Backend, source: Source, known: Known) -> tuple[Known, str]:
        results = await asyncio.gather(*(self._legacy_version(backend, gv) for gv in source.owned))
        documents: dict[GroupVersion, Object] = {}
        faults: list[str] = []
        missing: set[GroupVersion] = set()
        for group_version, result in zip(source.owned, results, strict=True):
            if isinstance(result, str):
                faults.append(result)
                missing.add(group_version)
                if group_version in known.documents:
                    documents[group_version] = known.documents[group_version]
            else:
                documents[group_version] = result
        return Known(documents=documents, failed=frozenset(missing)), "; ".join(faults)

    async def _legacy_version(self, backend: Backend, group_version: GroupVersion) -> Object | str:
        path = group_version.path
        try:
            answer = await self._get(backend, path, [*AGGREGATOR_USER, ("Accept", "application/json")])
            if answer.status != 200:
                return f"GET {path}: bad status {answer.status}"
            return await _parse(answer.body, lambda: discovery_answer.parse_legacy(answer.body, group_version))
        except UnusableAnswerError as error:
            return f"GET {path}: {error}"
        except FETCH_ERRORS as error:
            return f"GET {path}: {error or type(error).__name__}"

    async def _get(self, backend: Backend, path: str, headers: list[tuple[str, str]]) -> Response:
        limits = self._limits
        return await self._fetch(backend, path, headers=headers, timeout=limits.timeout, max_body=limits.max_body)


def failed(known: Known, source: Source) -> Known:
    """The same knowledge, marked as not confirmed."""
    return replace(known, failed=frozenset(source.owned))


def _nothing(group_version: GroupVersion) -> Object:
    return {"version": group_version.version, "freshness": "Current", "resources": []}


async def _parse(body: bytes, parse: Callable[[], Result]) -> Result:
    if len(body) <= _IN_THREAD_BYTES:
        return parse()
    return await asyncio.to_thread(parse)
