"""How the proxy learns its routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aggregator.proxy.learner import APISERVICES, EXTERNALNAMES, Learner
from aggregator.proxy.server import Proxy
from apimachinery.types import Object
from apiserver.client import ResourceRef, WatchEvent
from tests.unit.aggregator.proxy_kit import PKI, CertificateNames, apiservice, externalname, on_uvloop


class FakeAPI:
    """Lists and watches of two kinds, as far as an informer asks for them."""

    def __init__(self) -> None:
        self.objects: dict[ResourceRef, list[Object]] = {APISERVICES: [], EXTERNALNAMES: []}
        self.listable = asyncio.Event()
        self._queues: dict[ResourceRef, asyncio.Queue[WatchEvent]] = {
            APISERVICES: asyncio.Queue(),
            EXTERNALNAMES: asyncio.Queue(),
        }
        self._revision = 0

    def stamp(self, obj: Object) -> Object:
        self._revision += 1
        metadata = {"uid": "u", **obj["metadata"], "resourceVersion": str(self._revision)}
        return {**obj, "metadata": metadata}

    def send(self, ref: ResourceRef, kind: Any, obj: Object) -> None:
        self._queues[ref].put_nowait(WatchEvent(kind, self.stamp(obj)))

    async def list(self, ref: ResourceRef, namespace: str = "") -> Object:
        await self.listable.wait()
        return {"metadata": {"resourceVersion": "1"}, "items": [self.stamp(item) for item in self.objects[ref]]}

    @asynccontextmanager
    async def watch(
        self, ref: ResourceRef, namespace: str = "", *, resource_version: str
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        async def events() -> AsyncIterator[WatchEvent]:
            while True:
                yield await self._queues[ref].get()

        yield events()


@on_uvloop
async def test_routes_follow_both_kinds(pki: PKI) -> None:
    api = FakeAPI()
    api.objects[APISERVICES] = [apiservice(7443, None)]
    front = Proxy(ssl_context=pki.server_context("proxy"), authenticator=CertificateNames(), client=api)
    await front.start()
    learner = front.learner
    assert isinstance(learner, Learner)
    await asyncio.sleep(0.05)
    assert not front.plane.table.complete
    api.listable.set()
    await learner.synced.wait()
    assert front.synced
    assert front.plane.table.match(b"/apis/test/v1").backend is None

    async def until(host: str | None) -> None:
        while True:
            backend = front.plane.table.match(b"/apis/test/v1").backend
            if (backend.host if backend is not None else None) == host:
                return
            await asyncio.sleep(0.01)

    api.send(EXTERNALNAMES, "ADDED", externalname("one"))
    await until("one")
    api.send(EXTERNALNAMES, "MODIFIED", externalname("two"))
    await until("two")
    api.send(EXTERNALNAMES, "DELETED", externalname("two"))
    await until(None)
    api.send(APISERVICES, "DELETED", apiservice(7443, None))
    while not front.plane.table.match(b"/apis/test/v1").local:
        await asyncio.sleep(0.01)
    await front.stop()
