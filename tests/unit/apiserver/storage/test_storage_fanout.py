"""Positions in the history: lag, sleep, cancellation, bookmarks."""

import asyncio

import pytest

from apimachinery.gvk import GroupResource
from apiserver.storage.base import Event, ExpiredError, Key, Stored
from apiserver.storage.fanout import Fanout, HistoryLimits, Subscription

RESOURCE = GroupResource("g", "r")


def event(revision: int, namespace: str = "a", *, resource: GroupResource = RESOURCE, size: int = 0) -> Event:
    stored = Stored(Key(resource, namespace, f"n{revision}"), {"x": "y" * size}, revision)
    return Event("ADDED", stored, None, revision)


def fanout(*, events: int = 4, size: int = 1_000_000) -> Fanout:
    return Fanout(10, HistoryLimits(events=events, bytes=size))


async def begin(watch: Subscription) -> "asyncio.Task[Event]":
    """A task that waits in `anext`."""
    task = asyncio.create_task(_anext(watch))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def _anext(watch: Subscription) -> Event:
    return await anext(watch)


async def test_sleeping_watcher_does_not_lag_behind_foreign_events() -> None:
    hub = fanout()
    async with hub.subscribe(RESOURCE, "quiet", None) as watch:
        task = await begin(watch)
        hub.publish(event(11 + n, "busy") for n in range(20))
        assert watch.revision == 30
        assert not watch.drain()
        hub.publish([event(31, "quiet"), event(32, "busy"), event(33, "quiet")])
        assert (await task).revision == 31
        assert watch.revision == 31
        assert [each.revision for each in watch.drain()] == [33]


async def test_cancelled_wait_loses_nothing_and_does_not_lag() -> None:
    hub = fanout()
    async with hub.subscribe(RESOURCE, "quiet", None) as watch:
        task = await begin(watch)
        hub.publish(event(11 + n, "busy") for n in range(20))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hub.publish([event(31, "quiet")])
        assert [each.revision for each in watch.drain()] == [31]


async def test_event_between_cancellation_and_its_delivery() -> None:
    hub = fanout()
    async with hub.subscribe(RESOURCE, "", None) as watch:
        task = await begin(watch)
        task.cancel()
        hub.publish([event(11), event(12)])
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [each.revision for each in watch.drain()] == [11, 12]


async def test_event_before_cancellation_of_a_woken_wait() -> None:
    hub = fanout()
    async with hub.subscribe(RESOURCE, "", None) as watch:
        task = await begin(watch)
        hub.publish([event(11)])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [each.revision for each in watch.drain()] == [11]


async def test_lag_ends_a_watch() -> None:
    hub = fanout(events=4)
    async with hub.subscribe(RESOURCE, "", None) as slow, hub.subscribe(RESOURCE, "", None) as fast:
        hub.publish(event(11 + n) for n in range(4))
        assert len(fast.drain()) == 4
        hub.publish([event(15)])
        assert not slow.drain()
        with pytest.raises(StopAsyncIteration):
            await anext(slow)
        assert slow.revision == 10
        assert [each.revision for each in fast.drain()] == [15]


async def test_history_is_bounded_by_size_too() -> None:
    hub = fanout(events=1000, size=1000)
    hub.publish(event(11 + n, size=300) for n in range(10))
    assert hub.channel(RESOURCE).oldest == 17
    hub.publish([event(21, size=5000)])
    assert hub.channel(RESOURCE).oldest == 20
    async with hub.subscribe(RESOURCE, "", 20) as watch:
        assert [each.revision for each in watch.drain()] == [21]


async def test_since_is_checked_on_entering() -> None:
    hub = fanout(events=4)
    hub.publish(event(11 + n) for n in range(5))
    watch = hub.subscribe(RESOURCE, "", 10)
    with pytest.raises(ExpiredError) as caught:
        await watch.__aenter__()
    assert (caught.value.asked, caught.value.oldest) == (10, 11)


async def test_other_resources_do_not_shorten_history() -> None:
    hub = fanout(events=4)
    other = GroupResource("g", "other")
    hub.publish([event(11), *(event(12 + n, resource=other) for n in range(50))])
    async with hub.subscribe(RESOURCE, "", 10) as watch:
        assert [each.revision for each in watch.drain()] == [11]
        assert watch.revision == 61


async def test_bookmark_revision() -> None:
    hub = fanout()
    other = GroupResource("g", "other")
    async with hub.subscribe(RESOURCE, "a", 12) as watch:
        assert watch.revision == 12, "the future that was asked for"
        hub.publish([event(11), event(12), event(13, resource=other)])
        assert watch.revision == 13, "nothing to come at or below it"
        hub.publish([event(14, "a"), event(15, "b")])
        assert watch.revision == 13, "14 is still to come"
        assert [each.revision for each in watch.drain()] == [14]
        assert watch.revision == 15


async def test_leaving_ends_a_watch() -> None:
    hub = fanout()
    async with hub.subscribe(RESOURCE, "", None) as watch:
        task = await begin(watch)
    with pytest.raises(StopAsyncIteration):
        await task
    hub.publish([event(11)])
    assert not watch.drain()


