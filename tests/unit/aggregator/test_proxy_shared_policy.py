"""Which requests share a connection, with how many others, and what a backend has to say about it."""

import asyncio
from dataclasses import replace

import pytest

from tests.unit.aggregator.fault_callers import PROTOCOLS, calling
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    client,
    lines_of,
    on_uvloop,
    read_head,
    read_until_broken,
    request,
)
from tests.unit.aggregator.shared_kit import (
    HTTP1,
    HTTP1_FIRST,
    SHARING,
    THINGS,
    Held,
    all_of,
    crowd,
    eventually,
    nothing_left,
    shared,
    sharing,
)
from tests.unit.aggregator.shared_peer import Peer
from tests.unit.aggregator.test_proxy_lifetimes import echo_upgrade

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)
MAX_STREAMS = 3
"""The setting."""


@over_both
@on_uvloop
async def test_the_first_have_connections_of_their_own_and_the_others_share_one(pki: PKI, protocol: str) -> None:
    held = Held()
    limits = replace(SHARING, own_connections=2)
    async with sharing(pki, held, http1=held.http1, limits=limits) as (served, front):
        async with crowd(pki, front, 7, protocol=protocol) as tasks:
            await served.requests(5)
            await eventually(lambda: held.over_http1 == 2)
            assert (served.http1, len(served.peers)) == (2, 1)
            assert front.plane.pools.connection_count() >= 3
            held.go.set()
            assert await all_of(tasks) == {b"own": 2, b"shared": 5}
        async with calling(pki, front, protocol) as caller:
            assert (await caller.ask("GET", THINGS)).body == b"own"
        assert (served.http1, len(served.peers)) == (2, 1)


@over_both
@on_uvloop
async def test_many_wait_for_one_connection(pki: PKI, protocol: str) -> None:
    async with sharing(pki) as (served, front):
        async with crowd(pki, front, 30, protocol=protocol) as tasks:
            assert await all_of(tasks) == {b"shared": 30}
        assert (served.http1, len(served.peers)) == (0, 1)
        assert front.metrics.route("v1.test").codes == {(b"GET", 200): 30}


@pytest.mark.parametrize(
    ("ours", "theirs", "connections"),
    [pytest.param(3, None, 3, id="our limit"), pytest.param(100, 3, 3, id="theirs"), pytest.param(4, 2, 4, id="both")],
)
@on_uvloop
async def test_full_connections_lead_to_another(pki: PKI, ours: int, theirs: int | None, connections: int) -> None:
    held = Held()
    limits = replace(SHARING, shared_streams=ours)
    settings = {MAX_STREAMS: theirs} if theirs is not None else {}
    async with (
        sharing(pki, held, limits=limits, settings=settings) as (served, front),
        crowd(pki, front, 8) as tasks,
    ):
        await served.requests(8)
        assert max(held.most.values()) <= min(ours, theirs or ours)
        held.go.set()
        assert await all_of(tasks) == {b"shared": 8}
        assert len(served.peers) == connections
        assert served.http1 == 0


@on_uvloop
async def test_a_peer_that_allows_no_stream_costs_nobody_an_answer(pki: PKI) -> None:
    async with sharing(pki, settings={MAX_STREAMS: 0}) as (served, front):
        for _ in range(2):
            async with crowd(pki, front, 5) as tasks:
                assert await all_of(tasks) == {b"own": 5}
        assert served.asked == []
        assert len(served.peers) <= 2


@on_uvloop
async def test_a_limit_that_is_lowered_and_raised_again(pki: PKI) -> None:
    held = Held()
    async with sharing(pki, held) as (served, front), crowd(pki, front, 3) as early:
        await served.requests(3)
        (peer,) = served.peers
        await _limit(peer, 2)
        async with crowd(pki, front, 2) as late:
            await served.requests(5)
            assert len(served.peers) == 2
            assert len(peer.asked) == 3
            held.go.set()
            await all_of([*early, *late])
        await _limit(peer, 1)
        await _limit(served.peers[1], 0)
        held.go.clear()
        async with crowd(pki, front, 1) as one:
            await served.requests(6)
            assert len(peer.asked) == 4
            held.go.set()
            await all_of(one)


async def _limit(peer: Peer, streams: int) -> None:
    before = peer.acknowledged
    peer.h2.update_settings({MAX_STREAMS: streams})
    peer.flush()
    await peer.until(lambda: peer.acknowledged > before)


@pytest.mark.parametrize("alpn", [HTTP1_FIRST, HTTP1, ()], ids=["prefers http/1.1", "http/1.1 only", "without ALPN"])
@on_uvloop
async def test_a_server_that_chooses_http1_is_not_asked_again(pki: PKI, alpn: tuple[str, ...]) -> None:
    held = Held()
    async with sharing(pki, held, http1=held.http1, alpn=alpn) as (served, front):
        async with crowd(pki, front, 4) as tasks:
            await eventually(lambda: held.over_http1 == 4)
            assert served.http1 == 4
            held.go.set()
            assert await all_of(tasks) == {b"own": 4}
        # From here on it would choose otherwise.
        served.context.set_alpn_protocols(["h2", "http/1.1"])
        held.go.clear()
        async with crowd(pki, front, 6) as tasks:
            await eventually(lambda: held.over_http1 == 10)
            held.go.set()
            assert await all_of(tasks) == {b"own": 6}
        assert (served.http1, served.peers) == (6, [])


