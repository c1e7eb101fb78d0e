"""Keeps the route table current: lists and watches APIServices and ExternalNames as any client would."""

import asyncio

from aggregator.proxy.plane import Plane, log
from aggregator.proxy.routes import RouteTable
from apimachinery.types import Object
from apiserver.client import ListWatch, ResourceRef
from apiserver.informer import Informer

APISERVICES = ResourceRef("apiregistration.k8s.io", "v1", "apiservices")
EXTERNALNAMES = ResourceRef("service.grafana.app", "v0alpha1", "externalnames")


class Learner:
    """Rebuilds the table once per turn of the event loop, however many events that turn brings.

    Until both kinds have been listed the table stays as it is; when the API server goes away the last one stays.
    """

    def __init__(self, plane: Plane, client: ListWatch) -> None:
        self.synced = asyncio.Event()
        """The table reflects at least one complete list of both kinds."""
        self._plane = plane
        self._apiservices = Informer(client, APISERVICES)
        self._externalnames = Informer(client, EXTERNALNAMES)
        self._changed = asyncio.Event()
        for informer in (self._apiservices, self._externalnames):
            informer.add_handler(self._note)

    async def run(self) -> None:
        """Follow both kinds until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._apiservices.run(), name="proxy-informer-apiservices")
            group.create_task(self._externalnames.run(), name="proxy-informer-externalnames")
            await self._apiservices.synced.wait()
            await self._externalnames.synced.wait()
            self._install()
            self.synced.set()
            while True:
                await self._changed.wait()
                self._install()

    def _note(self, old: Object | None, new: Object | None) -> None:
        self._changed.set()

    def _install(self) -> None:
        self._changed.clear()
        table = RouteTable.build(self._apiservices.list(), self._externalnames.list(), self._plane.table)
        self._plane.install(table)
        log.debug("routes installed", apiservices=len(table.routes()))
