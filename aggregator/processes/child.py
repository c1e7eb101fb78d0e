"""One process that the supervisor has started."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from aggregator.processes.channel import Channel, Message
from aggregator.processes.sums import Snapshot

Kind = Literal["api", "proxy"]

_ANSWER_SECONDS = 2.0
_KILL_SECONDS = 5.0
_SILENCE_SECONDS = 1.0


class Child:
    """A running process. `on_message` gets what it says beyond being ready, having failed and its metrics; `on_change`
    is called when it is ready, is told to leave, and is gone."""

    def __init__(
        self, name: str, on_message: Callable[["Child", Message], None], on_change: Callable[["Child"], None]
    ) -> None:
        self.name = name
        self.ready = asyncio.Event()
        self.gone = asyncio.Event()
        """The process has ended; `ended` says how."""
        self.leaving = False
        """It was told to stop."""
        self.fault = ""
        """Why it could not start, in its own words."""
        self.started = time.monotonic()
        self.metrics: Snapshot = []
        """What was heard last."""
        self.unanswered = 0
        """Times that it was asked whether it is there since it said anything."""
        self._told = on_message
        self._changed = on_change
        self._silent = asyncio.Event()
        self._channel = Channel(self._on_message, self._silent.set)
        self._answered: asyncio.Future[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        name: str,
        kind: Kind,
        arguments: Sequence[str],
        descriptors: Sequence[int],
        on_message: Callable[["Child", Message], None],
        on_change: Callable[["Child"], None],
    ) -> "Child":
        """Start this program again as a process of that kind, which inherits the descriptors. OSError."""
        child = cls(name, on_message, on_change)
        ours, theirs = socket.socketpair()
        with contextlib.closing(theirs):
            try:
                child._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-P", "-m", "aggregator", "process", kind, "--name", name, "--channel", str(theirs.fileno())),
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *descriptors),
                    # Ctrl-C is for the supervisor, which ends the others in order.
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        await child._channel.open(ours)
        child._waiting = asyncio.get_running_loop().create_task(child._wait(), name=f"process {name}")
        return child

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def serving(self) -> bool:
        return self.ready.is_set() and not self.gone.is_set() and not self.leaving

    @property
    def ended(self) -> str:
        code = self._process.returncode if self._process is not None else None
        if code is None:
            return "running"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def send(self, kind: str, **members: object) -> bool:
        return self._channel.send(kind, **members)

    async def ask_metrics(self) -> None:
        """Bring `metrics` up to date; what does not answer in time keeps what it said last."""
        if self._answered is None:
            if not self._channel.send("metrics"):
                return
            self._answered = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await asyncio.shield(self._answered)
        except TimeoutError:
            pass

    async def settled(self, seconds: float) -> bool:
        """Wait until it is ready or gone, or the time is over; whether it serves."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.ready, self.gone)]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return self.serving

    async def stop(self, seconds: float, **members: object) -> None:
        """Ask it to end; kill it when it has not after so many seconds and a few."""
        self.leaving = True
        self._changed(self)
        if not self.gone.is_set():
            self.send("stop", **members)
        try:
            async with asyncio.timeout(seconds + _KILL_SECONDS):
                await self.gone.wait()
        except TimeoutError:
            await self.kill()

    def kill_now(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def kill(self) -> None:
        self.leaving = True
        self.kill_now()
        await self.gone.wait()

    async def _wait(self) -> None:
        assert self._process is not None
        await self._process.wait()
        # What it said last is still to be read; nobody else should have its end of the channel.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SILENCE_SECONDS):
                await self._silent.wait()
        self._channel.close()
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)
        self.gone.set()
        self._changed(self)

    def _on_message(self, message: Message) -> None:
        kind = message["type"]
        self.unanswered = 0
        if kind == "pong":
            return
        if kind == "ready":
            self.ready.set()
            self._changed(self)
        elif kind == "failed":
            self.fault = message["error"]
        elif kind == "metrics":
            self.metrics = message["families"]
            if self._answered is not None:
                answered, self._answered = self._answered, None
                if not answered.done():
                    answered.set_result(None)
        else:
            self._told(self, message)


def config_arguments(config: Path | None) -> list[str]:
    return ["--config", str(config)] if config is not None else []
