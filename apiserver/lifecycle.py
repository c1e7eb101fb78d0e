"""The end of a process: signals, and what health checks say meanwhile (aggregator.md 7.3)."""

import asyncio
import os
import signal
from collections.abc import Callable

from apiserver import logs

log = logs.get("lifecycle")


class Shutdown:
    """Set by SIGTERM or SIGINT; the second signal ends the process at once with exit code 1."""

    def __init__(self, at_once: Callable[[], None] | None = None) -> None:
        """`at_once` is called before the second signal ends the process; it must not wait for anything."""
        self._requested = asyncio.Event()
        self._at_once = at_once

    @property
    def requested(self) -> bool:
        return self._requested.is_set()

    def request(self) -> None:
        self._requested.set()

    async def wait(self) -> None:
        await self._requested.wait()

    def check(self) -> str | None:
        """The readyz check `shutdown`."""
        return "process is shutting down" if self.requested else None

    def install(self) -> None:
        """Listen to signals; needs a running loop in the main thread."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if self.requested:
            log.warning("second signal, ending at once", signal=name)
            if self._at_once is not None:
                self._at_once()
            # No clean-up on purpose: whatever hangs must not keep the process from ending.
            os._exit(1)
        log.info("stopping", signal=name)
        self.request()
