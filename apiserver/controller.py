"""The one control loop: take a key, bring the world in line with what is wanted for it, try again on failure."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from apiserver import logs
from apiserver.metrics import ServerMetrics
from apiserver.queue import BASE_DELAY_SECONDS, LONGEST_DELAY_SECONDS, WorkQueue

Reconcile = Callable[[str], Awaitable[float | None]]
"""Works on one key; returns the seconds after which to look again, None for the next change or resync.

Whatever it raises is logged, and the key is tried again with a growing delay."""

log = logs.get("controller")


class Controller:
    """Level-triggered: a key says that something changed, not what.

    Within `resync` seconds each of `keys` is looked at once, evenly spread.
    """

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        *,
        workers: int = 1,
        resync: float | None = None,
        keys: Callable[[], Iterable[str]] | None = None,
        metrics: ServerMetrics | None = None,
        base_delay: float = BASE_DELAY_SECONDS,
        cap_delay: float = LONGEST_DELAY_SECONDS,
    ) -> None:
        if resync is not None and keys is None:
            raise ValueError(f"controller {name}: a resync needs the keys")
        self.name = name
        self._reconcile = reconcile
        self._workers = workers
        self._resync = resync
        self._keys = keys
        instruments = metrics.queue(name) if metrics is not None else None
        self._queue = WorkQueue(base=base_delay, cap=cap_delay, instruments=instruments)

    def enqueue(self, key: str) -> None:
        """Have `key` looked at soon. Needs a running event loop."""
        self._queue.add(key)

    def enqueue_after(self, key: str, seconds: float) -> None:
        """Have `key` looked at after a while; the earliest of several dates counts. Needs a running event loop."""
        self._queue.add_after(key, seconds)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name} worker {number}")
            if self._resync is not None:
                group.create_task(self._resync_all(self._resync), name=f"{self.name} resync")

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                again = await self._reconcile(key)
            except Exception as error:
                delay = self._queue.add_failed(key)
                log.warning("reconcile failed", controller=self.name, item=key, error=repr(error), retry_seconds=delay)
            else:
                self._queue.forget(key)
                if again is not None:
                    self._queue.add_after(key, again)
            finally:
                self._queue.done(key)

    async def _resync_all(self, seconds: float) -> None:
        while True:
            keys = list(self._keys()) if self._keys is not None else []
            # One after the other: what each costs adds up when all are looked at in the same moment.
            pause = seconds / max(1, len(keys))
            for key in keys:
                await asyncio.sleep(pause)
                self._queue.add(key)
            if not keys:
                await asyncio.sleep(pause)
