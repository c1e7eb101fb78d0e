import asyncio

import pytest
from prometheus_client import CollectorRegistry

from apiserver.metrics import ServerMetrics
from apiserver.queue import WorkQueue


async def take(queue: WorkQueue) -> str:
    return await asyncio.wait_for(queue.get(), 1)


async def nothing_ready(queue: WorkQueue) -> bool:
    try:
        await asyncio.wait_for(queue.get(), 0.02)
    except TimeoutError:
        return True
    return False


async def test_keys_come_in_order_and_once() -> None:
    queue = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert [await take(queue), await take(queue)] == ["a", "b"]
    assert await nothing_ready(queue)


async def test_key_added_during_work_comes_again_only_after_it() -> None:
    queue = WorkQueue()
    queue.add("a")
    await take(queue)
    queue.add("a")
    queue.add("a")
    assert await nothing_ready(queue)
    queue.done("a")
    assert await take(queue) == "a"
    queue.done("a")
    assert await nothing_ready(queue)


async def test_every_waiting_worker_is_woken() -> None:
    queue = WorkQueue()
    workers = [asyncio.create_task(take(queue), name=f"worker-{n}") for n in range(3)]
    await asyncio.sleep(0)
    for key in ("a", "b", "c"):
        queue.add(key)
    assert sorted(await asyncio.gather(*workers)) == ["a", "b", "c"]


async def test_cancelled_worker_loses_no_key() -> None:
    queue = WorkQueue()
    first = asyncio.create_task(take(queue), name="first")
    second = asyncio.create_task(take(queue), name="second")
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    done, _ = await asyncio.wait({first, second}, return_when=asyncio.ALL_COMPLETED, timeout=0.5)
    taken = [task.result() for task in done if not task.cancelled()]
    assert taken == ["a"]
    second.cancel()


async def test_workers_cancelled_in_the_same_moment_lose_no_key() -> None:
    queue = WorkQueue()
    workers = [asyncio.create_task(queue.get(), name=f"worker-{n}") for n in range(3)]
    await asyncio.sleep(0)
    workers[0].cancel()
    queue.add("a")
    workers[1].cancel()
    results = await asyncio.wait_for(asyncio.gather(*workers, return_exceptions=True), 1)
    assert [result for result in results if isinstance(result, str)] == ["a"]


async def test_a_delayed_key_wakes_a_worker_that_waits_without_end() -> None:
    queue = WorkQueue()
    worker = asyncio.create_task(take(queue), name="worker")
    await asyncio.sleep(0)
    queue.add_after("b", 0.03)
    queue.add_after("a", 0.01)
    assert await worker == "a"
    assert await take(queue) == "b"


@pytest.mark.parametrize(("delays", "order"), [((0.06, 0.01), "early"), ((0.01, 0.06), "late")])
async def test_earliest_of_several_delays_counts(delays: tuple[float, float], order: str) -> None:
    queue = WorkQueue()
    loop = asyncio.get_running_loop()
    start = loop.time()
    for delay in delays:
        queue.add_after("a", delay)
    assert await take(queue) == "a"
    assert 0.01 <= loop.time() - start < 0.05, order
    queue.done("a")
    await asyncio.sleep(0.06)
    assert await nothing_ready(queue)


async def test_shorter_delay_overtakes_a_worker_that_sleeps() -> None:
    queue = WorkQueue()
    queue.add_after("late", 30)
    worker = asyncio.create_task(take(queue), name="worker")
    await asyncio.sleep(0)
    queue.add_after("early", 0.01)
    assert await worker == "early"


async def test_backoff_doubles_to_its_cap_and_is_forgotten() -> None:
    queue = WorkQueue(base=0.005, cap=30)
    delays = [queue.add_failed("a") for _ in range(15)]
    assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
    assert delays[12:] == [20.48, 30, 30]
    assert queue.add_failed("other") == 0.005
    queue.forget("a")
    assert queue.add_failed("a") == 0.005
    assert [queue.add_failed("b") for _ in range(3000)][-1] == 30


async def test_metrics_tell_what_happens() -> None:
    clock = [100.0]
    registry = CollectorRegistry()
    queue = WorkQueue(instruments=ServerMetrics(registry).queue("q"), monotonic=lambda: clock[0])

    def value(metric: str) -> float | None:
        return registry.get_sample_value(f"workqueue_{metric}", {"name": "q"})

    queue.add("a")
    queue.add("b")
    queue.add("b")
    assert (value("depth"), value("adds_total")) == (2, 2)
    clock[0] += 3
    await take(queue)
    assert (value("depth"), value("queue_duration_seconds_sum")) == (1, 3)
    clock[0] += 2
    await take(queue)
    clock[0] += 1
    assert (value("unfinished_work_seconds"), value("longest_running_processor_seconds")) == (4, 3)
    queue.done("a")
    queue.done("b")
    queue.add_failed("a")
    assert (value("work_duration_seconds_sum"), value("work_duration_seconds_count")) == (4, 2)
    assert (value("unfinished_work_seconds"), value("retries_total")) == (0, 1)
