"""Tasks that run as long as the process: named, owned, and fatal when they end on their own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from apiserver import logs

log = logs.get("background")


class Background:
    """Owns tasks. `on_failure` is told when one of them ends before `stop`: none of them ever should."""

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, name: str, work: Coroutine[Any, Any, Any], *, ends: bool = False) -> None:
        """Run `work` until `stop`. With `ends` it may return early, but not raise."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(lambda done: self._ended(done, ends=ends))
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[Any], *, ends: bool) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None and ends:
            return
        log.error("task ended", task=task.get_name(), error=repr(error) if error is not None else "returned")
        self._on_failure()

    async def stop(self) -> None:
        """Cancel all tasks, the newest first, and wait for each."""
        for task in reversed(self._tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._tasks.clear()
