"""The controllers that keep the Available condition of APIServices true (aggregator.md 3)."""

import asyncio
import time
from collections.abc import Callable

from aggregator.api import conditions, externalname, probe, references
from aggregator.api.availability_metrics import AvailabilityMetrics
from aggregator.api.backoff import Backoff
from aggregator.api.conditions import Condition
from aggregator.api.first_pass import FirstPass
from aggregator.api.flapping import WINDOW_SECONDS, Flapping
from aggregator.api.ports import Cache
from aggregator.api.prober import Prober
from aggregator.api.status_writer import StatusWriter
from aggregator.upstream.backend import Backend, backend_for
from apimachinery.types import Object
from apiserver.controller import Controller
from apiserver.metrics import ServerMetrics

RESYNC_SECONDS = 30.0
RETRY_BASE_SECONDS = 0.25
RETRY_CAP_SECONDS = 1.0
HINT_INTERVAL_SECONDS = 1.0
_WORKERS = 5
_REMOTE_WORKERS = 32


class LocalAvailability:
    """Marks APIServices without a service as available. `synced` is set after its first pass."""

    def __init__(self, *, apiservices: Cache, writer: StatusWriter, metrics: ServerMetrics | None = None) -> None:
        self._apiservices = apiservices
        self._writer = writer
        self._first_pass = FirstPass()
        self._controller = Controller(
            "apiservice-status-local-available-controller",
            self.reconcile,
            workers=_WORKERS,
            resync=RESYNC_SECONDS,
            keys=self._names,
            metrics=metrics,
        )
        apiservices.add_handler(self._changed)

    @property
    def synced(self) -> asyncio.Event:
        return self._first_pass.done

    async def run(self) -> None:
        """Reconcile until cancelled, beginning when the cache knows all APIServices."""
        await self._apiservices.synced.wait()
        names = self._names()
        self._first_pass.begin(names)
        for name in names:
            self._controller.enqueue(name)
        await self._controller.run()

    async def reconcile(self, name: str) -> float | None:
        """Set the condition of one APIService if it is local; APIError makes the controller try again."""
        apiservice = self._apiservices.get("", name)
        if apiservice is not None and references.service(apiservice) is None:
            await self._writer.write(apiservice, probe.LOCAL)
        self._first_pass.seen(name)
        return None

    def _names(self) -> list[str]:
        listed = self._apiservices.list()
        return [obj["metadata"]["name"] for obj in listed if references.service(obj) is None]

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or references.service(new) is not None:
            return
        # One that is new here needs no write, its strategy has set the condition; but the gauge must know of it.
        became_local = old is None or references.service(old) is not None
        if became_local or probe.differs(conditions.get(new), probe.LOCAL):
            self._controller.enqueue(new["metadata"]["name"])


