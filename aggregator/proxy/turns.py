"""Whose turn it is to connect: handshakes are work, and requests that need none go on in between."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable


class Turns:
    """A few connections are made at a time. Upstreams take turns; within one it is first come, first served.

    While some take long another one begins every `patience` seconds: a backend far away, or one that is silent, holds
    nobody up for longer.
    """

    def __init__(self, at_once: int, patience: float) -> None:
        self._at_once = at_once
        self._patience = patience
        self._running = 0
        self._began = 0.0
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, who: Hashable) -> None:
        """Wait until a connection may be made; `ended` has to follow."""
        if self._running < self._at_once and not self._waiting:
            self._running += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(who, deque()).append(turn)
        if self._timer is None:
            self._wait()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.ended()
            raise

    def ended(self) -> None:
        """A connection has been made, or cannot be."""
        self._running -= 1
        if self._waiting and self._running < self._at_once:
            self._next()

    def _next(self) -> None:
        """Begin one more. It does in the next round of the event loop: whatever else is ready is served before."""
        while self._waiting:
            who, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[who] = turns
            if not turn.done():
                self._running += 1
                turn.set_result(None)
                return

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._patience, self._impatient)

    def _impatient(self) -> None:
        self._timer = None
        self._next()
        if self._waiting:
            self._wait()