async def test_thousand_waiting_watchers_get_each_event_once() -> None:
    hub = fanout(events=16)
    seen: list[int] = []

    async def read() -> None:
        async with hub.subscribe(RESOURCE, "", None) as watch:
            async for each in watch:
                seen.append(each.revision)

    tasks = [asyncio.create_task(read()) for _ in range(1000)]
    await asyncio.sleep(0)
    for revision in range(11, 21):
        hub.publish([event(revision)])
        await asyncio.sleep(0)
    hub.close()
    await asyncio.gather(*tasks)
    assert sorted(seen) == sorted([*range(11, 21)] * 1000)


async def test_wait_tells_of_events_of_time_and_of_the_end() -> None:
    hub = fanout()
    loop = asyncio.get_running_loop()
    async with hub.subscribe(RESOURCE, "", None) as watch:
        assert await watch.wait(loop.time() - 1), "the time is up already"
        assert await watch.wait(loop.time() + 0.02), "the time comes"
        assert not watch.drain()
        hub.publish([event(11)])
        assert await watch.wait(loop.time() - 1), "an event is there"
        assert [each.revision for each in watch.drain()] == [11]
        task = asyncio.create_task(watch.wait(loop.time() + 60))
        await asyncio.sleep(0)
        hub.publish([event(12)])
        assert await asyncio.wait_for(task, 1), "an event comes"
        task = asyncio.create_task(watch.wait(loop.time() + 60))
        await asyncio.sleep(0)
        hub.close()
        assert await asyncio.wait_for(task, 1), "12 is still to be read"
        assert [each.revision for each in watch.drain()] == [12]
        assert not await watch.wait(loop.time() + 60)


async def test_wait_for_another_time_replaces_the_timer() -> None:
    hub = fanout()
    loop = asyncio.get_running_loop()
    async with hub.subscribe(RESOURCE, "", None) as watch:
        task = asyncio.create_task(watch.wait(loop.time() + 60))
        await asyncio.sleep(0)
        hub.publish([event(11)])
        await task
        watch.drain()
        assert await asyncio.wait_for(watch.wait(loop.time() + 0.02), 1)


async def test_ending_a_watch_from_outside() -> None:
    hub = fanout()
    loop = asyncio.get_running_loop()
    async with hub.subscribe(RESOURCE, "", None) as watch:
        task = asyncio.create_task(watch.wait(loop.time() + 60))
        await asyncio.sleep(0)
        watch.end()
        assert not await asyncio.wait_for(task, 1)
        hub.publish([event(11)])
        assert not watch.drain()
        assert not await watch.wait(loop.time() + 60)


async def test_watches_that_are_equally_far_share_what_they_read() -> None:
    hub = fanout(events=100)
    async with (
        hub.subscribe(RESOURCE, "", None) as one,
        hub.subscribe(RESOURCE, "", None) as two,
        hub.subscribe(RESOURCE, "", None) as late,
        hub.subscribe(RESOURCE, "b", None) as narrow,
    ):
        hub.publish([event(11), event(12, "b")])
        shared = one.drain()
        assert two.drain() is shared
        assert [each.revision for each in narrow.drain()] == [12]
        hub.publish([event(13)])
        assert [each.revision for each in late.drain()] == [11, 12, 13]
        assert [each.revision for each in one.drain()] == [13]
        assert [each.revision for each in two.drain()] == [13]
        assert one.revision == two.revision == late.revision == narrow.revision == 13


async def test_a_piece_is_bounded_in_bytes() -> None:
    hub = fanout(events=100, size=100_000_000)
    async with hub.subscribe(RESOURCE, "", None) as watch:
        hub.publish(event(11 + n, size=400_000) for n in range(7))
        assert [len(watch.drain()) for _ in range(4)] == [3, 3, 1, 0]


async def test_waking_many_leaves_room_for_others() -> None:
    hub = fanout(events=100)
    woken = 0

    async def read() -> None:
        nonlocal woken
        async with hub.subscribe(RESOURCE, "", None) as watch:
            await anext(watch)
            woken += 1

    tasks = [asyncio.create_task(read()) for _ in range(500)]
    await asyncio.sleep(0)
    hub.publish([event(11)])
    for _ in range(5):
        await asyncio.sleep(0)
    assert 0 < woken < 250
    await asyncio.wait_for(asyncio.gather(*tasks), 5)


async def test_waking_has_a_pace_so_that_events_gather() -> None:
    hub = fanout(events=10_000)
    pieces: list[int] = []
    loop = asyncio.get_running_loop()

    async def read() -> None:
        async with hub.subscribe(RESOURCE, "", None) as watch:
            while await watch.wait(float("inf")):
                pieces.append(len(watch.drain(10_000)))

    tasks = [asyncio.create_task(read()) for _ in range(200)]
    await asyncio.sleep(0)
    started, revision = loop.time(), 10
    while len(pieces) < 1500:
        revision += 1
        hub.publish([event(revision)])
        await asyncio.sleep(0)
    elapsed = loop.time() - started
    assert len(pieces) <= 1000 + 10_000 * elapsed + 16, "a tenth of a second saved up, then 10,000 a second"
    await asyncio.sleep(0.1)
    hub.close()
    await asyncio.gather(*tasks)
    assert sum(pieces) == 200 * (revision - 10)
