import asyncio

import pytest

from apiserver.background import Background


class Fatal:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def test_stop_ends_the_newest_first() -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)

    fatal = Fatal()
    background = Background(fatal)
    background.start("first", work("first"))
    background.start("second", work("second"))
    await asyncio.sleep(0)
    await background.stop()
    assert ended == ["second", "first"]
    assert fatal.count == 0


@pytest.mark.parametrize(
    ("error", "ends", "fatal"),
    [
        pytest.param(None, False, 1, id="returned"),
        pytest.param(None, True, 0, id="may return"),
        pytest.param(ValueError("x"), False, 1, id="raised"),
        pytest.param(ValueError("x"), True, 1, id="may return, raised"),
    ],
)
async def test_an_early_end_is_reported(error: Exception | None, ends: bool, fatal: int) -> None:
    async def work() -> None:
        if error is not None:
            raise error

    told = Fatal()
    background = Background(told)
    background.start("work", work(), ends=ends)
    await asyncio.sleep(0.01)
    assert told.count == fatal
    await background.stop()
