"""Who waits for a shared connection, or for room on one, and what becomes of them."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from tests.unit.aggregator.endpoints_kit import annotated, samples
from tests.unit.aggregator.fault_callers import PROTOCOLS
from tests.unit.aggregator.proxy_kit import (
    PKI,
    apiservice,
    client,
    on_uvloop,
    proxy,
)
from tests.unit.aggregator.shared_kit import (
    SHARING,
    THINGS,
    Held,
    all_of,
    behind,
    crowd,
    eventually,
    sharing,
)

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)


@over_both
@on_uvloop
async def test_limits_count_streams_as_they_count_connections(pki: PKI, protocol: str) -> None:
    held = Held()
    limits = annotated(max_connections="2", max_pending="3")
    async with (
        sharing(pki, held, annotations=limits) as (served, front),
        crowd(pki, front, 5, protocol=protocol) as tasks,
    ):
        await served.requests(2)
        await asyncio.sleep(0.05)
        async with client(pki, front) as caller:
            refused = await caller.get()
            assert (refused.status, refused.all("retry-after")) == (503, ["1"])
            assert refused.body == b"too many requests: 2 in progress, 3 waiting\n"
        assert len(served.asked) == 2
        # A watch is not counted.
        async with crowd(pki, front, 1, path=f"{THINGS}?watch=1"):
            await served.requests(3)
            held.go.set()
            assert await all_of(tasks) == {b"shared": 5}
        assert len(served.peers) == 1
        assert samples(front, "aggregator_proxy_rejected_requests_total") == {(): 1}


@on_uvloop
async def test_who_waits_goes_on_when_a_stream_ends(pki: PKI) -> None:
    held = Held()
    held.go.set()
    annotations = annotated(max_connections="1", max_pending="10")
    # Sooner than the next sweep.
    limits = replace(SHARING, sweep_seconds=60)
    async with (
        sharing(pki, held, annotations=annotations, limits=limits) as (served, front),
        crowd(pki, front, 9) as tasks,
    ):
        assert await all_of(tasks) == {b"shared": 9}
        assert list(held.most.values()) == [1]
        assert len(served.peers) == 1


@on_uvloop
async def test_who_waits_and_leaves_makes_room(pki: PKI) -> None:
    held = Held()
    limits = annotated(max_connections="1", max_pending="1")
    async with sharing(pki, held, annotations=limits) as (served, front), crowd(pki, front, 1) as first:
        await served.requests(1)
        async with crowd(pki, front, 1):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)
        async with crowd(pki, front, 1) as last:
            await asyncio.sleep(0.05)
            held.go.set()
            await all_of([*first, *last])
        assert len(served.asked) == 2


async def _refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize("handshake", [False, True], ids=["refused", "no handshake"])
@on_uvloop
async def test_a_shared_connection_that_cannot_be_made_fails_all_who_wait_for_it(pki: PKI, handshake: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if handshake:
            server = await asyncio.start_server(_refuses, "127.0.0.1", 0)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
        else:
            async with behind(pki) as gone:
                port = gone.port
        front = await stack.enter_async_context(proxy(pki, [apiservice(port, pki.ca.pem)], limits=SHARING))
        async with crowd(pki, front, 6) as tasks:
            found = [await task for task in tasks]
        assert {item.status for item in found} == {503}
        assert all(item.body.startswith(b"error trying to reach service: ") for item in found)
        assert front.metrics.in_flight == front.plane.pools.connection_count() == 0


@on_uvloop
async def test_a_shared_connection_tells_that_the_backend_is_back(pki: PKI) -> None:
    """Else everybody would be told, while another one is made, that there is nobody."""
    async with sharing(pki) as (served, front):
        (upstream,) = [front.plane.pools.upstream(route) for route in front.plane.table.routes().values()]
        (endpoint,) = upstream.endpoints
        endpoint.failed(TimeoutError("no answer in time"))
        async with crowd(pki, front, 1) as tasks:
            assert await all_of(tasks) == {b"shared": 1}
        assert endpoint.health.error is None
        served.peers[0].close()
        await eventually(lambda: front.plane.pools.connection_count() == 0)
        async with crowd(pki, front, 10) as tasks:
            assert await all_of(tasks) == {b"shared": 10}


@on_uvloop
async def test_who_waits_for_a_connection_and_leaves_is_not_missed(pki: PKI) -> None:
    async with sharing(pki) as (served, front):
        async with crowd(pki, front, 5):
            pass
        async with crowd(pki, front, 2) as tasks:
            assert await all_of(tasks) == {b"shared": 2}
        assert len(served.peers) <= 2
        await eventually(lambda: front.metrics.in_flight == 0)
