"""Connections that a backend leaves, in one step or two (RFC 9113 6.8): which streams go on, where the others go."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from aggregator.proxy.server import Proxy
from tests.unit.aggregator.endpoints_kit import annotated, samples, several
from tests.unit.aggregator.fault_callers import PROTOCOLS, calling
from tests.unit.aggregator.http2_kit import (
    INTERNAL,
    setting,
)
from tests.unit.aggregator.proxy_kit import PKI, client, on_uvloop, proxy
from tests.unit.aggregator.shared_kit import (
    SHARING,
    THINGS,
    Behind,
    all_of,
    behind,
    crowd,
    eventually,
    nothing_left,
    service,
    sharing,
)
from tests.unit.aggregator.shared_peer import Asked, Handler, Peer
from tests.unit.aggregator.test_proxy_shared_retries import goaway

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)
LAST = (1 << 31) - 1


@over_both
@pytest.mark.parametrize("last", [0, 1])
@on_uvloop
async def test_what_a_leaving_connection_has_not_looked_at_goes_to_another(pki: PKI, last: int, protocol: str) -> None:
    """Streams up to the last one are answered, those above it were not carried out."""
    go = asyncio.Event()
    done: list[tuple[Peer, int]] = []

    async def handle(asked: Asked) -> None:
        body = await asked.body()
        if asked.peer is served.peers[0]:
            await go.wait()
            if asked.stream > last:
                return
        done.append((asked.peer, asked.stream))
        await asked.answer(b"%d" % len(body))

    async with sharing(pki, handle) as (served, front):
        async with contextlib.AsyncExitStack() as stack:
            callers = [await stack.enter_async_context(calling(pki, front, protocol)) for _ in range(4)]
            tasks = [asyncio.create_task(caller.ask("POST", THINGS, b"hello")) for caller in callers]
            await served.requests(4)
            first = served.peers[0]
            first.write(goaway(last))
            await served.requests(4 + 4 - (last + 1) // 2)
            go.set()
            assert [((await task).status, (await task).body) for task in tasks] == [(200, b"5")] * 4
        assert len(done) == 4
        assert sorted(stream for peer, stream in done if peer is first) == [1][:last]
        assert len(served.peers) == 2
        await eventually(lambda: first.closed)


@on_uvloop
async def test_a_connection_that_leaves_in_two_steps_costs_nothing(pki: PKI) -> None:
    go = asyncio.Event()

    async def handle(asked: Asked) -> None:
        if asked.peer is served.peers[0]:
            await go.wait()
        await asked.answer()

    async with sharing(pki, handle) as (served, front), crowd(pki, front, 3, method="POST") as early:
        await served.requests(3)
        (first,) = served.peers
        first.write(goaway(LAST))
        await asyncio.sleep(0.05)
        async with crowd(pki, front, 3, method="POST") as late:
            assert {(await task).body for task in late} == {b"shared"}
        assert (len(first.asked), len(served.peers)) == (3, 2)
        first.write(goaway(5))
        await asyncio.sleep(0.05)
        assert not first.closed
        go.set()
        assert {(await task).body for task in early} == {b"shared"}
        await eventually(lambda: first.closed)
        assert len(served.asked) == 6
        assert samples(front, "aggregator_proxy_retries_total")[("made",)] == 0


@on_uvloop
async def test_an_idle_connection_that_leaves_is_closed(pki: PKI) -> None:
    async with sharing(pki) as (served, front):
        async with crowd(pki, front, 1) as tasks:
            await asyncio.gather(*tasks)
        served.peers[0].write(goaway(LAST))
        await eventually(lambda: served.peers[0].closed)
        async with crowd(pki, front, 1) as tasks:
            assert (await tasks[0]).body == b"shared"
        assert (len(served.peers), served.http1) == (2, 0)


@pytest.mark.parametrize("close", [False, True], ids=["stays", "closes"])
@on_uvloop
async def test_a_connection_that_fails_and_says_so(pki: PKI, close: bool) -> None:
    """What is not above the last stream may have been carried out."""

    async def handle(asked: Asked) -> None:
        await asked.body()
        if asked.peer is not served.peers[0]:
            await asked.answer()
        elif asked.stream == 3:
            asked.peer.write(goaway(3, INTERNAL))
            if close:
                asked.peer.close()

    async with nothing_lost(pki, handle) as (served, front):
        async with crowd(pki, front, 1, method="POST", path=f"{THINGS}?timeout=300ms") as one:
            await served.requests(1)
            async with crowd(pki, front, 1, method="POST", path=f"{THINGS}?timeout=300ms") as two:
                for task in (one[0], two[0]):
                    found = await task
                    assert found.status == (503 if close else 504)
                    assert (b"INTERNAL_ERROR" in found.body) == close
        async with crowd(pki, front, 1, method="POST") as later:
            assert (await later[0]).body == b"shared"
        assert len(served.asked) == 3


@contextlib.asynccontextmanager
async def nothing_lost(pki: PKI, handler: Handler) -> AsyncIterator[tuple[Behind, Proxy]]:
    async with sharing(pki, handler) as (served, front):
        yield served, front
        await front.stop()
        await nothing_left(front, served)


@on_uvloop
async def test_another_backend_stands_in_for_one_that_leaves(pki: PKI) -> None:
    async def here(asked: Asked) -> None:
        if leaving:
            asked.peer.write(goaway(0))
        else:
            await asked.answer(b"here")

    async def there(asked: Asked) -> None:
        await asked.answer(b"there")

    leaving = False
    async with (
        behind(pki, here) as one,
        behind(pki, there) as two,
        proxy(pki, [service(pki, one)], limits=SHARING, externalnames=[several(two.port)]) as front,
        calling(pki, front, "http/1.1") as caller,
    ):
        assert {(await caller.ask("POST", THINGS)).body for _ in range(6)} == {b"here", b"there"}
        leaving = True
        asked = len(one.asked)
        assert {(await caller.ask("POST", THINGS)).body for _ in range(10)} == {b"there"}
        assert len(one.asked) - asked <= 1
        assert samples(front, "aggregator_proxy_endpoints")[("leaving",)] == 1


@over_both
@pytest.mark.parametrize("code", [1, 3, 6, 9, 11, 12, 13])
@on_uvloop
async def test_a_backend_that_dislikes_what_it_is_sent_is_not_sent_more_of_it(
    pki: PKI, code: int, protocol: str
) -> None:
    async def faulty(asked: Asked) -> None:
        asked.peer.write(goaway(0, code))
        asked.peer.close()

    async with sharing(pki, faulty) as (served, front), calling(pki, front, protocol) as caller:
        for _ in range(2):
            assert (await caller.ask("POST", THINGS, b"hello")).body == b"own"
        assert len(served.asked) == 1


@on_uvloop
async def test_who_waits_goes_on_when_a_stream_of_a_leaving_connection_ends(pki: PKI) -> None:
    go = asyncio.Event()

    async def held(asked: Asked) -> None:
        if asked is not served.asked[0] and asked.peer is served.peers[0]:
            await go.wait()
        elif asked.peer is served.peers[0]:
            await first.wait()
        await asked.answer()

    first = asyncio.Event()
    limits = replace(SHARING, sweep_seconds=30.0)
    annotations = annotated(max_connections="2", max_pending="3")
    async with (
        sharing(pki, held, limits=limits, annotations=annotations) as (served, front),
        crowd(pki, front, 2) as tasks,
    ):
        await served.requests(2)
        async with crowd(pki, front, 1) as waiting:
            await eventually(lambda: front.metrics.in_flight == 3)
            served.peers[0].write(goaway(LAST))
            await asyncio.sleep(0.05)
            first.set()
            async with asyncio.timeout(3):
                assert (await waiting[0]).body == b"shared"
            go.set()
            assert await all_of(tasks) == {b"shared": 2}
        assert len(served.peers) == 2


@on_uvloop
async def test_a_backend_whose_new_connections_leave_at_once_is_not_asked_for_ever(pki: PKI) -> None:
    async with sharing(pki, welcome=setting() + goaway(0)) as (served, front), client(pki, front) as caller:
        served.context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with asyncio.timeout(5):
            assert (await caller.get()).status == 503
        assert len(served.peers) <= 4
