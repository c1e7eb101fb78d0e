import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from apiserver.controller import Controller


@contextlib.asynccontextmanager
async def running(controller: Controller) -> AsyncIterator[None]:
    task = asyncio.create_task(controller.run(), name="controller")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.002)


async def test_key_enqueued_before_and_after_the_start_is_reconciled() -> None:
    seen: list[str] = []

    async def reconcile(key: str) -> None:
        seen.append(key)

    controller = Controller("test", reconcile)
    controller.enqueue("a")
    async with running(controller):
        await until(lambda: seen == ["a"])
        controller.enqueue("b")
        await until(lambda: seen == ["a", "b"])


async def test_failure_is_logged_in_one_line_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[float] = []

    async def reconcile(key: str) -> None:
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) < 4:
            raise RuntimeError("not yet")

    controller = Controller("test", reconcile, base_delay=0.01, cap_delay=0.02)
    with caplog.at_level(logging.WARNING, "controller"):
        async with running(controller):
            controller.enqueue("a")
            await until(lambda: len(attempts) == 4)
            await asyncio.sleep(0.05)
    assert len(attempts) == 4
    gaps = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert [gap >= least for gap, least in zip(gaps, (0.01, 0.02, 0.02), strict=True)] == [True] * 3
    assert [record.getMessage() for record in caplog.records] == ["reconcile failed"] * 3


async def test_returned_seconds_bring_the_key_back() -> None:
    seen = 0

    async def reconcile(key: str) -> float | None:
        nonlocal seen
        seen += 1
        return 0.01 if seen < 3 else None

    async with running(controller := Controller("test", reconcile)):
        controller.enqueue("a")
        await until(lambda: seen == 3)
        await asyncio.sleep(0.04)
    assert seen == 3


async def test_workers_run_side_by_side_but_never_on_one_key() -> None:
    now: list[str] = []
    widest = 0

    async def reconcile(key: str) -> None:
        nonlocal widest
        assert key not in now
        now.append(key)
        widest = max(widest, len(now))
        await asyncio.sleep(0.01)
        now.remove(key)

    controller = Controller("test", reconcile, workers=3)
    async with running(controller):
        for key in ("a", "b", "c", "d", "a", "b"):
            controller.enqueue(key)
        await asyncio.sleep(0)
        await until(lambda: widest > 0 and not now)
    assert widest == 3


async def test_resync_brings_every_key() -> None:
    seen: list[str] = []

    async def reconcile(key: str) -> None:
        seen.append(key)

    async with running(Controller("test", reconcile, resync=0.02, keys=lambda: ["a", "b"])):
        await until(lambda: seen.count("b") >= 2)
    assert seen[:4] == ["a", "b", "a", "b"]


async def test_resync_needs_keys() -> None:
    async def reconcile(key: str) -> None:
        return None

    with pytest.raises(ValueError, match="keys"):
        Controller("test", reconcile, resync=1)


async def test_nothing_is_left_after_the_end() -> None:
    async def forever(key: str) -> None:
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    async with running(controller := Controller("test", forever, workers=2, resync=1, keys=lambda: [])):
        controller.enqueue("a")
        await asyncio.sleep(0.01)
        assert len(asyncio.all_tasks() - before) == 4
    assert asyncio.all_tasks() == before
