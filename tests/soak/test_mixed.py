"""Mixed load with random faults behind the proxy: no wrong answer, nobody hangs, nothing grows.

`make soak` runs it for SOAK_SECONDS, an ordinary run for some seconds. A failure prints the seed to repeat it with.
"""

import asyncio
import contextlib
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.soak import faulty_http2
from tests.soak.faulty import Faults, serve_well
from tests.soak.process import flat, seconds, served
from tests.soak.traffic import Clients
from tests.unit.aggregator.proxy_kit import PKI, backend
from tests.unit.aggregator.shared_kit import behind
from tests.unit.aggregator.test_proxy_faults import reset


async def _load(clients: Clients, duration: float) -> None:
    running = asyncio.create_task(clients.run(per_kind=3), name="load")
    await asyncio.wait([running], timeout=duration)
    clients.stop()
    await running


@contextlib.asynccontextmanager
async def _backends(pki: PKI, seed: int, share: bool) -> AsyncIterator[tuple[dict[str, int], Counter[str]]]:
    """The ports of both backends, and the faults of one of them."""
    if share:
        over_http2 = faulty_http2.Faults(seed)
        async with (
            behind(pki, faulty_http2.serve_well) as steady,
            behind(pki, over_http2.serve, http1=serve_well) as faulty,
        ):
            yield {"steady": steady.port, "faulty": faulty.port}, over_http2.counted
            assert steady.http1 == 0
        return
    tls = pki.server_context("backend")
    faults = Faults(seed, reset)
    async with backend(serve_well, tls) as steady, backend(faults.serve, tls) as faulty:
        yield {"steady": steady.port, "faulty": faulty.port}, faults.counted


@pytest.mark.parametrize("share", [False, True], ids=["own connections", "shared connections"])
async def test_mixed_load_with_faults(tmp_path: Path, share: bool) -> None:
    budget = seconds("SOAK_SECONDS", 8)
    seed = int(seconds("SOAK_SEED", random.randrange(1 << 30)))
    print(f"SOAK_SEED={seed}")  # noqa: T201 - shown when the test fails
    pki = PKI.make(tmp_path)
    contexts: dict[str, ssl.SSLContext] = {}

    def context(alpn: list[str]) -> ssl.SSLContext:
        if alpn[0] not in contexts:
            contexts[alpn[0]] = pki.client_context("client", alpn)
        return contexts[alpn[0]]

    async with (
        _backends(pki, seed, share) as (ports, faults),
        served(tmp_path, ports, share=share) as proxy,
    ):
        await _load(Clients(proxy.port, context, seed), budget / 3)
        before = await proxy.quiet()
        began = time.monotonic()
        main = Clients(proxy.port, context, seed + 1)
        await _load(main, budget * 2 / 3)
        flat(before, await proxy.quiet())
    total = sum(main.answers.values())
    print(f"{total / (time.monotonic() - began):.0f} answers/s: {dict(main.answers)}; {dict(faults)}")  # noqa: T201
    assert main.answers["steady 200"] > 20
    assert main.answers["faulty 200"] > 5
    assert main.answers["faulty 503"] + main.answers["faulty broken off"] > 5
    assert main.answers["watch"] > 1
