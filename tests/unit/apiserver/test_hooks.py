import asyncio

import pytest

from apiserver.health import HealthChecks
from apiserver.hooks import PostStartHooks


async def test_hooks_run_together_and_each_is_a_check_until_done() -> None:
    health = HealthChecks()
    hooks = PostStartHooks(health)
    first, second = asyncio.Event(), asyncio.Event()
    hooks.add("first", first.wait)
    hooks.add("second", second.wait)
    running = asyncio.create_task(hooks.run(), name="hooks")
    await asyncio.sleep(0)
    assert health.respond("readyz", "poststarthook/first", {}) == (500, "internal server error: not finished\n")
    second.set()
    await asyncio.sleep(0.01)
    assert (hooks.done("first"), hooks.done("second"), hooks.all_done) == (False, True, False)
    assert health.respond("readyz", "poststarthook/second", {}) == (200, "ok")
    first.set()
    await running
    assert hooks.all_done
    assert health.respond("readyz", "", {}) == (200, "ok")


async def test_failing_hook_ends_the_others_and_is_raised() -> None:
    hooks = PostStartHooks(HealthChecks())

    async def fail() -> None:
        raise RuntimeError("no luck")

    hooks.add("waiting", asyncio.Event().wait)
    hooks.add("failing", fail)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(hooks.run(), 2)
    assert [str(error) for error in caught.value.exceptions] == ["no luck"]
    assert not hooks.all_done


async def test_no_hook_after_the_start_and_no_name_twice() -> None:
    hooks = PostStartHooks(HealthChecks())

    async def nothing() -> None:
        return None

    hooks.add("once", nothing)
    with pytest.raises(ValueError, match="once"):
        hooks.add("once", nothing)
    assert not hooks.all_done
    await hooks.run()
    with pytest.raises(RuntimeError, match="late"):
        hooks.add("late", nothing)
