"""The proxy's process as a test sees it."""

import asyncio
import contextlib
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
_GROWTH = 24 * 1024 * 1024
"""Bytes that the process may grow after its warm-up. Without a leak it goes up and down by 14 MB, as pages are given
back to the system or not; a leak grows with the time of the run."""

_TRIM_SECONDS = 1.5
"""The proxy under test gives memory back every tenth sweep, a second."""
_BUSY = ("in_flight", "long_running", "downstream", "upstream")


def seconds(name: str, default: float) -> float:
    """The budget of a run, from the environment."""
    return float(os.environ.get(name, default))


class Served:
    """`port` is the proxy's; the process answers `stats`."""

    def __init__(self, process: Process, port: int) -> None:
        self._process = process
        self.port = port

    async def stats(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"stats\n")
        found: dict[str, Any] = await self._answer()
        return found

    async def quiet(self) -> dict[str, Any]:
        """The figures once nothing is in progress any more; AssertionError when something never ends."""
        deadline = time.monotonic() + 15
        while True:
            found = await self.stats()
            busy = {
                name: found[name] for name in ("in_flight", "long_running", "downstream", "upstream") if found[name]
            }
            if not busy:
                await asyncio.sleep(_TRIM_SECONDS)
                return await self.stats()
            assert time.monotonic() < deadline, f"still there after the load has ended: {busy}"
            await asyncio.sleep(0.2)

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        last = await self._answer()
        assert last == {"left": []}
        assert await self._process.wait() == 0

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 15)
        assert line, f"the proxy has ended with {self._process.returncode}"
        return json.loads(line)


@contextlib.asynccontextmanager
async def served(directory: Path, services: Mapping[str, int], *, share: bool = False) -> AsyncIterator[Served]:
    """The proxy in front of these backends (port by group); it must end in order. `share`: over HTTP/2."""
    arguments = [*(["--share"] if share else []), str(directory)]
    arguments += [f"{group}={port}" for group, port in services.items()]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.soak.served", *arguments, stdin=PIPE, stdout=PIPE, cwd=REPOSITORY
    )
    assert process.stdout is not None
    running = Served(process, int(await asyncio.wait_for(process.stdout.readline(), 20)))
    try:
        yield running
        await running.end()
    finally:
        await running.kill()


def flat(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Neither memory nor descriptors nor tasks have grown, and no error of our own was logged."""
    assert after["errors"] == 0, after
    assert after["descriptors"] <= before["descriptors"] + 2, (before, after)
    assert after["tasks"] <= before["tasks"], (before, after)
    assert after["rss"] <= before["rss"] + _GROWTH, (before, after)
