"""Backends whose frames are almost right: what they do to one stream no other notices, and the proxy survives.

`tests/soak/test_fuzz_backends.py` does the same for longer, and says how to repeat a run.
"""

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import replace

import pytest

from aggregator.proxy import sharing
from tests.soak import frames, mutate
from tests.soak.backends import Clients, Damaging, over_http1, well
from tests.unit.aggregator import shared_kit
from tests.unit.aggregator.fault_callers import PROTOCOLS, calling
from tests.unit.aggregator.proxy_kit import (
    PKI,
    apiservice,
    client,
    on_uvloop,
    proxy,
    read_head,
    read_until_broken,
    request,
)
from tests.unit.aggregator.shared_kit import SHARING, THINGS, behind, eventually
from tests.unit.aggregator.shared_peer import Asked

SECONDS = 2.0
WORKERS = 4
STREAMS = {3: (1 << 31) - 1}
"""h2 does not see that streams end which end by bytes of ours."""


@on_uvloop
async def test_answers_that_are_almost_right(
    pki: PKI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_DECLINED_SECONDS", 0.002)
    workers: list[Clients] = []
    with caplog.at_level(logging.ERROR):
        async with contextlib.AsyncExitStack() as stack:
            sound = await stack.enter_async_context(behind(pki, well, http1=over_http1))
            services = [apiservice(sound.port, pki.ca.pem, name="v1.sound")]
            for number in range(WORKERS):
                damaging = Damaging(random.Random(f"answers {number}"))
                made = await stack.enter_async_context(behind(pki, damaging, http1=over_http1, settings=STREAMS))
                services.append(apiservice(made.port, pki.ca.pem, name=f"v1.g{number}"))
                chance = random.Random(f"clients {number}")
                workers.append(
                    Clients(lambda protocol: calling(pki, front, protocol), f"g{number}", "sound", damaging, chance)
                )
            limits = replace(SHARING, head_bytes=50_000)
            front = await stack.enter_async_context(proxy(pki, services, limits=limits))
            until = time.monotonic() + SECONDS
            await asyncio.gather(*(worker.run(until) for worker in workers))
            await eventually(lambda: front.metrics.in_flight == 0)
            assert len(sound.peers) == 1
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == []
    counted = sum((worker.counted for worker in workers), start=type(workers[0].counted)())
    assert counted["right"] > 10
    assert counted["lost"] > 0
    assert counted["503"] > 5
    assert counted["broken off"] > 0


async def _say(pki: PKI, port: int, protocol: str, data: bytes) -> None:
    """Send it, and take what comes for a moment."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=pki.client_context("client", [protocol]), server_hostname="localhost"
    )
    try:
        writer.write(data)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.03):
                await read_until_broken(reader)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@on_uvloop
async def test_requests_that_are_almost_right_spoil_no_connection(
    pki: PKI, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """h2 finds nothing wrong with what goes to the backend, and who watches all the time is not disturbed."""
    chance = random.Random(f"requests {protocol}")

    async def handle(asked: Asked) -> None:
        if asked.path.endswith("watch=1&mine"):
            asked.head()
            while True:
                await asked.data(b"{}\n")
                await asyncio.sleep(0.1)
        await asked.body()
        await asked.answer()

    def made(number: int) -> bytes:
        if protocol == "h2":
            return frames.conversation(chance, "test", f"n{number}")
        return mutate.request(chance, b"test", b"n%d" % number)

    async with shared_kit.sharing(pki, handle) as (served, front), client(pki, front) as watching:
        await watching.send(request("GET", f"{THINGS}?watch=1&mine"))
        await read_head(watching.reader)
        until = time.monotonic() + SECONDS / 2
        number = 0
        while time.monotonic() < until:
            number += 10
            await asyncio.gather(*(_say(pki, front.port, protocol, made(number + each)) for each in range(10)))
        assert len(served.asked) > 20
        # Upgrades have connections of their own.
        assert (len(served.peers), served.peers[0].closed) == (1, False)
        assert await watching.reader.readline() == b"3\r\n"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
