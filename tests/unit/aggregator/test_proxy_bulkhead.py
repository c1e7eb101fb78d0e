"""What one service may hold of the proxy: requests at a time, waiting, and for how long."""

import asyncio
import contextlib
import logging
import time
from typing import Any

import pytest

from aggregator.proxy.limits import Limits
from aggregator.proxy.refusals import Refusals
from tests.unit.aggregator.endpoints_kit import (
    annotated,
    fronted,
    samples,
    serves,
    slow,
)
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    client,
    lines_of,
    on_uvloop,
    read_head,
    request,
)


@on_uvloop
async def test_a_slow_backend_holds_so_many_requests_and_no_more(pki: PKI) -> None:
    go_on = asyncio.Event()
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await read_head(reader))
            await go_on.wait()
            writer.write(answer(lines_of(heads[-1])[0].encode()))

    limits = annotated(max_connections="2", max_pending="3")
    async with (
        serves(pki, handle) as stuck,
        fronted(pki, [stuck.port], annotations=limits) as (front, caller),
        contextlib.AsyncExitStack() as stack,
    ):
        callers = [await stack.enter_async_context(client(pki, front)) for _ in range(5)]
        for one in callers:
            await one.send(request("GET", "/apis/test/v1/things"))
        while len(heads) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        refused = await caller.get()
        assert (refused.status, refused.all("retry-after")) == (503, ["1"])
        assert refused.body == b"too many requests: 2 in progress, 3 waiting\n"
        assert len(heads) == stuck.connections == 2
        # A watch is not counted.
        async with client(pki, front) as watching:
            await watching.send(request("GET", "/apis/test/v1/things?watch=1"))
            while len(heads) < 3:
                await asyncio.sleep(0.01)
        go_on.set()
        assert [(await one.response()).status for one in callers] == [200] * 5
        assert stuck.connections <= 4
        assert samples(front, "aggregator_proxy_rejected_requests_total") == {(): 1}
        assert (await caller.get()).status == 200


def _told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Message and fields of the proxy's warnings."""
    records = [item for item in caplog.records if item.name == "aggregator.proxy" and item.levelno >= logging.WARNING]
    return [{"msg": item.getMessage(), **vars(item)["event_fields"]} for item in records]


def _line(requests: int) -> dict[str, Any]:
    error = "too many requests: 1 in progress, 0 waiting"
    return {"msg": "requests refused", "upstream": "v1.test", "requests": requests, "error": error}


@pytest.mark.parametrize(
    ("refused", "lines"),
    [
        pytest.param([0, 0], [], id="none"),
        pytest.param([1, 0, 0], [1], id="one"),
        pytest.param([5, 0, 0], [1, 4], id="a burst"),
        pytest.param([5, 3, 2, 0], [1, 4, 3, 2], id="over several sweeps"),
        pytest.param([2, 0, 0, 2, 0], [1, 1, 1, 1], id="begins again"),
    ],
)
def test_a_first_line_and_one_per_sweep(caplog: pytest.LogCaptureFixture, refused: list[int], lines: list[int]) -> None:
    refusals = Refusals("v1.test", in_progress=1, waiting=0)
    for count in refused:
        for _ in range(count):
            refusals.count()
        refusals.sweep()
    assert _told(caplog) == [_line(count) for count in lines]
    assert refusals.total == sum(refused)


@on_uvloop
async def test_refused_requests_are_not_told_one_by_one(pki: PKI, caplog: pytest.LogCaptureFixture) -> None:
    only_one = annotated(max_connections="1", max_pending="0")
    async with (
        serves(pki, slow(60)) as stuck,
        fronted(pki, [stuck.port], limits=Limits(sweep_seconds=0.5), annotations=only_one) as (front, caller),
        client(pki, front) as working,
    ):
        await working.send(request("GET", "/apis/test/v1/things"))
        while stuck.connections == 0:
            await asyncio.sleep(0.01)
        assert [(await caller.get()).status for _ in range(50)] == [503] * 50
        await asyncio.sleep(0.6)
        swept = [fields["requests"] for fields in _told(caplog)]
        assert swept[0] == 1
        # A sweep may have come in the middle of them.
        assert len(swept) in (2, 3)
        assert sum(swept) == 50
        assert samples(front, "aggregator_proxy_rejected_requests_total") == {(): 50}


@on_uvloop
async def test_a_stop_tells_of_the_last_ones(pki: PKI, caplog: pytest.LogCaptureFixture) -> None:
    only_one = annotated(max_connections="1", max_pending="0")
    async with (
        serves(pki, slow(60)) as stuck,
        fronted(pki, [stuck.port], limits=Limits(sweep_seconds=60), annotations=only_one) as (front, caller),
        client(pki, front) as working,
    ):
        await working.send(request("GET", "/apis/test/v1/things"))
        while stuck.connections == 0:
            await asyncio.sleep(0.01)
        assert [(await caller.get()).status for _ in range(3)] == [503] * 3
    assert _told(caplog) == [_line(1), _line(2)]


@on_uvloop
async def test_a_waiting_request_that_is_given_up_makes_room(pki: PKI) -> None:
    limits = annotated(max_connections="1", max_pending="1")
    async with (
        serves(pki, slow(0.3)) as stuck,
        fronted(pki, [stuck.port], annotations=limits) as (front, caller),
        client(pki, front) as working,
    ):
        await working.send(request("GET", "/apis/test/v1/things"))
        while stuck.connections == 0:
            await asyncio.sleep(0.01)
        async with client(pki, front) as leaving:
            await leaving.send(request("GET", "/apis/test/v1/things"))
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)
        assert (await caller.get()).status == 200
        assert (await working.response()).status == 200


@on_uvloop
async def test_the_timeout_of_an_apiservice(pki: PKI) -> None:
    async with (
        serves(pki, slow(5)) as stuck,
        fronted(pki, [stuck.port], annotations=annotated(request_timeout="200ms")) as (_, caller),
    ):
        started = time.monotonic()
        assert (await caller.get()).status == 504
        assert 0.2 <= time.monotonic() - started < 1
