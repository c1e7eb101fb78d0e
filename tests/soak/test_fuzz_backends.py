"""Shared connections to backends whose frames are almost right: nobody gets a wrong answer, nothing grows.

`make soak` runs this for FUZZ_SECONDS, an ordinary run for some seconds; a failure shows the bytes of the latest answer
and the seed (FUZZ_SEED) of the run.
"""

import asyncio
import contextlib
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.soak.backends import Clients, Damaging, over_http1, well
from tests.soak.process import flat, seconds, served
from tests.unit.aggregator.fault_callers import Caller, Http1Caller, Http2Caller
from tests.unit.aggregator.proxy_kit import PKI
from tests.unit.aggregator.shared_kit import behind

_ORDINARY = 6.0
_WORKERS = 8
_STREAMS = {3: (1 << 31) - 1}
"""h2 does not see that streams end which end by bytes of ours."""


def _connecting(
    port: int, context: Callable[[str], ssl.SSLContext]
) -> Callable[[str], contextlib.AbstractAsyncContextManager[Caller]]:
    @contextlib.asynccontextmanager
    async def connect(protocol: str) -> AsyncIterator[Caller]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context(protocol), server_hostname="localhost"
        )
        try:
            yield Http2Caller(reader, writer) if protocol == "h2" else Http1Caller(reader, writer)
        finally:
            writer.transport.abort()

    return connect


async def test_backends_that_speak_http2(tmp_path: Path) -> None:
    budget = seconds("FUZZ_SECONDS", _ORDINARY)
    seed = int(seconds("FUZZ_SEED", random.randrange(1 << 30) if budget > _ORDINARY else 1))
    print(f"FUZZ_SEED={seed}")  # noqa: T201 - shown when the test fails
    pki = PKI.make(tmp_path)
    contexts = {protocol: pki.client_context("client", [protocol]) for protocol in ("h2", "http/1.1")}
    async with contextlib.AsyncExitStack() as stack:
        sound = await stack.enter_async_context(behind(pki, well, http1=over_http1))
        ports = {"sound": sound.port}
        backends = {f"g{number}": Damaging(random.Random(f"{seed} answers {number}")) for number in range(_WORKERS)}
        for group, damaging in backends.items():
            made = behind(pki, damaging, http1=over_http1, settings=_STREAMS)
            ports[group] = (await stack.enter_async_context(made)).port
        proxy = await stack.enter_async_context(served(tmp_path, ports, share=True))
        connect = _connecting(proxy.port, contexts.__getitem__)
        workers = [
            Clients(connect, group, "sound", damaging, random.Random(f"{seed} clients {group}"))
            for group, damaging in backends.items()
        ]
        marks = []
        for part in (budget / 3, budget * 2 / 3):
            until = time.monotonic() + part
            async with asyncio.TaskGroup() as tasks:
                for worker in workers:
                    tasks.create_task(worker.run(until))
            marks.append(await proxy.quiet())
        flat(*marks)
    counted = sum((worker.counted for worker in workers), Counter[str]())
    print(dict(counted))  # noqa: T201
    assert counted["right"] > 10
    assert counted["lost"] > 1
    assert counted["503"] > 5
    assert counted["broken off"] > 1
