"""Keeps one set of OpenAPI documents of all servers; reading them never waits for any server (aggregator.md 5)."""

import asyncio
import time
from collections.abc import Callable

from aggregator.api import openapi_snapshot, references
from aggregator.api.backoff import Backoff, spread
from aggregator.api.discovery_sources import Source
from aggregator.api.first_pass import FirstPass
from aggregator.api.openapi_answer import RemoteOpenAPI, key_of
from aggregator.api.openapi_fetch import OpenAPIFetcher
from aggregator.api.openapi_metrics import RegenerationMetrics
from aggregator.api.openapi_snapshot import LocalDocuments, MergedV2, OpenAPISnapshot
from aggregator.api.openapi_worker import OpenAPIWorker
from aggregator.api.ports import FAULT_LENGTH, Cache
from aggregator.api.source_index import SourceIndex
from aggregator.upstream.backend import Backend
from apiserver import logs
from apiserver.controller import Controller
from apiserver.documents import Answer
from apiserver.metrics import ServerMetrics

REFRESH_SECONDS = 60.0
RETRY_BASE_SECONDS = 1.0
RETRY_CAP_SECONDS = 300.0
_WORKERS = 32
"""A worker waits half a minute for a server that hangs."""
_MERGE_DELAY_SECONDS = 0.2

log = logs.get("openapi")


class OpenAPIAggregator:
    """Polls available servers once a minute and on every sign of change; merges what changed elsewhere.

    It is the DocumentSource of `/openapi/v2` and `/openapi/v3`. A server that fails keeps its latest good documents.
    `synced` is set when the documents of this server itself can be read; no remote server is waited for.
    """

    def __init__(
        self,
        *,
        local: LocalDocuments,
        apiservices: Cache,
        externalnames: Cache,
        fetcher: OpenAPIFetcher,
        worker: OpenAPIWorker | None = None,
        metrics: ServerMetrics | None = None,
        regenerations: RegenerationMetrics | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.synced = asyncio.Event()
        self.first_pass = FirstPass()
        """Done when every server that was there at the start has been asked once."""
        self._local = local
        self._fetcher = fetcher
        self._worker = worker or OpenAPIWorker()
        self._now = now
        self._regenerations = regenerations
        self._v2_inputs: dict[str, bytes] = {}
        self._known: dict[str, RemoteOpenAPI] = {}
        self._backoff = Backoff(RETRY_BASE_SECONDS, RETRY_CAP_SECONDS)
        self._dirty = asyncio.Event()
        self._merged: tuple[list[bytes], MergedV2] | None = None
        self._snapshot: OpenAPISnapshot | None = None
        self._controller = Controller(
            "apiservice-openapi-controller", self.reconcile, workers=_WORKERS, metrics=metrics
        )
        self._index = SourceIndex(
            apiservices=apiservices,
            externalnames=externalnames,
            changed=self._controller.enqueue,
            reshaped=self._dirty.set,
        )

    def respond(self, target: str, accept: str, if_none_match: str) -> Answer | None:
        """The answer to a GET; None for a path that is not OpenAPI's, 503 before the first build. APIError 406."""
        if not target.startswith("/openapi/"):
            return None
        if self._snapshot is None:
            return Answer(503, {"retry-after": "1"}, b"")
        return self._snapshot.respond(target, accept, if_none_match, now=self._now())

    async def run(self) -> None:
        """Poll and merge until cancelled."""
        await self._rebuild()
        self.synced.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._merge_changes(), name="openapi merge")
            await self._index.complete()
            keys = sorted(self._index.current)
            self.first_pass.begin(keys)
            for key in keys:
                self._controller.enqueue(key)
            group.create_task(self._controller.run(), name="openapi controller")

    async def reconcile(self, key: str) -> float | None:
        """Ask one server; the seconds after which to ask again, None when that is only worth it after a change."""
        source = self._index.current.get(key)
        if source is None:
            if self._known.pop(key, None) is not None:
                self._dirty.set()
            self._backoff.reset(key)
            self.first_pass.seen(key)
            return None
        delay = await self._poll(source) if self._index.available(source) else None
        self.first_pass.seen(key)
        return delay

    async def _poll(self, source: Source) -> float | None:
        resolved = self._index.resolve(source)
        if not isinstance(resolved, Backend):
            return None
        known = self._known.get(source.key, RemoteOpenAPI())
        new, fault = await self._fetcher.poll(resolved, source, known)
        if new.v2 is not known.v2 or new.v3 != known.v3:
            self._known[source.key] = new
            self._dirty.set()
        if not fault:
            self._backoff.reset(source.key)
            return spread(REFRESH_SECONDS)
        if not self._backoff.failing(source.key):
            log.warning("openapi not read", service=str(source.reference), error=fault[:FAULT_LENGTH])
        return self._backoff.failed(source.key)

    async def _merge_changes(self) -> None:
        pause = _MERGE_DELAY_SECONDS
        while True:
            await self._dirty.wait()
            # Changes come in bursts; one merge is enough for all of a burst, and a slow one not to be repeated at once.
            await asyncio.sleep(pause)
            self._dirty.clear()
            started = time.monotonic()
            await self._rebuild()
            pause = max(_MERGE_DELAY_SECONDS, time.monotonic() - started)

    async def _rebuild(self) -> None:
        sources = sorted(self._index.current.values(), key=_v2_order)
        known = [(source, self._known[source.key]) for source in sources if source.key in self._known]
        specs = [(str(source.reference), remote.v2.body) for source, remote in known if remote.v2 is not None]
        inputs = [spec for _, spec in specs]
        merged = self._merged[1] if self._merged is not None and _same(self._merged[0], inputs) else None
        if merged is None:
            started = time.monotonic()
            merged = await openapi_snapshot.merge_v2(self._worker, self._local.v2_json, specs)
            self._merged = (inputs, merged)
            names = {_v2_order(source)[1]: remote.v2.body for source, remote in known if remote.v2 is not None}
            if self._regenerations is not None:
                self._regenerations.merged(self._v2_inputs, names, time.monotonic() - started)
            self._v2_inputs = names
            for name in merged.skipped:
                log.warning("openapi v2 document left out: it cannot be merged", service=name)
        self._snapshot = openapi_snapshot.build(self._local, [_owned(*pair) for pair in known], merged)


def _same(left: list[bytes], right: list[bytes]) -> bool:
    """Whether both hold the very same documents; they are replaced, never changed, and too large to compare."""
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))


def _owned(source: Source, remote: RemoteOpenAPI) -> RemoteOpenAPI:
    """Only the documents of group versions that the server still speaks for."""
    keys = {key_of(group_version) for group_version in source.owned}
    return RemoteOpenAPI(v3={key: document for key, document in remote.v3.items() if key in keys}, v2=remote.v2)


def _v2_order(source: Source) -> tuple[int, str]:
    """Remote documents are merged by group priority, then by APIService name."""
    best = max(references.group_priority(obj) for obj in source.apiservices)
    return -best, min(str(obj["metadata"]["name"]) for obj in source.apiservices)
