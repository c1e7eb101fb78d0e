"""Streams that are given up: by their clients, or at their deadlines."""

import asyncio
from dataclasses import replace

import pytest

from tests.unit.aggregator.fault_callers import PROTOCOLS, Http2Caller, calling
from tests.unit.aggregator.http2_kit import CANCEL
from tests.unit.aggregator.proxy_kit import PKI, on_uvloop
from tests.unit.aggregator.shared_kit import (
    SHARING,
    THINGS,
    crowd,
    sharing,
)
from tests.unit.aggregator.shared_peer import Asked, Handler
from tests.unit.aggregator.test_proxy_shared_ends import halves, holding, silent

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)
SILENT_STATUS = b'{"metadata":{},"status":"Failure"'


@pytest.mark.parametrize(
    ("protocol", "stays"),
    [
        pytest.param("http/1.1", False, id="http/1.1"),
        pytest.param("h2", False, id="h2"),
        pytest.param("h2", True, id="h2, and stays connected"),
    ],
)
@pytest.mark.parametrize("handler", [silent, halves], ids=["waiting", "reading"])
@on_uvloop
async def test_a_client_that_goes_away_cancels_its_stream_and_no_other(
    pki: PKI, handler: Handler, protocol: str, stays: bool
) -> None:
    go = asyncio.Event()

    async def handle(asked: Asked) -> None:
        await (holding(go) if "other" in asked.path else handler)(asked)

    async with sharing(pki, handle) as (served, front), crowd(pki, front, 1, path=f"{THINGS}/other") as others:
        await served.requests(1)
        async with calling(pki, front, protocol) as caller:
            await caller.begin(THINGS, head=handler is halves)
            left = await served.request(2)
            if stays:
                assert isinstance(caller, Http2Caller)
                caller.leave()
                assert await asyncio.wait_for(left.until_reset(), 3) == CANCEL
        assert await asyncio.wait_for(left.until_reset(), 3) == CANCEL
        assert front.metrics.route("v1.test").codes == {(b"GET", 499): 1}
        go.set()
        assert (await others[0]).body == b"shared"
        assert len(served.peers) == 1
        assert front.metrics.in_flight == 0


@over_both
@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        pytest.param("/apis/test/v1", 503, b"error trying to reach service: context deadline exceeded\n", id="list"),
        pytest.param(THINGS, 504, SILENT_STATUS, id="resource"),
    ],
)
@on_uvloop
async def test_a_silent_stream_ends_at_the_deadline(
    pki: PKI, path: str, status: int, text: bytes, protocol: str
) -> None:
    async with sharing(pki, silent) as (served, front), calling(pki, front, protocol) as caller:
        for number in (1, 2):
            found = await caller.ask("GET", f"{path}?timeout=200ms")
            assert (found.status, found.whole) == (status, True)
            assert found.body.startswith(text)
            assert await (await served.request(number)).until_reset() == CANCEL
        assert len(served.peers) == 1
        assert front.metrics.in_flight == 0


@over_both
@on_uvloop
async def test_an_answer_that_stalls_is_broken_off_at_the_deadline(pki: PKI, protocol: str) -> None:
    async with sharing(pki, halves) as (served, front):
        async with calling(pki, front, protocol) as caller:
            found = await caller.ask("GET", f"{THINGS}?timeout=200ms")
            assert (found.status, found.whole, found.body) == (200, False, b"half")
        assert await served.asked[0].until_reset() == CANCEL
        assert not served.peers[0].closed
        assert front.metrics.in_flight == 0


@on_uvloop
async def test_a_watch_outlives_every_deadline(pki: PKI) -> None:
    async def handle(asked: Asked) -> None:
        asked.head()
        await asyncio.sleep(0.5)
        await asked.data(b"abc", end=True)

    limits = replace(SHARING, idle_seconds=0.2)
    async with sharing(pki, handle, limits=limits) as (_, front), calling(pki, front, "http/1.1") as caller:
        assert (await caller.ask("GET", f"{THINGS}?watch=1&timeout=100ms")).body == b"abc"
