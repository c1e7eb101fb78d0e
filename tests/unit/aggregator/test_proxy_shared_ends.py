"""How shared connections and their streams end, and that they leave nothing behind."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import replace

import h2.events
import pytest

from aggregator.proxy.routes import RouteTable
from aggregator.proxy.server import Proxy
from tests.unit.aggregator.http2_kit import CANCEL, NO_ERROR
from tests.unit.aggregator.proxy_kit import PKI, apiservice, client, externalname, on_uvloop, proxy, read_head, request
from tests.unit.aggregator.shared_kit import (
    SHARING,
    THINGS,
    Behind,
    crowd,
    eventually,
    nothing_left,
    service,
    shared,
    sharing,
)
from tests.unit.aggregator.shared_peer import Asked, Handler
from tests.unit.aggregator.test_proxy_faults import mute, nothing_left_open


async def silent(asked: Asked) -> None:
    await asked.body()


async def halves(asked: Asked) -> None:
    """Begins an answer that does not end."""
    asked.head("200", ("content-length", "10"))
    await asked.data(b"half")


def holding(go: asyncio.Event) -> Handler:
    async def handle(asked: Asked) -> None:
        await go.wait()
        await asked.answer()

    return handle


async def _retire(pki: PKI, served: Behind, front: Proxy) -> None:
    front.plane.install(RouteTable.build([], [externalname()], front.plane.table))


async def _new_settings(pki: PKI, served: Behind, front: Proxy) -> None:
    changed = service(pki, served, {"aggregator.grafana.app/request-timeout": "7s"})
    front.plane.install(RouteTable.build([changed], [externalname()], front.plane.table))


async def _certificates(pki: PKI, served: Behind, front: Proxy) -> None:
    front.plane.pools.certificates_changed()


CHANGES = {"no route": _retire, "another route": _new_settings, "certificates": _certificates}


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@on_uvloop
async def test_a_connection_that_nobody_needs_closes_after_its_streams(
    pki: PKI, change: Callable[[PKI, Behind, Proxy], Awaitable[None]], busy: bool
) -> None:
    go = asyncio.Event()
    async with sharing(pki, holding(go)) as (served, front), crowd(pki, front, 3) as tasks:
        await served.requests(3)
        (peer,) = served.peers
        if not busy:
            go.set()
            await asyncio.gather(*tasks)
        await change(pki, served, front)
        if busy:
            await asyncio.sleep(0.15)
            assert not peer.closed
            go.set()
        assert [(item.status, item.body) for item in await asyncio.gather(*tasks)] == [(200, b"shared")] * 3
        await eventually(lambda: peer.closed)
        assert peer.goaway() in (None, (NO_ERROR, 0))
        if change is not _retire:
            async with crowd(pki, front, 1) as later:
                assert (await later[0]).body == b"shared"
            assert len(served.peers) == 2
        else:
            await nothing_left(front, served)


@on_uvloop
async def test_a_route_that_comes_back_finds_its_connection(pki: PKI) -> None:
    go = asyncio.Event()
    async with sharing(pki, holding(go)) as (served, front), crowd(pki, front, 1) as tasks:
        await served.requests(1)
        await _retire(pki, served, front)
        back = RouteTable.build([service(pki, served)], [externalname()], front.plane.table)
        front.plane.install(back)
        go.set()
        assert (await tasks[0]).body == b"shared"
        async with crowd(pki, front, 3) as later:
            assert {(await task).body for task in later} == {b"shared"}
        assert len(served.peers) <= 2
        (last,) = [peer for peer in served.peers if not peer.closed]
        await asyncio.sleep(0.2)
        assert not last.closed


@on_uvloop
async def test_a_connection_that_is_made_for_nobody_closes(pki: PKI) -> None:
    """Both who wanted it and the route have gone before it was there."""
    async with sharing(pki) as (served, front):
        (upstream,) = [front.plane.pools.upstream(route) for route in front.plane.table.routes().values()]
        sharing_ = upstream.endpoints[0].sharing
        assert sharing_ is not None
        async with crowd(pki, front, 1):
            while sharing_._dial is None:
                await asyncio.sleep(0)
            await _retire(pki, served, front)
        await eventually(lambda: sharing_._dial is None)
        await nothing_left(front, served)


@on_uvloop
async def test_an_idle_connection_says_good_bye_and_closes(pki: PKI) -> None:
    async with nothing_left_open(), sharing(pki, limits=replace(SHARING, idle_seconds=0.3)) as (served, front):
        async with crowd(pki, front, 3) as tasks:
            await asyncio.gather(*tasks)
        (peer,) = served.peers
        await asyncio.sleep(0.1)
        assert not peer.closed
        await eventually(lambda: peer.closed)
        assert peer.goaway() == (NO_ERROR, 0)
        await nothing_left(front, served)
        async with crowd(pki, front, 1) as later:
            assert (await later[0]).body == b"shared"


@on_uvloop
async def test_a_connection_with_a_stream_is_not_idle(pki: PKI) -> None:
    go = asyncio.Event()
    async with (
        sharing(pki, holding(go), limits=replace(SHARING, idle_seconds=0.2)) as (served, front),
        crowd(pki, front, 1) as tasks,
    ):
        await asyncio.sleep(0.6)
        go.set()
        assert (await tasks[0]).body == b"shared"
        assert len(served.peers) == 1


@on_uvloop
async def test_stopping_finishes_what_is_in_flight(pki: PKI) -> None:
    go = asyncio.Event()

    async def handle(asked: Asked) -> None:
        if "watch" in asked.path:
            asked.head()
            await asked.data(b"one\n")
        else:
            await holding(go)(asked)

    async with nothing_left_open(), sharing(pki, handle) as (served, front), crowd(pki, front, 2) as tasks:
        async with client(pki, front) as watching:
            await watching.send(request("GET", f"{THINGS}?watch=1"))
            await read_head(watching.reader)
            assert await watching.reader.readexactly(9) == b"4\r\none\n\r\n"
            stopping = asyncio.create_task(front.stop(5.0))
            assert await watching.reader.read() == b"0\r\n\r\n"
            watched = next(item for item in served.asked if "watch" in item.path)
            assert await watched.until_reset() == CANCEL
            go.set()
            assert [(await task).body for task in tasks] == [b"shared"] * 2
            await stopping
        await nothing_left(front, served)


@on_uvloop
async def test_stopping_while_a_connection_is_being_made(pki: PKI) -> None:
    async with (
        nothing_left_open(),
        mute() as port,
        proxy(pki, [apiservice(port, pki.ca.pem)], limits=SHARING) as front,
        crowd(pki, front, 3) as tasks,
    ):
        await asyncio.sleep(0.1)
        await front.stop(0.1)
        assert [(await task).status in (0, 503) for task in tasks] == [True] * 3
        assert front.metrics.in_flight == front.plane.pools.connection_count() == 0


@on_uvloop
async def test_stopping_breaks_off_what_does_not_finish(pki: PKI) -> None:
    async with nothing_left_open(), sharing(pki, silent) as (served, front), crowd(pki, front, 2) as tasks:
        await served.requests(2)
        await front.stop(0.2)
        assert [(await task).whole for task in tasks] == [False] * 2
        await nothing_left(front, served)


async def _whole(pki: PKI, front: Proxy) -> None:
    async with crowd(pki, front, 3) as tasks:
        assert {(await task).body for task in tasks} == {b"shared"}


async def _leaves(pki: PKI, front: Proxy) -> None:
    async with crowd(pki, front, 2, protocol="h2"):
        await asyncio.sleep(0.05)


async def _closes(asked: Asked) -> None:
    asked.peer.close()


async def _whatever(pki: PKI, front: Proxy) -> None:
    async with crowd(pki, front, 2) as tasks:
        await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    ("handler", "visit"),
    [
        pytest.param(shared, _whole, id="kept"),
        pytest.param(silent, _leaves, id="client leaves"),
        pytest.param(_closes, _whatever, id="backend closes"),
    ],
)
@on_uvloop
async def test_streams_and_connections_go_without_the_collector(
    pki: PKI, handler: Handler, visit: Callable[[PKI, Proxy], Awaitable[None]]
) -> None:
    limits = replace(SHARING, idle_seconds=0.1)
    async with sharing(pki, handler, limits=limits) as (served, front):
        await visit(pki, front)
        await nothing_left(front, served)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(3):
                await visit(pki, front)
            await nothing_left(front, served)
            await asyncio.sleep(0.1)
            gc.collect()
            left = [item for item in gc.garbage if type(item).__module__.startswith("aggregator.")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert left == []


@on_uvloop
async def test_what_a_connection_says_first(pki: PKI) -> None:
    """RFC 9113 3.4, 6.5.2: no pushes; windows large enough for many answers at a time."""
    async with sharing(pki) as (served, front), crowd(pki, front, 1) as tasks:
        await asyncio.gather(*tasks)
        (peer,) = served.peers
        (changed, *_) = [item for item in peer.events if isinstance(item, h2.events.RemoteSettingsChanged)]
        values = {int(code): setting.new_value for code, setting in changed.changed_settings.items()}
        assert values[2] == 0
        assert values[4] == 256 * 1024
        assert peer.h2.outbound_flow_control_window >= 1 << 20
