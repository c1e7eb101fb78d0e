"""Shared connections and what is around them: other addresses of a name, deadlines, metrics, what is recorded."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.proxy import shared_link
from aggregator.proxy.observer import Observer
from aggregator.proxy.server import Proxy
from tests.unit.aggregator.endpoints_kit import samples, several
from tests.unit.aggregator.fault_callers import PROTOCOLS, calling
from tests.unit.aggregator.observe_kit import Recorder
from tests.unit.aggregator.proxy_kit import (
    PKI,
    apiservice,
    client,
    fields_of,
    lines_of,
    on_uvloop,
    proxy,
    read_head,
    request,
)
from tests.unit.aggregator.shared_kit import SHARING, THINGS, behind, crowd, eventually, sharing
from tests.unit.aggregator.shared_peer import Asked
from tests.unit.aggregator.test_proxy_faults import mute, nobody

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)
FAST = replace(SHARING, hedge_seconds=0.1)


@contextlib.asynccontextmanager
async def before(pki: PKI, *ports: int) -> AsyncIterator[Proxy]:
    """A proxy before several addresses of one name."""
    made = apiservice(ports[0], pki.ca.pem)
    async with proxy(pki, [made], limits=FAST, externalnames=[several(*ports[1:])]) as front:
        yield front


@on_uvloop
async def test_streams_are_spread_over_all_addresses(pki: PKI) -> None:
    go = asyncio.Event()

    async def held(asked: Asked) -> None:
        await go.wait()
        await asked.answer()

    async with behind(pki, held) as one, behind(pki, held) as two, before(pki, one.port, two.port) as front:
        async with crowd(pki, front, 20) as tasks:
            await eventually(lambda: len(one.asked) + len(two.asked) == 20)
            assert 8 <= len(one.asked) <= 12
            go.set()
            assert {(await task).body for task in tasks} == {b"shared"}
        assert len(one.peers) == len(two.peers) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("peer", [nobody, mute], ids=["refused", "no handshake"])
@on_uvloop
async def test_an_address_that_cannot_be_reached_is_passed_over(
    pki: PKI, peer: Callable[[], contextlib.AbstractAsyncContextManager[int]], method: str
) -> None:
    async with peer() as dead, behind(pki) as good, before(pki, dead, good.port) as front:
        for _ in range(2):
            async with crowd(pki, front, 8, method=method) as tasks:
                assert {(await task).body for task in tasks} == {b"shared"}
        await eventually(lambda: samples(front, "aggregator_proxy_endpoints")[("ejected",)] == 1)


@pytest.mark.parametrize("method", ["GET", "POST"])
@on_uvloop
async def test_a_backend_that_asks_to_be_left_alone_is(pki: PKI, method: str) -> None:
    async def draining(asked: Asked) -> None:
        await asked.answer(b"draining", ("retry-after", "5"), status="503")

    async with (
        behind(pki, draining) as leaving,
        behind(pki) as staying,
        before(pki, leaving.port, staying.port) as front,
        calling(pki, front, "h2") as caller,
    ):
        bodies = [(await caller.ask(method, THINGS)).body for _ in range(10)]
        assert bodies.count(b"draining") == (len(leaving.asked) if method == "POST" else 0)
        assert len(leaving.asked) <= 1
        assert samples(front, "aggregator_proxy_endpoints")[("leaving",)] == len(leaving.asked)


@on_uvloop
async def test_the_loss_of_the_last_connection_is_reported_at_once(pki: PKI) -> None:
    async with sharing(pki) as (served, front):
        reported: list[str] = []
        front.plane.pools.on_trouble = reported.append
        async with crowd(pki, front, 3) as tasks:
            await asyncio.gather(*tasks)
        served.peers[0].close()
        await eventually(lambda: reported == ["v1.test"], 1)


@on_uvloop
async def test_a_connection_is_counted_once_however_many_share_it(pki: PKI) -> None:
    go = asyncio.Event()

    async def held(asked: Asked) -> None:
        await go.wait()
        await asked.answer()

    async with sharing(pki, held) as (served, front), crowd(pki, front, 5) as tasks:
        await served.requests(5)
        assert front.plane.pools.connection_count() == front.metrics.upstream_connections() == 1
        go.set()
        await asyncio.gather(*tasks)
        assert front.plane.pools.connection_count() == front.metrics.upstream_connections() == 1


@on_uvloop
async def test_a_connection_whose_streams_are_used_up_is_followed_by_another(pki: PKI) -> None:
    async with sharing(pki) as (served, front), calling(pki, front, "http/1.1") as caller:
        assert (await caller.ask("GET", THINGS)).body == b"shared"
        (upstream,) = front.plane.pools._by_key.values()
        assert upstream.endpoints[0].sharing is not None
        (connection,) = upstream.endpoints[0].sharing.connections
        connection._next = (1 << 31) - 3
        for _ in range(4):
            assert (await caller.ask("POST", THINGS, b"x")).body == b"shared"
        assert [asked.stream for asked in served.asked] == [1, (1 << 31) - 3, 1, 3, 5]
        await eventually(lambda: served.peers[0].closed)


@on_uvloop
async def test_a_backend_that_does_not_read_is_given_up(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_link, "_UNREAD_SECONDS", 0.2)

    async def deaf(asked: Asked) -> None:
        peer = asked.peer
        peer.h2.increment_flow_control_window(1 << 28)
        peer.h2.increment_flow_control_window(1 << 28, asked.stream)
        peer.flush()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async with sharing(pki, deaf) as (served, front), calling(pki, front, "http/1.1") as caller:
        found = await caller.ask("PUT", f"{THINGS}/a", b"x" * (24 << 20))
        assert (found.status, found.whole) == (503, True)
        assert found.body.startswith(b"error trying to reach service: ")
        await eventually(lambda: front.plane.pools.connection_count() == 0)
        assert len(served.asked) == 1


@over_both
@on_uvloop
async def test_a_client_is_not_blamed_for_a_backend_that_takes_no_more(pki: PKI, protocol: str) -> None:
    go = asyncio.Event()

    async def slow(asked: Asked) -> None:
        await go.wait()
        served.pays = True
        asked.pay()
        await asked.body()
        await asked.answer()

    limits = replace(SHARING, body_window_seconds=0.1, body_rate=1000)
    async with (
        sharing(pki, slow, pays=False, limits=limits) as (served, front),
        calling(pki, front, protocol) as caller,
    ):
        uploading = asyncio.create_task(caller.ask("PUT", f"{THINGS}/a", b"x" * (1 << 20)))
        await asyncio.sleep(0.5)
        go.set()
        found = await uploading
        assert (found.status, found.body) == (200, b"shared")


@on_uvloop
async def test_a_client_that_trickles_is_told_so_and_its_stream_ends(pki: PKI) -> None:
    limits = replace(SHARING, body_window_seconds=0.1, body_rate=1000)
    async with sharing(pki, limits=limits) as (served, front), client(pki, front) as caller:
        await caller.send(request("PUT", f"{THINGS}/a", "Content-Length: 1000", body=b"x"))
        assert (await caller.response("PUT")).status == 408
        assert await served.asked[0].until_reset() == 8
        assert not served.peers[0].closed


@on_uvloop
async def test_an_http_1_0_client_gets_no_chunks(pki: PKI) -> None:
    async def handle(asked: Asked) -> None:
        asked.head("103")
        asked.head("200")
        await asked.data(b"abc")
        await asked.data(b"de", end=True)

    async with sharing(pki, handle) as (_, front), client(pki, front) as caller:
        await caller.send(b"GET /apis/test/v1/a HTTP/1.0\r\n\r\n")
        head = await read_head(caller.reader)
        assert lines_of(head)[0] == "HTTP/1.1 200 OK"
        assert (fields_of(head, "transfer-encoding"), fields_of(head, "connection")) == ([], ["close"])
        assert await caller.reader.read(-1) == b"abcde"


@over_both
@pytest.mark.parametrize(("method", "status"), [("HEAD", "200"), ("GET", "204"), ("GET", "304")])
@on_uvloop
async def test_an_answer_without_a_body_may_end_later_than_its_head(
    pki: PKI, method: str, status: str, protocol: str
) -> None:
    async def handle(asked: Asked) -> None:
        asked.head(status, ("x-a", "1"))
        await asked.data(b"", end=True)

    async with sharing(pki, handle) as (served, front), calling(pki, front, protocol) as caller:
        for _ in range(2):
            found = await caller.ask(method, THINGS)
            assert (found.status, found.whole, found.all("x-a")) == (int(status), True, ["1"])
        assert len(served.peers) == 1


@on_uvloop
async def test_pipelined_requests_share_one_after_the_other(pki: PKI) -> None:
    async def handle(asked: Asked) -> None:
        body = await asked.body()
        await asked.answer(asked.path.encode() + body)

    async with sharing(pki, handle) as (served, front), client(pki, front) as caller:
        wanted = [f"{THINGS}/{number}" for number in range(6)]
        await caller.send(
            b"".join(
                request("GET", path) if number % 2 else request("POST", path, "Content-Length: 3", body=b"abc")
                for number, path in enumerate(wanted)
            )
        )
        bodies = [(await caller.response()).body.decode() for _ in wanted]
        assert bodies == [path if number % 2 else f"{path}abc" for number, path in enumerate(wanted)]
        assert [asked.stream for asked in served.asked] == [1, 3, 5, 7, 9, 11]


@on_uvloop
async def test_what_shares_is_recorded_as_anything_else(pki: PKI, tmp_path: Path) -> None:
    async def handle(asked: Asked) -> None:
        await asked.body()
        await asked.answer(b'{"made": true}', ("content-type", "application/json"), status="201")

    recorder = Recorder(tmp_path, "- level: RequestResponse\n")
    sent = json.dumps({"kind": "Thing"}).encode()
    async with sharing(pki, handle) as (_, front), calling(pki, front, "http/1.1") as caller:
        front.plane.observer = Observer(recorder.sinks)
        fields = [("Content-Type", "application/json")]
        assert (await caller.ask("POST", f"{THINGS}", sent, fields)).status == 201
    (_, complete), (line,) = recorder.stop()
    assert complete["responseStatus"]["code"] == 201
    assert complete["requestObject"] == {"kind": "Thing"}
    assert complete["responseObject"] == {"made": True}
    assert line["status" if "status" in line else "code"] == 201
