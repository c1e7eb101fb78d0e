"""A work queue of keys: no key twice, none worked on twice at a time, again after a failure (aggregator.md 0, 3)."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable

from apiserver.metrics import QueueInstruments

BASE_DELAY_SECONDS = 0.005
LONGEST_DELAY_SECONDS = 30.0


class WorkQueue:
    """Keys to work on, in the order of arrival. `monotonic` is the clock in seconds.

    The n-th failure in a row of a key waits `base` times two to the power of n-1, at most `cap` seconds.
    """

    def __init__(
        self,
        *,
        base: float = BASE_DELAY_SECONDS,
        cap: float = LONGEST_DELAY_SECONDS,
        instruments: QueueInstruments | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._base = base
        self._cap = cap
        self._instruments = instruments
        self._monotonic = monotonic or (lambda: asyncio.get_running_loop().time())
        self._ready: deque[str] = deque()
        self._waiting: dict[str, float] = {}
        """When each ready key was added."""
        self._running: dict[str, float] = {}
        """When work on each key began."""
        self._again: set[str] = set()
        """Keys that were added while they were worked on."""
        self._later: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._wake = asyncio.Event()
        if instruments is not None:
            instruments.watch_running(self._running_seconds)

    def add(self, key: str) -> None:
        """Have `key` worked on as soon as possible."""
        if key in self._waiting:
            return
        if key in self._running:
            self._again.add(key)
            return
        self._waiting[key] = self._monotonic()
        self._ready.append(key)
        if self._instruments is not None:
            self._instruments.adds.inc()
            self._instruments.depth.set(len(self._waiting))
        self._wake.set()

    def add_after(self, key: str, seconds: float) -> None:
        """Have `key` worked on after a while; the earliest of several dates counts."""
        if seconds <= 0:
            self.add(key)
            return
        when = self._monotonic() + seconds
        if key in self._due and self._due[key] <= when:
            return
        self._due[key] = when
        heapq.heappush(self._later, (when, key))
        self._wake.set()

    def add_failed(self, key: str) -> float:
        """Have `key` worked on again after its backoff; returns the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._base * 2.0 ** min(failures, 60), self._cap)
        if self._instruments is not None:
            self._instruments.retries.inc()
        self.add_after(key, delay)
        return delay

    def forget(self, key: str) -> None:
        """Work on `key` succeeded: its next failure is the first one again."""
        self._failures.pop(key, None)

    async def get(self) -> str:
        """The next key; `done` must be called for it afterwards."""
        while True:
            self._move_due()
            if self._ready:
                return self._take()
            self._wake.clear()
            timeout = max(0.0, self._later[0][0] - self._monotonic()) if self._later else None
            try:
                # Not wait_for: before Python 3.12 it can swallow a cancellation that comes with the wake-up.
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def done(self, key: str) -> None:
        """Work on `key` has ended; if it was added meanwhile, it is ready again."""
        began = self._running.pop(key)
        if self._instruments is not None:
            self._instruments.worked.observe(self._monotonic() - began)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _take(self) -> str:
        key = self._ready.popleft()
        now = self._monotonic()
        added = self._waiting.pop(key)
        self._running[key] = now
        if self._instruments is not None:
            self._instruments.depth.set(len(self._waiting))
            self._instruments.waited.observe(now - added)
        if self._ready:
            # Several workers wait on one event: the one that was woken passes it on.
            self._wake.set()
        return key

    def _move_due(self) -> None:
        now = self._monotonic()
        while self._later and self._later[0][0] <= now:
            when, key = heapq.heappop(self._later)
            if self._due.get(key) == when:
                del self._due[key]
                self.add(key)

    def _running_seconds(self) -> list[float]:
        now = self._monotonic()
        return [now - began for began in self._running.values()]
