"""Which requests share a connection, with how many others, and what a backend has to say about it."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import replace

import pytest

from tests.unit.aggregator.endpoints_kit import annotated, samples
from tests.unit.aggregator.fault_callers import PROTOCOLS, Outcome, calling
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    apiservice,
    client,
    lines_of,
    on_uvloop,
    proxy,
    read_head,
    request,
)
from tests.unit.aggregator.shared_kit import (
    HTTP1,
    HTTP1_FIRST,
    SHARING,
    THINGS,
    Asked,
    Peer,
    behind,
    crowd,
    eventually,
    nothing_left,
    shared,
    sharing,
)
from tests.unit.aggregator.test_proxy_lifetimes import echo_upgrade

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)
MAX_STREAMS = 3
"""The setting."""


class Held:
    """A backend that answers once it may, over either protocol."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.most: Counter[Peer] = Counter()
        """Requests at a time on each connection."""
        self._open: Counter[Peer] = Counter()
        self.over_http1 = 0

    async def __call__(self, asked: Asked) -> None:
        peer = asked.peer
        self._open[peer] += 1
        self.most[peer] = max(self.most[peer], self._open[peer])
        try:
            await self.go.wait()
        finally:
            self._open[peer] -= 1
        await asked.answer()

    async def http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            self.over_http1 += 1
            await self.go.wait()
            writer.write(answer(b"own"))


async def all_of(tasks: list[asyncio.Task[Outcome]]) -> Counter[bytes]:
    """The bodies of answers that are all well."""
    found = [await task for task in tasks]
    assert {(item.status, item.whole) for item in found} == {(200, True)}
    return Counter(item.body for item in found)


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
