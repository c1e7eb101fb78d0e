"""The file store when the disk refuses, and when callers go away."""

import asyncio
import errno
import json
import os
import threading
from pathlib import Path

import pytest

from apiserver.storage.base import ExistsError, StorageError
from apiserver.storage.ceiling import BLOCK
from apiserver.storage.files import FileSystem
from tests.unit.apiserver.storage.data_directory import DUMMIES, Failing, key, obj, opened, put, tree


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename", "sync_directory"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_failing_write(tmp_path: Path, call: str, code: int) -> None:
    broken = False
    times = 0

    def fails(name: str, path: str) -> int | None:
        nonlocal times
        if not broken or name != call or "/ns" not in path:
            return None
        times += 1
        # A directory's sync fails once: then the old state is written again.
        return code if call != "sync_directory" or times == 1 else None

    async with opened(tmp_path, Failing(fails)) as store:
        first = await store.create(key("a"), obj(key("a"), x=1))
        broken = True
        async with store.watch(DUMMIES) as watch:
            with pytest.raises(StorageError, match=os.strerror(code)):
                await store.update(key("a"), obj(key("a"), x=2), expected=first.revision)
            assert not watch.drain()
        assert times >= 1
        assert await store.get(key("a")) is first
        assert store.revision == first.revision
        file = tmp_path / "example.test/dummies/ns/a.json"
        assert json.loads(file.read_bytes()) == first.object
        assert [path for path in tree(tmp_path) if ".tmp-" in path] == []
        assert len((await store.list(DUMMIES)).items) == 1
        broken = False
        second = await store.update(key("a"), obj(key("a"), x=3), expected=first.revision)
        assert second.revision > first.revision + 1, "a failed write's revision is never used again"
    async with opened(tmp_path) as store:
        assert (await store.get(key("a"))).object["spec"] == {"x": 3}


async def test_failing_delete(tmp_path: Path) -> None:
    code: int | None = None
    files = Failing(lambda call, path: code if call == "sync_directory" else None)
    async with opened(tmp_path, files) as store:
        first = await store.create(key("a"), obj(key("a")))
        code = errno.EIO
        with pytest.raises(StorageError):
            await store.delete(key("a"))
        assert await store.get(key("a")) is first
        code = None
        with pytest.raises(ExistsError):
            await put(store, key("a"))
    async with opened(tmp_path) as store:
        assert (await store.get(key("a"))).json == first.json


async def test_failure_of_one_object_leaves_the_batch_alone(tmp_path: Path) -> None:
    files = Failing(lambda call, path: errno.EACCES if call == "rename" and path.endswith("b.json") else None)
    async with opened(tmp_path, files) as store:
        outcomes = await asyncio.gather(*(put(store, key(name)) for name in "abcd"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [int, StorageError, int, int]
        assert [item.key.name for item in (await store.list(DUMMIES)).items] == ["a", "c", "d"]


async def test_full_disk_still_allows_deletions(tmp_path: Path) -> None:
    full = False
    files = Failing(lambda call, path: errno.ENOSPC if full and call == "write" else None)
    async with opened(tmp_path, files) as store:
        await asyncio.gather(*(put(store, key(f"n{n}")) for n in range(BLOCK // 2)))
        full = True
        await asyncio.gather(*(store.delete(key(f"n{n}")) for n in range(BLOCK // 2 - 10)))
        assert len((await store.list(DUMMIES)).items) == 10
        with pytest.raises(StorageError, match="No space left on device"):
            await put(store, key("new"))


async def test_revisions_run_out_on_a_full_disk(tmp_path: Path) -> None:
    full = False
    files = Failing(lambda call, path: errno.ENOSPC if full and path.endswith(".tmp-revision") else None)
    async with opened(tmp_path, files) as store:
        await put(store, key("a"))
        full = True
        refused = 0
        for _ in range(2 * BLOCK):
            try:
                await store.delete(key("a"))
                await put(store, key("a"))
            except StorageError:
                refused += 1
                break
        assert refused == 1
        assert store.revision <= int((tmp_path / ".revision").read_text())
        full = False
        await store.delete(key("a"))


async def test_missing_directory_is_made_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, key("a"))
        await store.delete(key("a"))
        (tmp_path / "example.test/dummies/ns").rmdir()
        with pytest.raises(StorageError, match="No such file"):
            await put(store, key("b"))
        await put(store, key("b"))
    async with opened(tmp_path) as store:
        await store.get(key("b"))


class Gated(FileSystem):
    """File syncs wait for `gate`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.reached = threading.Event()

    def sync(self, descriptor: int) -> None:
        self.reached.set()
        assert self.gate.wait(10)
        super().sync(descriptor)


async def test_nothing_is_seen_before_it_is_durable(tmp_path: Path) -> None:
    files = Gated()
    async with opened(tmp_path, files) as store, store.watch(DUMMIES) as watch:
        writer = asyncio.create_task(put(store, key("a")))
        await asyncio.to_thread(files.reached.wait, 10)
        assert (await store.list(DUMMIES)).items == ()
        assert store.revision == 1
        assert not watch.drain()
        assert not writer.done()
        files.gate.set()
        assert await writer == 2
        assert [event.revision for event in watch.drain()] == [2]


async def test_cancelled_writer(tmp_path: Path) -> None:
    files = Gated()
    async with opened(tmp_path, files) as store:
        begun = asyncio.create_task(put(store, key("begun")))
        await asyncio.to_thread(files.reached.wait, 10)
        waiting = asyncio.create_task(put(store, key("waiting")))
        await asyncio.sleep(0)
        for task in (begun, waiting):
            task.cancel()
        await asyncio.wait((begun, waiting))
        assert (begun.cancelled(), waiting.cancelled()) == (True, True)
        files.gate.set()
        await put(store, key("next"))
        known = [item.key.name for item in (await store.list(DUMMIES)).items]
        assert known == ["begun", "next"], "what was begun is finished, what was not is dropped"
    async with opened(tmp_path) as store:
        assert [item.key.name for item in (await store.list(DUMMIES)).items] == known


async def test_close_finishes_waiting_writes(tmp_path: Path) -> None:
    files = Gated()
    async with opened(tmp_path, files) as store:
        writers = [asyncio.create_task(put(store, key(f"n{n}"))) for n in range(300)]
        await asyncio.to_thread(files.reached.wait, 10)
        files.gate.set()
    assert len({await writer for writer in writers}) == 300
    async with opened(tmp_path) as again:
        assert len((await again.list(DUMMIES)).items) == 300


async def test_cancelled_close_still_waits_for_the_disk(tmp_path: Path) -> None:
    files, writers = Gated(), list[asyncio.Task[int]]()

    async def run() -> None:
        async with opened(tmp_path, files) as store:
            writers.append(asyncio.create_task(put(store, key("a"))))
            await asyncio.to_thread(files.reached.wait, 10)

    running = asyncio.create_task(run())
    await asyncio.to_thread(files.reached.wait, 10)
    await asyncio.sleep(0.05)
    release = threading.Timer(0.2, files.gate.set)
    release.start()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert files.gate.is_set(), "the lock was let go while a thread was still writing"
    release.join()
    with pytest.raises(StorageError, match="the outcome is not known"):
        await writers[0]
    async with opened(tmp_path) as store:
        assert len((await store.list(DUMMIES)).items) == 1
