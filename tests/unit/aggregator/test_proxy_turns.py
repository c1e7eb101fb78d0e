"""Turns of connecting: how many at a time, in which order, and what becomes of those who hold up the others."""

import asyncio
from collections.abc import Hashable

import pytest

from aggregator.proxy.turns import Turns
from tests.unit.aggregator.proxy_kit import on_uvloop

NEVER = 60.0


class _Dials:
    """Takes turns; what has had one is in `begun`, and lasts until it is told to end."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, *names: str) -> None:
        """The first letter of a name is its upstream."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._run(name, name[0]), name=name)
        await self.settle()

    async def _run(self, name: str, who: Hashable) -> None:
        await self.turns.take(who)
        try:
            self.begun.append(name)
            await self._ends[name].wait()
        finally:
            self.turns.ended()

    def allow(self, name: str) -> None:
        """Let it end."""
        self._ends[name].set()

    async def end(self, *names: str) -> None:
        for name in names:
            self.allow(name)
        await self.settle()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()
        await asyncio.gather(*(self._tasks[name] for name in names), return_exceptions=True)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def close(self) -> None:
        await self.cancel(*self._tasks)


@on_uvloop
async def test_so_many_at_a_time_and_upstreams_in_turn() -> None:
    dials = _Dials(Turns(2, NEVER))
    await dials.start("a1", "a2", "a3", "a4", "b1", "c1")
    assert dials.begun == ["a1", "a2"]
    await dials.end("a1", "a2")
    assert dials.begun[2:] == ["a3", "b1"]
    await dials.end("a3", "b1", "c1", "a4")
    assert dials.begun[4:] == ["c1", "a4"]
    await dials.start("d1")
    assert dials.begun[6:] == ["d1"]
    await dials.close()


@on_uvloop
async def test_each_begins_in_a_round_of_the_event_loop_of_its_own() -> None:
    turns = Turns(1, NEVER)
    rounds: list[int] = []
    now = 0

    async def dial() -> None:
        await turns.take("a")
        rounds.append(now)
        turns.ended()

    tasks = [asyncio.create_task(dial(), name="dial") for _ in range(4)]
    while not all(task.done() for task in tasks):
        now += 1
        await asyncio.sleep(0)
    await turns.take("a")
    held = [asyncio.create_task(dial(), name="dial") for _ in range(4)]
    await asyncio.sleep(0)
    rounds.clear()
    turns.ended()
    while not all(task.done() for task in held):
        now += 1
        await asyncio.sleep(0)
    assert len(set(rounds)) == 4


@on_uvloop
async def test_who_takes_long_makes_room() -> None:
    dials = _Dials(Turns(1, 0.02))
    began = asyncio.get_running_loop().time()
    await dials.start("a1", "a2", "b1")
    assert dials.begun == ["a1"]
    while len(dials.begun) < 3:
        await asyncio.sleep(0.005)
    assert asyncio.get_running_loop().time() - began >= 0.03
    assert dials.begun == ["a1", "a2", "b1"]
    # All three are still under way: nobody else begins before there is room again, or another pause has gone by.
    await dials.start("a3")
    assert len(dials.begun) == 3
    await dials.end("a1", "a2")
    assert len(dials.begun) == 3
    await dials.end("b1")
    assert dials.begun[3:] == ["a3"]
    await dials.close()


@pytest.mark.parametrize("when", ["waiting", "called", "begun"])
@on_uvloop
async def test_who_is_cancelled_holds_up_nobody(when: str) -> None:
    dials = _Dials(Turns(1, NEVER))
    await dials.start("a1", "a2", "b1")
    if when == "waiting":
        await dials.cancel("a2")
        await dials.end("a1")
        assert dials.begun == ["a1", "b1"]
    elif when == "called":
        # Its turn has come, and in the same round it is cancelled.
        dials.allow("a1")
        await asyncio.sleep(0)
        await dials.cancel("a2")
        assert dials.begun == ["a1", "b1"]
    else:
        await dials.cancel("a1")
        assert dials.begun == ["a1", "a2"]
    await dials.close()