class RemoteAvailability:
    """Probes aggregated servers and records whether they answer.

    An available server is checked every `resync_seconds`, on any change of its APIService or ExternalName, and when
    `report_failure` says that it could not be reached; an unavailable one is checked again after 0.25 s to 1 s. One
    that falls again and again has to pass several checks in a row before it counts as available.
    """

    def __init__(
        self,
        *,
        apiservices: Cache,
        externalnames: Cache,
        prober: Prober,
        writer: StatusWriter,
        metrics: AvailabilityMetrics,
        server_metrics: ServerMetrics | None = None,
        resync_seconds: float = RESYNC_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._apiservices = apiservices
        self._externalnames = externalnames
        self._prober = prober
        self._writer = writer
        self._metrics = metrics
        self._monotonic = monotonic
        self._first_pass = FirstPass()
        self._verdicts: dict[str, Condition] = {}
        self._checked_at: dict[str, float] = {}
        self._backoff = Backoff(RETRY_BASE_SECONDS, RETRY_CAP_SECONDS)
        self._flapping = Flapping()
        # A worker waits up to six seconds for a server that hangs; many of those must not keep the others waiting.
        self._controller = Controller(
            "apiservice-status-override-available-controller",
            self.reconcile,
            workers=_REMOTE_WORKERS,
            resync=resync_seconds,
            keys=self._names,
            metrics=server_metrics,
        )
        apiservices.add_handler(self._apiservice_changed)
        externalnames.add_handler(self._externalname_changed)

    @property
    def synced(self) -> asyncio.Event:
        return self._first_pass.done

    async def run(self) -> None:
        """Reconcile until cancelled, beginning when both caches are complete."""
        await self._apiservices.synced.wait()
        await self._externalnames.synced.wait()
        names = self._names()
        self._first_pass.begin(names)
        for name in names:
            self._controller.enqueue(name)
        await self._controller.run()

    def report_failure(self, name: str) -> None:
        """Somebody could not reach this APIService's server: check it now.

        Cheap enough to be called for every failed request. Ignored while the server is known to be unavailable, which
        is checked often anyway; within a second after a check began it waits until that second is over.
        """
        verdict = self._verdicts.get(name)
        if verdict is None or verdict.status != "True":
            return
        rest = self._checked_at.get(name, 0.0) + HINT_INTERVAL_SECONDS - self._monotonic()
        self._controller.enqueue_after(name, rest)

    async def reconcile(self, name: str) -> float | None:
        """Check one APIService and record the verdict; the seconds until the next check, None for the resync."""
        apiservice = self._apiservices.get("", name)
        if apiservice is None or references.service(apiservice) is None:
            self._forget(name, deleted=apiservice is None)
            self._first_pass.seen(name)
            return None
        resolved = backend_for(apiservice, self._externalnames.get)
        self._checked_at[name] = self._monotonic()
        before = self._verdicts.get(name)
        failing = before is not None and before.status != "True"
        if isinstance(resolved, Backend):
            verdict = self._damped(name, before, await self._check(resolved, once=failing))
        else:
            verdict = probe.unresolved(resolved)
        self._verdicts[name] = verdict
        written = await self._writer.write(apiservice, verdict)
        self._first_pass.seen(name)
        if verdict.reason != "FailedDiscoveryCheck":
            self._backoff.reset(name)
            return None if written else RETRY_BASE_SECONDS
        return self._backoff.failed(name)

    def _damped(self, name: str, before: Condition | None, verdict: Condition) -> Condition:
        """The verdict, unless it passes too soon for a server that keeps falling."""
        now = self._monotonic()
        if verdict.status != "True":
            self._flapping.failed(name, now, fell=before is not None and before.status == "True")
            return verdict
        if before is None or before.status == "True" or not self._flapping.passed(name, now):
            return verdict
        falls = self._flapping.falls(name, now)
        return probe.check_failed(
            f"checks pass again, but it failed {falls} times within {WINDOW_SECONDS:g} s: held back until more checks "
            "in a row have passed"
        )

    async def _check(self, backend: Backend, *, once: bool) -> Condition:
        started = self._monotonic()
        verdict = probe.verdict(await self._prober.check(backend, once=once))
        self._metrics.observe_probe(backend.apiservice, verdict.reason, self._monotonic() - started)
        return verdict

    def _names(self) -> list[str]:
        listed = self._apiservices.list()
        return [obj["metadata"]["name"] for obj in listed if references.service(obj) is not None]

    def _forget(self, name: str, *, deleted: bool) -> None:
        self._verdicts.pop(name, None)
        self._checked_at.pop(name, None)
        self._backoff.reset(name)
        self._flapping.forget(name)
        if deleted:
            self._metrics.forget(name)

    def _apiservice_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new if new is not None else old
        if obj is None:
            return
        name = obj["metadata"]["name"]
        if old is not None and new is not None and references.spec(old) == references.spec(new):
            # A status that says what was found last is our own write coming back.
            verdict = self._verdicts.get(name)
            if verdict is not None and not probe.differs(conditions.get(new), verdict):
                return
        self._controller.enqueue(name)

    def _externalname_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new if new is not None else old
        if obj is None or (old is not None and new is not None and externalname.hosts(old) == externalname.hosts(new)):
            return
        metadata = obj["metadata"]
        changed = (metadata.get("namespace") or "", metadata["name"])
        for apiservice in self._apiservices.list():
            reference = references.service(apiservice)
            if reference is not None and (reference.namespace, reference.name) == changed:
                self._controller.enqueue(apiservice["metadata"]["name"])
