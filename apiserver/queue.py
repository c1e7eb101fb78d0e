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
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
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
        self._wake_one()

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
        if self._later[0][1] == key:
            self._set_timer()

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
        while not self._ready:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                if self._ready:
                    # It may have been woken for a key that another one has to take now.
                    self._wake_one()
                raise
        return self._take()

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
        return key

    def _wake_one(self) -> None:
        # One worker for one key: there may be a hundred workers, and most of the time all of them wait.
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._later:
            delay = max(0.0, self._later[0][0] - self._monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._move_due)

    def _move_due(self) -> None:
        now = self._monotonic()
        while self._later and self._later[0][0] <= now:
            when, key = heapq.heappop(self._later)
            if self._due.get(key) == when:
                del self._due[key]
                self.add(key)
        self._set_timer()

    def _running_seconds(self) -> list[float]:
        now = self._monotonic()
        return [now - began for began in self._running.values()]
