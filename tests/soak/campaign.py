"""One run of a fuzz test: workers with a backend each, two parts, and a look at the process after either."""

import asyncio
import contextlib
import hashlib
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.soak.process import flat, seconds, served
from tests.soak.recording import Recording
from tests.unit.aggregator.proxy_kit import PKI, backend

_ORDINARY = 6.0
"""Seconds."""


def _group(number: int) -> str:
    """Names that differ in many letters. With `fuzz12` beside `fuzz16` one flipped bit made the request of one worker a
    request to the backend of another, which then had seen one too many."""
    return f"g{hashlib.sha256(b'%d' % number).hexdigest()[:8]}"


class Worker(Protocol):
    """Tries one connection after the other, against a group of its own."""

    counted: Counter[str]
    """How they ended."""

    async def run(self, until: float) -> None:
        """Until that moment of the monotonic clock."""


async def campaign(
    directory: Path,
    make: Callable[[int, ssl.SSLContext, str, Recording, random.Random], Worker],
    *,
    workers: int,
    alpn: str,
) -> Counter[str]:
    """Run `workers` for FUZZ_SECONDS; how their connections ended. The seed is printed, FUZZ_SEED repeats it."""
    budget = seconds("FUZZ_SECONDS", _ORDINARY)
    # An ordinary run tries the same as the one before it; a long one tries something new.
    seed = int(seconds("FUZZ_SEED", random.randrange(1 << 30) if budget > _ORDINARY else 1))
    print(f"FUZZ_SEED={seed}")  # noqa: T201 - shown when the test fails
    pki = PKI.make(directory)
    tls = pki.server_context("backend")
    recordings = {group: Recording(group) for group in map(_group, range(workers))}
    async with contextlib.AsyncExitStack() as stack:
        ports = {
            group: (await stack.enter_async_context(backend(recording.serve, tls))).port
            for group, recording in recordings.items()
        }
        proxy = await stack.enter_async_context(served(directory, ports))
        context = pki.client_context("client", [alpn])
        made = [
            make(proxy.port, context, group, recording, random.Random(f"{seed} {group}"))
            for group, recording in recordings.items()
        ]
        marks = []
        for part in (budget / 3, budget * 2 / 3):
            until = time.monotonic() + part
            async with asyncio.TaskGroup() as tasks:
                for worker in made:
                    tasks.create_task(worker.run(until))
            marks.append(await proxy.quiet())
        flat(*marks)
    counted = sum((worker.counted for worker in made), Counter[str]())
    print(dict(counted))  # noqa: T201
    return counted
