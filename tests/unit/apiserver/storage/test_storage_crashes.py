"""Random concurrent writes against a disk that fails, stops, or loses power between any two calls."""

import asyncio
import errno
import os
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apimachinery.gvk import GroupResource
from apimachinery.types import Object
from apiserver.storage.base import (
    Event,
    ExistsError,
    ExpiredError,
    Key,
    NotFoundError,
    RevisionMismatchError,
    Snapshot,
    StorageError,
    Watch,
)
from apiserver.storage.ceiling import BLOCK
from apiserver.storage.file import FileStore
from tests.support.budget import examples
from tests.unit.apiserver.storage.simulated_disk import Crash, SimulatedDisk

DUMMIES = GroupResource("example.test", "dummies")
NODES = GroupResource("", "nodes")
KEYS = [Key(DUMMIES, "a", "x"), Key(DUMMIES, "a", "y"), Key(DUMMIES, "b", "x"), Key(NODES, "", "x")]

Step = tuple[str, int]
"""An operation and the index of its key; the steps of a round run concurrently."""

ROUNDS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["create", "update", "stale update", "delete", "cancelled"]), st.integers(0, 3)),
        min_size=1,
        max_size=6,
    ),
    min_size=1,
    max_size=6,
)


@dataclass
class Model:
    """What the acknowledgements of a store commit it to, over all its lives."""

    acknowledged: dict[Key, int | None] = field(default_factory=dict)
    """The marker inside the last acknowledged object; None when its deletion was acknowledged."""
    possible: dict[Key, set[tuple[int | None, int]]] = field(default_factory=dict)
    """Marker and round of each write that was begun in the same round or later and not acknowledged."""
    round: int = 0
    failed_is_undone: bool = False
    """Whether StorageError means for certain that nothing happened: on a disk that fails but does not stop."""
    newest: int = 0
    """The greatest revision anybody has seen."""
    marker: int = 0

    def acknowledge(self, key: Key, marker: int | None, revision: int) -> None:
        assert revision > 0
        self.newest = max(self.newest, revision)
        self.acknowledged[key] = marker
        self.possible[key] = {entry for entry in self.possible.get(key, ()) if entry[1] == self.round}

    def unsure(self, key: Key, marker: int | None) -> None:
        self.possible.setdefault(key, set()).add((marker, self.round))

    def check_contents(self, found: dict[Key, int]) -> None:
        for key in KEYS:
            allowed = {self.acknowledged.get(key), *(marker for marker, _ in self.possible.get(key, ()))}
            assert found.get(key) in allowed, f"{key}: {found.get(key)} is not one of {allowed}"

    def check(self, store: FileStore, found: dict[Key, int]) -> None:
        """`found` is what a new life began with."""
        assert store.revision >= self.newest
        self.check_contents(found)
        self.acknowledged = {key: found.get(key) for key in KEYS}
        self.possible = {}
        self.newest = store.revision


def obj(key: Key, marker: int) -> Object:
    metadata: Object = {"name": key.name, "namespace": key.namespace} if key.namespace else {"name": key.name}
    return {"metadata": metadata, "marker": marker}


async def contents(store: FileStore) -> dict[Key, int]:
    snapshots = [await store.list(DUMMIES), await store.list(NODES)]
    return {item.key: item.object["marker"] for snapshot in snapshots for item in snapshot.items}


async def perform(store: FileStore, model: Model, step: Step) -> None:
    name, index = step
    key = KEYS[index]
    model.marker += 1
    marker: int | None = None if name == "delete" else model.marker
    revision = store.revision
    try:
        if name in ("create", "cancelled"):
            stored = await store.create(key, obj(key, model.marker))
        elif name == "delete":
            stored = await store.delete(key)
        else:
            current = await store.get(key)
            expected = current.revision - (name == "stale update")
            stored = await store.update(key, obj(key, model.marker), expected=expected)
    except (ExistsError, NotFoundError, RevisionMismatchError):
        return
    except StorageError:
        if not model.failed_is_undone:
            model.unsure(key, marker)
        return
    except asyncio.CancelledError:
        model.unsure(key, marker)
        raise
    assert stored.revision > revision, "revisions only grow"
    assert name != "stale update"
    model.acknowledge(key, marker, stored.revision)


