"""Keeps one discovery document of all servers, whatever state they are in (aggregator.md 4.4, 4.5).

A server that fails keeps its last known resources, so that clients go on knowing its kinds and are told at once that
it is unavailable when they use one.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter

from aggregator.api import discovery_cache, references
from aggregator.api.backoff import Backoff, spread
from aggregator.api.discovery_fetch import DiscoveryFetcher, failed
from aggregator.api.discovery_sources import Known, Source
from aggregator.api.first_pass import FirstPass
from aggregator.api.ports import FAULT_LENGTH, Cache
from aggregator.api.priorities import priority_of
from aggregator.api.source_index import SourceIndex
from aggregator.upstream.backend import Backend
from apimachinery.discovery import Freshness, GroupVersionEntry
from apimachinery.gvk import GroupVersion
from apimachinery.types import Object
from apiserver import discovery_snapshot, logs
from apiserver.controller import Controller
from apiserver.discovery_snapshot import DiscoverySnapshot
from apiserver.documents import Answer
from apiserver.metrics import ServerMetrics

REFRESH_SECONDS = 60.0
RETRY_BASE_SECONDS = 0.5
RETRY_CAP_SECONDS = 60.0
_WORKERS = 128
"""A worker waits five seconds for a server that hangs; many of those must not keep the others waiting."""
_WRITE_DELAY_SECONDS = 0.2
_REMOTE_SOURCE = 0
_LOCAL_SOURCE = 100

log = logs.get("discovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """`local` is what this server serves itself; `cache_file` remembers remote resources over restarts."""

    local: Sequence[GroupVersionEntry]
    cache_file: Path | None = None
    last_known: Freshness = "Current"
    """The freshness shown for resources that a failing server listed earlier.

    Clients drop every resource of a group version that is `Stale` (client-go does since 1.27), and kubectl then says
    that the server does not have the resource type. A version of which nothing was ever learnt is `Stale` anyway.
    """


class DiscoveryManager:
    """Asks every remote server once a minute and on every sign of change. `synced` is set after the first pass.

    It is the DocumentSource of `/apis`, `/apis/<group>` and `/api`.
    """

    def __init__(
        self,
        *,
        settings: DiscoverySettings,
        apiservices: Cache,
        externalnames: Cache,
        fetcher: DiscoveryFetcher,
        collectors: CollectorRegistry,
        metrics: ServerMetrics | None = None,
    ) -> None:
        self._settings = settings
        self._apiservices = apiservices
        self._fetcher = fetcher
        self._first_pass = FirstPass()
        self._known: dict[str, Known] = {}
        self._backoff = Backoff(RETRY_BASE_SECONDS, RETRY_CAP_SECONDS)
        self._snapshot: DiscoverySnapshot | None = None
        self._unsaved = asyncio.Event()
        self._rebuilds = Counter(
            "aggregator_discovery_aggregation_count",
            "[ALPHA] Counter of number of times discovery was aggregated",
            registry=collectors,
        )
        self._controller = Controller(
            "apiservice-discovery-controller",
            self.reconcile,
            workers=_WORKERS,
            metrics=metrics,
        )
        self._index = SourceIndex(
            apiservices=apiservices,
            externalnames=externalnames,
            changed=self._controller.enqueue,
            reshaped=self._invalidate,
        )

    @property
    def synced(self) -> asyncio.Event:
        return self._first_pass.done

    @property
    def snapshot(self) -> DiscoverySnapshot:
        """The documents as of now; built anew only after a change."""
        if self._snapshot is None:
            self._snapshot = discovery_snapshot.build(self._entries())
            self._rebuilds.inc()
        return self._snapshot

    @property
    def paths(self) -> list[str]:
        return self.snapshot.paths

    def respond(self, target: str, accept: str, if_none_match: str) -> Answer | None:
        """The answer to a GET; None for a path that is not discovery's. APIError 406."""
        if not target.startswith("/api"):
            return None
        return self.snapshot.respond(target, accept, if_none_match)

    async def run(self) -> None:
        """Load the cache file, then discover until cancelled, beginning when both caches are complete."""
        await self._load()
        await self._index.complete()
        keys = sorted(self._index.current)
        for unregistered in self._known.keys() - set(keys):
            del self._known[unregistered]
            self._unsaved.set()
        self._first_pass.begin(keys)
        for key in keys:
            self._controller.enqueue(key)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._controller.run(), name="discovery controller")
            if self._settings.cache_file is not None:
                group.create_task(self._save(self._settings.cache_file), name="discovery cache")

    async def reconcile(self, key: str) -> float | None:
        """Ask one server; the seconds after which to ask again, None when no APIService names it any more."""
        source = self._index.current.get(key)
        if source is None:
            if self._known.pop(key, None) is not None:
                self._unsaved.set()
            self._backoff.reset(key)
            self._first_pass.seen(key)
            return None
        known, fault = await self._discover(source)
        self._note(source, known, fault)
        self._first_pass.seen(key)
        if fault:
            return self._backoff.failed(key)
        self._backoff.reset(key)
        return spread(REFRESH_SECONDS)

    async def _discover(self, source: Source) -> tuple[Known, str]:
        known = self._known.get(source.key, Known())
        resolved = self._index.resolve(source)
        if not isinstance(resolved, Backend):
            return failed(known, source), resolved.message
        return await self._fetcher.discover(resolved, source, known)

    def _note(self, source: Source, known: Known, fault: str) -> None:
        old = self._known.get(source.key)
        if fault and not self._backoff.failing(source.key):
            log.warning("discovery failed", service=str(source.reference), error=fault[:FAULT_LENGTH])
        elif not fault and self._backoff.failing(source.key):
            log.info("discovery works again", service=str(source.reference))
        if old == known:
            return
        self._known[source.key] = known
        if old is None or old.documents != known.documents or old.failed != known.failed:
            self._snapshot = None
        if old is None or old.documents != known.documents or old.etag != known.etag:
            self._unsaved.set()

    def _entries(self) -> list[GroupVersionEntry]:
        apiservices = self._apiservices.list()
        by_target = {references.group_version(obj): obj for obj in apiservices if references.service(obj) is None}
        entries = [_local_entry(entry, by_target) for entry in self._settings.local]
        for source in self._index.current.values():
            known = self._known.get(source.key, Known())
            entries.extend(_remote_entry(obj, known, self._settings.last_known) for obj in source.apiservices)
        return entries

    def _invalidate(self) -> None:
        self._snapshot = None

    async def _load(self) -> None:
        file = self._settings.cache_file
        if file is None:
            return
        try:
            self._known = await asyncio.to_thread(discovery_cache.read, file)
        except (OSError, ValueError) as error:
            log.warning("discovery cache not read", file=str(file), error=str(error))
        self._snapshot = None

    async def _save(self, file: Path) -> None:
        while True:
            await self._unsaved.wait()
            # Changes come in bursts; one write is enough for all of a burst.
            await asyncio.sleep(_WRITE_DELAY_SECONDS)
            self._unsaved.clear()
            data = discovery_cache.encode(self._known)
            try:
                await asyncio.to_thread(discovery_cache.write, file, data)
            except OSError as error:
                log.warning("discovery cache not written", file=str(file), error=str(error))


def _local_entry(entry: GroupVersionEntry, apiservices: dict[GroupVersion, Object]) -> GroupVersionEntry:
    """What this server serves ranks as its APIService says, or by the table while there is none."""
    group_version = GroupVersion(entry.group, entry.version)
    obj = apiservices.get(group_version)
    priority = priority_of(group_version)
    return replace(
        entry,
        group_priority=references.group_priority(obj) if obj is not None else priority.group,
        version_priority=references.version_priority(obj) if obj is not None else priority.version,
        source=_LOCAL_SOURCE,
    )


def _remote_entry(apiservice: Object, known: Known, last_known: Freshness) -> GroupVersionEntry:
    target = references.group_version(apiservice)
    document = known.documents.get(target)
    freshness: Freshness = "Current" if target not in known.failed else last_known
    if document is None:
        document, freshness = {"version": target.version, "resources": []}, "Stale"
    return GroupVersionEntry(
        group=target.group,
        version=target.version,
        document={**document, "freshness": freshness},
        group_priority=references.group_priority(apiservice),
        version_priority=references.version_priority(apiservice),
        source=_REMOTE_SOURCE,
    )
