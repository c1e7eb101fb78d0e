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
from tests.soak.backends import Clients, Damaging, over_http1, well
from tests.unit.aggregator.fault_callers import calling
from tests.unit.aggregator.proxy_kit import PKI, apiservice, on_uvloop, proxy
from tests.unit.aggregator.shared_kit import SHARING, behind, eventually

SECONDS = 3.0
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
