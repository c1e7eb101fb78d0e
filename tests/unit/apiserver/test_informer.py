"""The informer against a scripted API: lists, watches, gaps."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

from apimachinery import status
from apimachinery.types import Object
from apiserver.client import ResourceRef, WatchEvent
from apiserver.informer import Informer

REF = ResourceRef("g", "v1", "things")


def thing(name: str, revision: int) -> Object:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(revision)}}


class Script:
    """Lists what it holds; a watch plays the next batch of events, then ends."""

    def __init__(self, items: list[Object], revision: int) -> None:
        self.items, self.revision = items, revision
        self.batches: asyncio.Queue[list[WatchEvent]] = asyncio.Queue()
        self.lists = 0
        self.watched_from: list[str] = []
        self.fail_lists = 0

    async def list(self, ref: ResourceRef, namespace: str = "") -> Object:
        self.lists += 1
        if self.fail_lists:
            self.fail_lists -= 1
            raise status.service_unavailable("not yet")
        return {"metadata": {"resourceVersion": str(self.revision)}, "items": list(self.items)}

    @asynccontextmanager
    async def watch(
        self, ref: ResourceRef, namespace: str = "", *, resource_version: str
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        self.watched_from.append(resource_version)
        batch = await self.batches.get()

        async def events() -> AsyncGenerator[WatchEvent, None]:
            for event in batch:
                yield event

        yield events()


class Running:
    def __init__(self, script: Script) -> None:
        self.informer = Informer(script, REF)
        self.changes: asyncio.Queue[tuple[str | None, str | None]] = asyncio.Queue()
        self.informer.add_handler(lambda old, new: self.changes.put_nowait((version(old), version(new))))

    async def __aenter__(self) -> "Running":
        self._task = asyncio.create_task(self.informer.run(), name="informer")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def change(self) -> tuple[str | None, str | None]:
        return await asyncio.wait_for(self.changes.get(), 3)


def version(obj: Object | None) -> str | None:
    return None if obj is None else f"{obj['metadata']['name']}@{obj['metadata']['resourceVersion']}"


async def test_list_then_watch() -> None:
    script = Script([thing("a", 1)], 5)
    async with Running(script) as running:
        assert await running.change() == (None, "a@1")
        await asyncio.wait_for(running.informer.synced.wait(), 1)
        script.batches.put_nowait([WatchEvent("ADDED", thing("b", 6)), WatchEvent("MODIFIED", thing("a", 7))])
        assert await running.change() == (None, "b@6")
        assert await running.change() == ("a@1", "a@7")
        script.batches.put_nowait([WatchEvent("DELETED", thing("b", 8)), WatchEvent("BOOKMARK", thing("", 9))])
        assert await running.change() == ("b@6", None)
        script.batches.put_nowait([WatchEvent("ADDED", thing("c", 10))])
        assert await running.change() == (None, "c@10")
    assert script.lists == 1
    assert script.watched_from[:3] == ["5", "7", "9"]
    assert running.informer.get("", "c") == thing("c", 10)


async def test_an_expired_watch_lists_again_and_reports_what_went_meanwhile() -> None:
    script = Script([thing("a", 1), thing("b", 2)], 5)
    async with Running(script) as running:
        assert await running.change() == (None, "a@1")
        assert await running.change() == (None, "b@2")
        script.items, script.revision = [thing("b", 2), thing("c", 8)], 9
        script.batches.put_nowait([WatchEvent("ERROR", status.expired("gone").status)])
        assert await running.change() == ("a@1", None)
        assert await running.change() == (None, "c@8")
    assert script.lists == 2


async def test_failures_are_tried_again() -> None:
    script = Script([thing("a", 1)], 1)
    script.fail_lists = 2
    async with Running(script) as running:
        assert await running.change() == (None, "a@1")
    assert script.lists == 3


async def test_a_handler_added_late_hears_of_everything_and_a_broken_one_harms_nobody() -> None:
    script = Script([thing("a", 1)], 1)

    def broken(_old: Object | None, _new: Object | None) -> None:
        raise RuntimeError("broken")

    running = Running(script)
    running.informer.add_handler(broken)
    async with running:
        assert await running.change() == (None, "a@1")
        late: list[str | None] = []
        running.informer.add_handler(lambda _old, new: late.append(version(new)))
        assert late == ["a@1"]
