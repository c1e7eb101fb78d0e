"""A place for one process, which is kept filled."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from aggregator.errors import StartError
from aggregator.processes.child import Child
from aggregator.processes.restarts import Restarts
from apiserver import logs

START_SECONDS = 120.0
"""How long a process may take until it is ready, before it is taken for one that hangs."""

log = logs.get("aggregator.supervisor")


class Slot:
    """`spawn` starts a process for this place; `restarted` is called for each that follows one that failed."""

    def __init__(self, name: str, spawn: Callable[[], Awaitable[Child]], *, restarted: Callable[[], None]) -> None:
        self.name = name
        self.current: Child | None = None
        self.others: set[Child] = set()
        """Processes on their way in or out."""
        self.was_ready = False
        self._spawn = spawn
        self._restarted = restarted
        self._restarts = Restarts()
        self._changing = asyncio.Lock()

    @property
    def serving(self) -> bool:
        return self.current is not None and self.current.serving

    async def start(self) -> None:
        """Start the first process and wait until it is ready.

        StartError when it says why it cannot be, or ends too often without a word.
        """
        while True:
            child = self.current = await self._spawn()
            if await child.settled(START_SECONDS):
                self.was_ready = True
                return
            await child.kill()
            if child.fault:
                raise StartError(child.fault)
            pause = self._restarts.ended(time.monotonic() - child.started)
            log.error("process ended before it was ready", process=self.name, pid=child.pid, ended=child.ended)
            if self._restarts.hopeless:
                raise StartError(f"the process {self.name} ended {self._restarts.failures} times before it was ready")
            await asyncio.sleep(pause)
            self._restarted()

    async def keep(self) -> None:
        """Start another process whenever the current one has ended, until cancelled."""
        while True:
            child = self.current
            assert child is not None
            await child.gone.wait()
            if self.current is not child:
                continue
            pause = self._restarts.ended(time.monotonic() - child.started)
            facts = {"process": self.name, "pid": child.pid, "ended": child.ended, "restart_in": round(pause, 3)}
            log.error("process ended", **facts, **({"error": child.fault} if child.fault else {}))
            await asyncio.sleep(pause)
            async with self._changing:
                while self.current is child:
                    await self._respawn()

    async def _respawn(self) -> None:
        self._restarted()
        try:
            child = self.current = await self._spawn()
        except OSError as error:
            # No memory, or no process to be had: that passes.
            pause = self._restarts.ended(0)
            log.error("process not started", process=self.name, error=str(error), restart_in=round(pause, 3))
            await asyncio.sleep(pause)
            return
        self._watch_start(child)

    def _watch_start(self, child: Child) -> None:
        """A process that hangs at its start would hold the place for ever."""
        asyncio.get_running_loop().call_later(
            START_SECONDS, lambda: None if child.ready.is_set() or child.gone.is_set() else child.kill_now()
        )

    async def replace(self, grace_seconds: float) -> bool:
        """Start another process, and end the current one when the other is ready. False when that one never was: the
        current one stays."""
        async with self._changing:
            new = await self._spawn()
            self.others.add(new)
            if not await new.settled(START_SECONDS):
                await new.kill()
                self.others.discard(new)
                log.error("new process not ready, the old one stays", process=self.name, error=new.fault or new.ended)
                return False
            old, self.current = self.current, new
        self.others.discard(new)
        if old is not None:
            self.others.add(old)
            # Idle clients have the first half of the time to leave by themselves, the rest the second.
            await old.stop(2 * grace_seconds, linger=grace_seconds)
            self.others.discard(old)
        return True

    def processes(self) -> list[Child]:
        """Everything of this place that may be running."""
        found = [*self.others, *([self.current] if self.current is not None else [])]
        return [child for child in found if not child.gone.is_set()]