async def play(store: FileStore, model: Model, rounds: list[list[Step]]) -> None:
    for steps in rounds:
        model.round += 1
        tasks = [asyncio.create_task(perform(store, model, step)) for step in steps]
        await asyncio.sleep(0)
        for task, (name, _) in zip(tasks, steps, strict=True):
            if name == "cancelled":
                await asyncio.sleep(0)
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            assert task.cancelled() or task.exception() is None, task


class Replica:
    """What a watcher knows: a list and every event since."""

    def __init__(self, snapshot: Snapshot, watch: Watch) -> None:
        self._objects = {item.key: item.json for item in snapshot.items}
        self._revision = snapshot.revision
        self._watch = watch

    def check(self, snapshot: Snapshot) -> None:
        for event in self._watch.drain(10_000):
            self._apply(event)
        assert {item.key: item.json for item in snapshot.items} == self._objects
        assert self._watch.revision == snapshot.revision

    def _apply(self, event: Event) -> None:
        assert event.revision > self._revision, "events come in revision order"
        self._revision = event.revision
        before = self._objects.pop(event.current.key, None)
        assert before == (event.previous.json if event.previous is not None else None)
        if event.type != "DELETED":
            self._objects[event.current.key] = event.current.json


async def life(disk: SimulatedDisk, directory: Path, model: Model, rounds: list[list[Step]]) -> None:
    """One process: opens the store, checks what it found, works, and ends (or crashes)."""
    damaged: list[str] = []
    async with FileStore.open(
        directory, on_damaged=lambda path, reason: damaged.append(f"{path}: {reason}"), files=disk
    ) as store:
        assert damaged == []
        model.check(store, await contents(store))
        if store.revision > 1:
            with pytest.raises(ExpiredError):
                async with store.watch(DUMMIES, since=store.revision - 1):
                    pass
        async with store.watch(DUMMIES) as watch:
            replica = Replica(await store.list(DUMMIES), watch)
            for steps in rounds:
                await play(store, model, [steps])
                replica.check(await store.list(DUMMIES))
        model.newest = max(model.newest, store.revision)
        model.check_contents(await contents(store))
    if not disk.crashed:
        assert disk.open_files == 0


async def lives(rounds_of_lives: list[tuple[list[list[Step]], int]], *, power_loss: random.Random | None) -> int:
    """Play the lives, then check once more; the number of those that crashed."""
    crashes = 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        disk, model = SimulatedDisk(name), Model()
        for rounds, crash_at in rounds_of_lives:
            disk.crash_at = crash_at
            try:
                await life(disk, directory, model, rounds)
            except Crash:
                pass
            crashes += disk.crashed
            disk = disk.after_power_loss(power_loss) if power_loss is not None else disk.after_crash()
        await life(disk, directory, model, [])
    return crashes


BUDGET = settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@BUDGET
@given(st.lists(st.tuples(ROUNDS, st.integers(0, 250)), min_size=1, max_size=3))
def test_process_stops_between_any_two_calls(rounds_of_lives: list[tuple[list[list[Step]], int]]) -> None:
    asyncio.run(lives(rounds_of_lives, power_loss=None))


@BUDGET
@given(st.lists(st.tuples(ROUNDS, st.integers(0, 250)), min_size=1, max_size=3), st.integers(0, 1_000_000))
def test_power_fails_between_any_two_calls(rounds_of_lives: list[tuple[list[list[Step]], int]], seed: int) -> None:
    asyncio.run(lives(rounds_of_lives, power_loss=random.Random(seed)))


def test_every_crash_point_of_one_scenario() -> None:
    """Exhaustive where the random tests sample: each call of a run in which every kind of write happens."""
    rounds: list[list[Step]] = [
        [("create", 0), ("create", 1), ("create", 3)],
        [("update", 0), ("delete", 1), ("create", 2), ("create", 1)],
        [("delete", 0), ("delete", 3), ("update", 2)],
    ]
    crash_at = 0
    while asyncio.run(lives([(rounds, crash_at)], power_loss=random.Random(crash_at))):
        crash_at += 1
    assert crash_at > 60, "the scenario became too small to mean something"


