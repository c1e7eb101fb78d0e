"""The controller that keeps automatically managed APIServices as they should be (aggregator.md 6.1, 6.2)."""

import asyncio

from aggregator.api import references
from aggregator.api.desired import Action, Desired, Mode, decide
from aggregator.api.first_pass import FirstPass
from aggregator.api.ports import Cache
from aggregator.api.refs import APISERVICES
from apimachinery import status
from apimachinery.types import Object
from apiserver import logs
from apiserver.client import Client
from apiserver.controller import Controller
from apiserver.metrics import ServerMetrics

_WORKERS = 5

log = logs.get("autoregister")


class AutoRegister:
    """Holds the desired APIServices and makes them true.

    Register what is wanted with `want` before `run` (or at any time later, for mode `true`). `synced` is set when every
    APIService that is desired, or was there at the start, has been looked at once without an error.
    """

    def __init__(self, *, client: Client, apiservices: Cache, metrics: ServerMetrics | None = None) -> None:
        self._client = client
        self._apiservices = apiservices
        self._desired: dict[str, Desired] = {}
        self._at_start: frozenset[str] = frozenset()
        self._reconciled: set[str] = set()
        self._first_pass = FirstPass()
        self._running = False
        self._controller = Controller("autoregister", self.reconcile, workers=_WORKERS, metrics=metrics)
        apiservices.add_handler(self._changed)

    @property
    def synced(self) -> asyncio.Event:
        return self._first_pass.done

    @property
    def desired_names(self) -> list[str]:
        return sorted(self._desired)

    def want(self, apiservice: Object, mode: Mode, *, takes_over: bool = False) -> None:
        """Have this APIService exist. An equal name registered before is replaced.

        With `takes_over` an object that is not marked as managed is brought in line at the start, too.
        """
        entry = Desired(apiservice=apiservice, mode=mode, takes_over=takes_over)
        self._desired[entry.name] = entry
        if self._running:
            self._controller.enqueue(entry.name)

    def unwant(self, name: str) -> None:
        """Stop insisting on an APIService; one that is managed `true` is deleted."""
        if self._desired.pop(name, None) is not None and self._running:
            self._controller.enqueue(name)

    async def run(self) -> None:
        """Reconcile until cancelled, beginning when the cache knows all APIServices."""
        await self._apiservices.synced.wait()
        self._at_start = frozenset(obj["metadata"]["name"] for obj in self._apiservices.list())
        self._running = True
        names = sorted(self._at_start | self._desired.keys())
        self._first_pass.begin(names)
        for name in names:
            self._controller.enqueue(name)
        await self._controller.run()

    async def reconcile(self, name: str) -> None:
        """Bring one APIService into its desired state; APIError makes the controller try again later."""
        current = self._apiservices.get("", name)
        desired = self._desired.get(name)
        action = decide(current, desired, at_start=name in self._at_start, synced=name in self._reconciled)
        if action is Action.CREATE and desired is not None:
            await self._create(desired)
        elif action is Action.UPDATE_SPEC and current is not None and desired is not None:
            await self._update(current, desired)
        elif action is Action.DELETE and current is not None:
            await self._delete(current)
        self._reconciled.add(name)
        self._first_pass.seen(name)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        obj = new if new is not None else old
        if self._running and obj is not None:
            self._controller.enqueue(obj["metadata"]["name"])

    async def _create(self, desired: Desired) -> None:
        try:
            await self._client.create(APISERVICES, "", desired.labelled)
        except status.APIError as error:
            if error.reason != "AlreadyExists":
                raise
            return
        log.info("apiservice registered", name=desired.name, mode=desired.mode.value)

    async def _update(self, current: Object, desired: Desired) -> None:
        if references.service(current) is not None and references.service(desired.apiservice) is None:
            log.warning(
                "apiservice of a remote server is replaced by a local one",
                name=desired.name,
                service=str(references.service(current)),
            )
        await self._client.update(APISERVICES, "", {**current, "spec": desired.apiservice["spec"]})
        log.info("apiservice spec restored", name=desired.name, mode=desired.mode.value)

    async def _delete(self, current: Object) -> None:
        metadata = current["metadata"]
        try:
            await self._client.delete(APISERVICES, "", metadata["name"], uid=metadata.get("uid"))
        except status.APIError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise
            return
        log.info("apiservice removed", name=metadata["name"])
