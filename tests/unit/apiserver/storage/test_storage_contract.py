"""What every store promises, run on each of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from apimachinery.gvk import GroupResource
from apimachinery.types import Object
from apiserver.storage.base import (
    Event,
    ExistsError,
    ExpiredError,
    InvalidObjectError,
    Key,
    NotFoundError,
    RevisionMismatchError,
    StorageError,
    Store,
    Watch,
)
from apiserver.storage.fanout import HistoryLimits
from apiserver.storage.file import FileStore
from apiserver.storage.memory import MemoryStore

DUMMIES = GroupResource("example.test", "dummies")
NODES = GroupResource("", "nodes")
LIMITS = HistoryLimits(events=50)

AnyStore = FileStore | MemoryStore


@pytest.fixture(params=["memory", "file"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStore]:
    if request.param == "memory":
        memory = MemoryStore(limits=LIMITS)
        yield memory
        await memory.close()
        return
    damaged: list[str] = []
    async with FileStore.open(
        tmp_path / "data", on_damaged=lambda path, reason: damaged.append(f"{path} {reason}"), limits=LIMITS
    ) as file_store:
        yield file_store
    async with FileStore.open(
        tmp_path / "data", on_damaged=lambda path, reason: damaged.append(f"{path} {reason}"), limits=LIMITS
    ) as again:
        for resource in (DUMMIES, NODES):
            before, after = await file_store.list(resource), await again.list(resource)
            assert [(item.key, item.json) for item in before.items] == [(item.key, item.json) for item in after.items]
        assert again.revision == file_store.revision
    assert damaged == []


def key(name: str, namespace: str = "ns", resource: GroupResource = DUMMIES) -> Key:
    return Key(resource, namespace, name)


def obj(of: Key, **spec: Any) -> Object:
    metadata: Object = {"name": of.name}
    if of.namespace:
        metadata["namespace"] = of.namespace
    return {"metadata": metadata, "spec": spec}


async def next_event(watch: Watch) -> Event:
    return await asyncio.wait_for(anext(aiter(watch)), 5)


def brief(event: Event) -> tuple[str, str, int]:
    return (event.type, event.current.key.name, event.revision)


async def test_is_a_store(store: AnyStore) -> None:
    typed: Store = store
    assert typed.revision == 1


async def test_create_get(store: AnyStore) -> None:
    created = await store.create(key("a"), obj(key("a"), x=1))
    assert created.revision == store.revision == 2
    assert created.object == {
        "metadata": {"name": "a", "namespace": "ns", "resourceVersion": "2"},
        "spec": {"x": 1},
    }
    assert await store.get(key("a")) is created
    assert created.json == b'{"metadata":{"name":"a","namespace":"ns","resourceVersion":"2"},"spec":{"x":1}}'


async def test_create_existing(store: AnyStore) -> None:
    first = await store.create(key("a"), obj(key("a"), x=1))
    with pytest.raises(ExistsError) as caught:
        await store.create(key("a"), obj(key("a"), x=2))
    assert caught.value.current is first
    assert (await store.get(key("a"))).object["spec"] == {"x": 1}
    assert store.revision == first.revision


async def test_same_name_elsewhere_is_another_object(store: AnyStore) -> None:
    keys = [key("a"), key("a", "other"), key("a", "", NODES), key("a", "", DUMMIES), key("ns", "", DUMMIES)]
    for index, each in enumerate(keys):
        await store.create(each, obj(each, x=index))
    assert [(await store.get(each)).object["spec"]["x"] for each in keys] == [0, 1, 2, 3, 4]


async def test_update(store: AnyStore) -> None:
    first = await store.create(key("a"), obj(key("a"), x=1))
    second = await store.update(key("a"), obj(key("a"), x=2), expected=first.revision)
    assert (second.revision, second.object["metadata"]["resourceVersion"]) == (first.revision + 1, "3")
    assert first.object["spec"] == {"x": 1}
    with pytest.raises(RevisionMismatchError) as caught:
        await store.update(key("a"), obj(key("a"), x=3), expected=first.revision)
    assert caught.value.current is second


async def test_delete(store: AnyStore) -> None:
    first = await store.create(key("a"), obj(key("a"), x=1))
    with pytest.raises(RevisionMismatchError):
        await store.delete(key("a"), expected=first.revision + 1)
    last = await store.delete(key("a"), expected=first.revision)
    assert last.object == {**first.object, "metadata": {**first.object["metadata"], "resourceVersion": "3"}}
    assert last.revision == store.revision == 3
    with pytest.raises(NotFoundError):
        await store.get(key("a"))
    again = await store.create(key("a"), obj(key("a"), x=2))
    assert again.revision == 4
    await store.delete(key("a"))


async def test_missing(store: AnyStore) -> None:
    for attempt in (
        store.get(key("a")),
        store.update(key("a"), obj(key("a")), expected=1),
        store.delete(key("a")),
    ):
        with pytest.raises(NotFoundError):
            await attempt
    assert store.revision == 1


def deep() -> Object:
    value: Object = {}
    for _ in range(300):
        value = {"v": value}
    return value


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"spec": {}}, id="no metadata"),
        pytest.param({"metadata": []}, id="metadata is a list"),
        pytest.param({"metadata": {"name": "b", "namespace": "ns"}}, id="other name"),
        pytest.param({"metadata": {"name": "a"}}, id="no namespace"),
        pytest.param({"metadata": {"name": "a", "namespace": "ns"}, "spec": {1: 2}}, id="number as a key"),
        pytest.param({"metadata": {"name": "a", "namespace": "ns"}, "spec": deep()}, id="too deep"),
        pytest.param({"metadata": {"name": "a", "namespace": "ns"}, "spec": object()}, id="not JSON"),
    ],
)
async def test_invalid_object_reaches_only_its_writer(store: AnyStore, bad: Object) -> None:
    good, refused = await asyncio.gather(
        store.create(key("good"), obj(key("good"))), store.create(key("a"), bad), return_exceptions=True
    )
    assert isinstance(refused, InvalidObjectError)
    assert not isinstance(good, BaseException)
    assert [item.key.name for item in (await store.list(DUMMIES)).items] == ["good"]


async def test_objects_are_copied(store: AnyStore) -> None:
    mine = obj(key("a"), items=[1])
    await store.create(key("a"), mine)
    mine["spec"]["items"].append(2)
    mine["metadata"]["name"] = "b"
    stored = (await store.get(key("a"))).object
    assert stored["spec"] == {"items": [1]}
    assert stored["metadata"]["name"] == "a"
    assert "resourceVersion" not in mine["metadata"]


async def test_list_order_and_namespaces(store: AnyStore) -> None:
    for namespace, name in (("b", "a"), ("a-b", "x"), ("a", "z"), ("a", "b"), ("a", "b-c"), ("a", "b.c")):
        await store.create(key(name, namespace), obj(key(name, namespace)))
    everything = await store.list(DUMMIES)
    names = [(item.key.namespace, item.key.name) for item in everything.items]
    assert names == [("a", "b"), ("a", "b-c"), ("a", "b.c"), ("a", "z"), ("a-b", "x"), ("b", "a")]
    assert everything.revision == store.revision == 7
    assert [item.key.name for item in (await store.list(DUMMIES, "a")).items] == ["b", "b-c", "b.c", "z"]
    assert (await store.list(DUMMIES, "none")).items == ()
    assert (await store.list(NODES)).items == ()
    assert (await store.list(DUMMIES)).items is everything.items


async def test_snapshot_does_not_change(store: AnyStore) -> None:
    await store.create(key("a"), obj(key("a")))
    before = await store.list(DUMMIES)
    await store.delete(key("a"))
    assert [item.key.name for item in before.items] == ["a"]
    assert (await store.list(DUMMIES)).items == ()


async def test_list_at(store: AnyStore) -> None:
    past = [await store.list(DUMMIES)]
    for index in range(10):
        await store.create(key(f"n{index}"), obj(key(f"n{index}")))
        past.append(await store.list(DUMMIES))
    for index in range(5):
        current = await store.get(key(f"n{index}"))
        await store.update(current.key, obj(current.key, x=1), expected=current.revision)
        past.append(await store.list(DUMMIES))
        await store.delete(key(f"n{index + 5}"))
        past.append(await store.list(DUMMIES))
    for snapshot in past:
        assert await store.list_at(DUMMIES, "ns", revision=snapshot.revision) == snapshot
    with pytest.raises(ValueError, match="future"):
        await store.list_at(DUMMIES, revision=store.revision + 1)
    with pytest.raises(ExpiredError):
        await store.list_at(DUMMIES, revision=0)


async def test_compare_and_swap_under_concurrency(store: AnyStore) -> None:
    counter = key("counter")
    await store.create(counter, obj(counter, n=0))

    async def increment() -> None:
        for _ in range(8):
            while True:
                current = await store.get(counter)
                with suppress(RevisionMismatchError):
                    await store.update(
                        counter, obj(counter, n=current.object["spec"]["n"] + 1), expected=current.revision
                    )
                    break

    await asyncio.gather(*(increment() for _ in range(8)))
    assert (await store.get(counter)).object["spec"] == {"n": 64}
    assert store.revision == 2 + 64


async def test_one_of_many_creators_wins(store: AnyStore) -> None:
    outcomes = await asyncio.gather(
        *(store.create(key("a"), obj(key("a"), n=n)) for n in range(20)), return_exceptions=True
    )
    winners = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    losers = [outcome for outcome in outcomes if isinstance(outcome, ExistsError)]
    assert (len(winners), len(losers)) == (1, 19)
    assert all(loser.current is winners[0] for loser in losers)


async def test_writes_of_one_key_keep_their_order(store: AnyStore) -> None:
    async with store.watch(DUMMIES) as watch:
        await asyncio.gather(
            store.create(key("a"), obj(key("a"), n=1)),
            store.delete(key("a")),
            store.create(key("a"), obj(key("a"), n=2)),
            store.create(key("b"), obj(key("b"))),
            store.delete(key("a")),
        )
        events = [event for event in watch.drain() if event.current.key.name == "a"]
    assert [event.type for event in events] == ["ADDED", "DELETED", "ADDED", "DELETED"]


async def test_watch_from_now(store: AnyStore) -> None:
    await store.create(key("before"), obj(key("before")))
    async with store.watch(DUMMIES) as watch:
        assert watch.revision == store.revision
        assert not watch.drain()
        first = await store.create(key("a"), obj(key("a"), x=1))
        second = await store.update(key("a"), obj(key("a"), x=2), expected=first.revision)
        last = await store.delete(key("a"))
        events = [await next_event(watch), *watch.drain()]
    assert events == [
        Event("ADDED", first, None, first.revision),
        Event("MODIFIED", second, first, second.revision),
        Event("DELETED", last, second, last.revision),
    ]


async def test_watch_wakes_a_waiting_reader(store: AnyStore) -> None:
    async with store.watch(DUMMIES) as watch:
        waiting = asyncio.create_task(next_event(watch))
        await asyncio.sleep(0)
        await store.create(key("a", resource=NODES), obj(key("a", resource=NODES)))
        assert not waiting.done()
        await store.create(key("b"), obj(key("b")))
        assert brief(await waiting) == ("ADDED", "b", 3)


async def test_watch_of_a_namespace(store: AnyStore) -> None:
    async with store.watch(DUMMIES, "a") as watch:
        for namespace in ("b", "a", "b", "a-b"):
            name = f"n{store.revision}"
            await store.create(key(name, namespace), obj(key(name, namespace)))
        assert [brief(event) for event in watch.drain()] == [("ADDED", "n2", 3)]


async def test_watch_replays(store: AnyStore) -> None:
    for index in range(5):
        await store.create(key(f"n{index}"), obj(key(f"n{index}")))
    async with store.watch(DUMMIES, since=3) as watch:
        assert [event.revision for event in watch.drain(2)] == [4, 5]
        assert watch.revision == 5
        assert [event.revision for event in watch.drain()] == [6]
        assert not watch.drain()


async def test_watch_too_old(store: AnyStore) -> None:
    for index in range(60):
        await store.create(key(f"n{index}"), obj(key(f"n{index}")))
    with pytest.raises(ExpiredError) as caught:
        async with store.watch(DUMMIES, since=10):
            pass
    assert (caught.value.asked, caught.value.oldest) == (10, 11)
    async with store.watch(DUMMIES, since=11) as watch:
        assert len(watch.drain()) == 50
    async with store.watch(NODES, since=1) as watch:
        assert not watch.drain()
    with pytest.raises(ExpiredError):
        async with store.watch(NODES, since=0):
            pass


async def test_watch_from_the_future(store: AnyStore) -> None:
    async with store.watch(DUMMIES, since=3) as watch:
        assert watch.revision == 3
        for index in range(4):
            await store.create(key(f"n{index}"), obj(key(f"n{index}")))
        assert [event.revision for event in watch.drain()] == [4, 5]


async def test_slow_watcher_is_ended_and_others_are_not(store: AnyStore) -> None:
    seen: list[int] = []

    async def read(watch: Watch) -> None:
        async for event in watch:
            seen.append(event.revision)

    async with store.watch(DUMMIES) as slow, store.watch(DUMMIES) as fast:
        reader = asyncio.create_task(read(fast))
        for index in range(60):
            await store.create(key(f"n{index}"), obj(key(f"n{index}")))
            await asyncio.sleep(0)
        assert not slow.drain()
        with pytest.raises(StopAsyncIteration):
            await next_event(slow)
        await store.close()
        await asyncio.wait_for(reader, 5)
    assert seen == list(range(2, 62))


async def test_close_ends_watches_after_the_last_event(store: AnyStore) -> None:
    async with store.watch(DUMMIES) as behind, store.watch(NODES) as waiting:
        ended = asyncio.create_task(next_event(waiting))
        await store.create(key("a"), obj(key("a")))
        await store.close()
        with pytest.raises(StopAsyncIteration):
            await ended
        assert brief(await next_event(behind)) == ("ADDED", "a", 2)
        with pytest.raises(StopAsyncIteration):
            await next_event(behind)
    with pytest.raises(StorageError):
        await store.create(key("b"), obj(key("b")))
    assert (await store.get(key("a"))).revision == 2
    async with store.watch(DUMMIES, since=1) as late:
        assert [brief(event) async for event in late] == [("ADDED", "a", 2)]
    await store.close()