async def failing_life(rounds: list[list[Step]], failures: dict[int, int], power_loss: random.Random | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        disk, model = SimulatedDisk(name), Model(failed_is_undone=True)
        damaged: list[object] = []

        def fault(number: int, _call: str, path: str) -> OSError | None:
            code = failures.get(number - opened)
            return OSError(code, os.strerror(code), path) if code is not None else None

        async with FileStore.open(Path(name), on_damaged=lambda *args: damaged.append(args), files=disk) as store:
            opened = disk.calls
            disk.fault = fault
            async with store.watch(DUMMIES) as watch:
                replica = Replica(await store.list(DUMMIES), watch)
                for steps in rounds:
                    await play(store, model, [steps])
                    replica.check(await store.list(DUMMIES))
            disk.fault = lambda *_: None
            key = Key(NODES, "", "last")
            await store.create(key, obj(key, 0))
            known, revision = await contents(store), store.revision
            survivor = disk.after_power_loss(power_loss) if power_loss is not None else None
        model.check_contents(known)
        async with FileStore.open(
            Path(name), on_damaged=lambda *args: damaged.append(args), files=survivor or disk
        ) as again:
            assert await contents(again) == known, "what readers saw is what a restart finds"
            assert again.revision >= revision
        assert damaged == []
        assert not [path for path in (survivor or disk).files() if ".tmp-" in path]


FAILURES = st.dictionaries(
    st.integers(0, 150), st.sampled_from([errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS]), max_size=25
)


@BUDGET
@given(ROUNDS, FAILURES)
def test_failing_calls_change_nothing(rounds: list[list[Step]], failures: dict[int, int]) -> None:
    asyncio.run(failing_life(rounds, failures, None))


@BUDGET
@given(ROUNDS, FAILURES, st.integers(0, 1_000_000))
def test_failing_calls_and_a_power_failure_afterwards(
    rounds: list[list[Step]], failures: dict[int, int], seed: int
) -> None:
    asyncio.run(failing_life(rounds, failures, random.Random(seed)))


class Unlucky(random.Random):
    """A power failure that takes everything that was not synced."""

    def random(self) -> float:
        return 0.99

    def randint(self, a: int, b: int) -> int:
        return a


async def test_directory_whose_first_sync_failed(tmp_path: Path) -> None:
    disk = SimulatedDisk(str(tmp_path))
    failures = [errno.EIO]

    def fault(_number: int, call: str, path: str) -> OSError | None:
        made = call == "sync_directory" and path == str(tmp_path / "example.test")
        return OSError(failures.pop(), "injected", path) if made and failures else None

    async with FileStore.open(tmp_path, on_damaged=lambda *_: None, files=disk) as store:
        disk.fault = fault
        with pytest.raises(StorageError):
            await store.create(KEYS[0], obj(KEYS[0], 1))
        await store.create(KEYS[0], obj(KEYS[0], 2))
        survivor = disk.after_power_loss(Unlucky())
    async with FileStore.open(tmp_path, on_damaged=lambda *_: None, files=survivor) as store:
        assert await contents(store) == {KEYS[0]: 2}


async def test_revisions_of_deletions_survive_a_power_failure(tmp_path: Path) -> None:
    disk = SimulatedDisk(str(tmp_path))
    keys = [Key(DUMMIES, "ns", f"n{number}") for number in range(BLOCK)]
    async with FileStore.open(tmp_path, on_damaged=lambda *_: None, files=disk) as store:
        await asyncio.gather(*(store.create(key, obj(key, 1)) for key in keys))
        await asyncio.gather(*(store.delete(key) for key in keys))
        survivor, revision = disk.after_power_loss(Unlucky()), store.revision
    async with FileStore.open(tmp_path, on_damaged=lambda *_: None, files=survivor) as store:
        assert await contents(store) == {}
        assert revision <= store.revision <= revision + 2 * BLOCK