@on_uvloop
async def test_an_upgrade_has_a_connection_of_its_own(pki: PKI) -> None:
    async with (
        sharing(pki, http1=echo_upgrade) as (served, front),
        client(pki, front) as caller,
        client(pki, front) as other,
    ):
        assert (await other.get()).body == b"shared"
        await caller.send(request("GET", "/apis/test/v1/x", "Connection: Upgrade", "Upgrade: websocket"))
        head = await read_head(caller.reader)
        assert lines_of(head)[0] == "HTTP/1.1 101 Switching Protocols"
        assert await caller.reader.readexactly(5) == b"hello"
        assert (await other.get()).body == b"shared"
        assert (served.http1, len(served.peers), len(served.asked)) == (1, 1, 2)


@over_both
@on_uvloop
async def test_one_after_the_other_shares_as_well(pki: PKI, protocol: str) -> None:
    async with sharing(pki, shared) as (served, front), calling(pki, front, protocol) as caller:
        for _ in range(20):
            found = await caller.ask("GET", THINGS)
            assert (found.status, found.body) == (200, b"shared")
        assert (served.http1, len(served.peers)) == (0, 1)
        await front.stop()
        await nothing_left(front, served)


@on_uvloop
async def test_own_connections_that_have_ended_are_made_anew_before_anybody_shares(pki: PKI) -> None:
    held = Held()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await held.go.wait()
        writer.write(answer(b"own", "Connection: close"))

    limits = replace(SHARING, own_connections=1)
    async with sharing(pki, held, http1=once, limits=limits) as (served, front):
        async with crowd(pki, front, 2) as tasks:
            await served.requests(1)
            held.go.set()
            assert await all_of(tasks) == {b"own": 1, b"shared": 1}
        async with calling(pki, front, "http/1.1") as caller:
            for _ in range(3):
                await eventually(lambda: front.plane.pools.connection_count() == 1)
                assert (await caller.ask("GET", THINGS)).body == b"own"
        assert (served.http1, len(served.asked)) == (4, 1)


@on_uvloop
async def test_an_annotation_says_how_many_have_connections_of_their_own(pki: PKI) -> None:
    held = Held()
    annotations = {"aggregator.grafana.app/own-connections": "3"}
    async with (
        sharing(pki, held, http1=held.http1, annotations=annotations) as (served, front),
        crowd(pki, front, 5) as tasks,
    ):
        await served.requests(2)
        held.go.set()
        assert await all_of(tasks) == {b"own": 3, b"shared": 2}


@on_uvloop
async def test_watches_leave_own_connections_to_those_who_give_them_back(pki: PKI) -> None:
    asked = asyncio.Event()

    async def own(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"watch=1" not in await read_head(reader):
            writer.write(answer(b"own"))
        asked.set()
        await read_until_broken(reader)

    held = Held()
    limits = replace(SHARING, own_connections=1)
    watch = f"{THINGS}?watch=1"
    async with sharing(pki, held, http1=own, limits=limits) as (served, front), crowd(pki, front, 1, path=watch):
        await asked.wait()
        async with crowd(pki, front, 2, path=watch), calling(pki, front, "http/1.1") as caller:
            await served.requests(2)
            for _ in range(3):
                # Whether a connection has a watch is looked at once per sweep.
                await asyncio.sleep(2 * limits.sweep_seconds)
                assert (await caller.ask("GET", THINGS)).body == b"own"
        assert (served.http1, len(served.peers), len(served.asked)) == (2, 1, 2)


@on_uvloop
async def test_a_new_connection_begins_with_what_the_backend_has_allowed_before(pki: PKI) -> None:
    held = Held()
    settings = {MAX_STREAMS: 2}
    async with sharing(pki, held, settings=settings) as (served, front), crowd(pki, front, 1) as first:
        await served.requests(1)
        await eventually(lambda: served.peers[0].acknowledged)
        served.late = 0.1
        async with crowd(pki, front, 5) as tasks:
            await served.requests(6)
            assert [len(peer.asked) for peer in served.peers] == [2, 2, 2]
            held.go.set()
            assert await all_of([*first, *tasks]) == {b"shared": 6}


@on_uvloop
async def test_an_old_connection_is_not_what_a_backend_has_declined_with(pki: PKI) -> None:
    """It may be closing this very moment, which for a POST is one risk too many."""
    limits = replace(SHARING, own_connections=1)
    async with sharing(pki, alpn=HTTP1_FIRST, limits=limits) as (served, front):
        async with crowd(pki, front, 1) as first:
            assert (await first[0]).body == b"own"
        tick = front.plane.pools.tick
        await eventually(lambda: front.plane.pools.tick > tick + 3)
        async with crowd(pki, front, 2, method="POST") as tasks:
            assert [(await task).body for task in tasks] == [b"own"] * 2
        assert served.http1 == 3
