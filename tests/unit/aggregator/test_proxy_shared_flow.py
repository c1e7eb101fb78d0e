"""Bodies over shared connections: both windows, both directions, and that nobody waits for somebody else."""

import asyncio
import hashlib

import pytest

from aggregator.proxy.server import Proxy
from tests.unit.aggregator import http2_kit as h2
from tests.unit.aggregator.fault_callers import PROTOCOLS, Caller, Http1Caller, Http2Caller, Outcome, calling
from tests.unit.aggregator.proxy_kit import PKI, client, on_uvloop, request
from tests.unit.aggregator.shared_kit import THINGS, Behind, crowd, eventually, sharing
from tests.unit.aggregator.shared_peer import Asked

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)
INITIAL_WINDOW = 4
"""The setting."""
MEGABYTE = bytes(range(256)) * 4096
ENDLESS = 24 * 1024 * 1024
STREAM_WINDOW = 256 * 1024


async def digest(asked: Asked) -> None:
    body = await asked.body()
    await asked.answer(hashlib.sha256(body).hexdigest().encode())


@pytest.mark.parametrize("window", [0, 1, 1000])
@on_uvloop
async def test_a_window_that_opens_slowly(pki: PKI, window: int) -> None:
    settings = {INITIAL_WINDOW: window}
    async with sharing(pki, digest, settings=settings, pays=False) as (served, front), client(pki, front) as caller:
        # Settings are known once there has been an answer.
        assert (await caller.get()).status == 200
        body = MEGABYTE[:2000]
        await caller.send(request("POST", THINGS, f"Content-Length: {len(body)}", body=body))
        asked = await served.request(2)
        peer = asked.peer
        await peer.until(lambda: len(asked.received) == window)
        await asyncio.sleep(0.05)
        assert len(asked.received) == window
        peer.h2.update_settings({INITIAL_WINDOW: window + 100})
        peer.flush()
        await peer.until(lambda: len(asked.received) >= window + 100)
        await asyncio.sleep(0.05)
        assert len(asked.received) == window + 100
        peer.h2.increment_flow_control_window(2000, asked.stream)
        peer.flush()
        assert (await caller.response("POST")).body == hashlib.sha256(body).hexdigest().encode()


@on_uvloop
async def test_a_window_that_is_taken_away(pki: PKI) -> None:
    """RFC 9113 6.9.2: it can become negative, and what is given is owed first."""
    async with sharing(pki, digest, pays=False) as (served, front), client(pki, front) as caller:
        await caller.send(request("POST", THINGS, "Content-Length: 90000", body=MEGABYTE[:60_000]))
        asked = await served.request()
        await asked.peer.until(lambda: len(asked.received) == 60_000)
        asked.peer.h2.update_settings({INITIAL_WINDOW: 10_000})
        asked.peer.flush()
        await asked.peer.until(lambda: asked.peer.acknowledged >= 2)
        await caller.send(MEGABYTE[60_000:90_000])
        asked.peer.h2.increment_flow_control_window(100_000)
        asked.peer.h2.increment_flow_control_window(50_000, asked.stream)
        asked.peer.flush()
        await asyncio.sleep(0.05)
        assert len(asked.received) == 60_000
        asked.peer.h2.increment_flow_control_window(1_000, asked.stream)
        asked.peer.flush()
        await asked.peer.until(lambda: len(asked.received) == 61_000)
        asked.peer.h2.increment_flow_control_window(60_000, asked.stream)
        asked.peer.flush()
        assert (await caller.response("POST")).body == hashlib.sha256(MEGABYTE[:90_000]).hexdigest().encode()


async def endless(asked: Asked) -> None:
    """So much for who asks for it, and something short for the others."""
    if "other" in asked.path:
        await asked.answer(MEGABYTE)
        return
    asked.head("200", ("content-length", str(ENDLESS)))
    asked.peer.behind.sent = 0
    while asked.peer.behind.sent < ENDLESS:
        await asked.data(MEGABYTE[:65536], end=asked.peer.behind.sent + 65536 == ENDLESS)
        asked.peer.behind.sent += 65536


async def _settled(served: Behind) -> int:
    """What has been sent once it is no longer more."""
    before = -1
    while served.sent != before:
        before = served.sent
        await asyncio.sleep(0.1)
    return before


async def _others(pki: PKI, front: Proxy, served: Behind) -> None:
    async with crowd(pki, front, 3, path=f"{THINGS}/other") as tasks:
        for task in tasks:
            assert (await task).body == MEGABYTE
    assert len(served.peers) == 1


@on_uvloop
async def test_an_http2_client_that_takes_nothing_holds_its_own_stream_back(pki: PKI) -> None:
    async with sharing(pki, endless) as (served, front), h2.connected(pki, front) as caller:
        caller.send(h2.PREFACE, h2.setting(), h2.head(1, *h2.GET))
        await caller.heads(1)
        # The client's window, what is held for it, and the window of the stream towards the backend.
        assert await _settled(served) <= 65535 + 4 * STREAM_WINDOW
        await _others(pki, front, served)
        caller.send(h2.window(0, ENDLESS), h2.window(1, ENDLESS))
        body = await caller.until_end(1)
        assert body == MEGABYTE * (ENDLESS // len(MEGABYTE))


@on_uvloop
async def test_an_http1_client_that_takes_nothing_holds_its_own_stream_back(pki: PKI) -> None:
    async with sharing(pki, endless) as (served, front), client(pki, front) as caller:
        await caller.send(request("GET", THINGS))
        await eventually(lambda: served.asked)
        assert await _settled(served) < ENDLESS // 2
        await _others(pki, front, served)
        assert (await caller.response()).body == MEGABYTE * (ENDLESS // len(MEGABYTE))


class Upload:
    """A client that sends as much as it can get rid of, and counts it."""

    def __init__(self, caller: Caller, size: int) -> None:
        self.sent = 0
        self.size = size
        self._caller = caller

    async def run(self) -> Outcome:
        if isinstance(self._caller, Http2Caller):
            return await self._http2(self._caller)
        assert isinstance(self._caller, Http1Caller)
        writer = self._caller.writer
        writer.write(request("PUT", f"{THINGS}/a", f"Content-Length: {self.size}"))
        while self.sent < self.size:
            writer.write(MEGABYTE[:65536])
            await writer.drain()
            self.sent += 65536
        return await self._caller.answer("PUT")

    async def _http2(self, caller: Http2Caller) -> Outcome:
        connection = caller.client.connection
        stream = caller.client.start("PUT", f"{THINGS}/a", ("content-length", str(self.size)), end=False)
        while self.sent < self.size:
            room = min(connection.local_flow_control_window(stream), 16384, 65536 - self.sent % 65536)
            if room > 0:
                at = self.sent % 65536
                self.sent += room
                caller.client.data(stream, MEGABYTE[at : at + room], end=self.sent == self.size)
            else:
                await caller.client.receive()
        return await caller.answer(stream)


@over_both
@on_uvloop
async def test_an_upload_that_is_not_taken_holds_its_own_client_back(pki: PKI, protocol: str) -> None:
    """The backend takes no more than its first windows, gives back that of the connection, and at last all."""

    async def handle(asked: Asked) -> None:
        if "other" not in asked.path:
            await go.wait()
        await digest(asked)

    go = asyncio.Event()
    async with sharing(pki, handle, pays=False) as (served, front), calling(pki, front, protocol) as caller:
        upload = Upload(caller, ENDLESS)
        uploading = asyncio.create_task(upload.run())
        asked = await served.request()
        await asked.peer.until(lambda: len(asked.received) == 65535)
        await asyncio.sleep(0.2)
        assert len(asked.received) == 65535
        # What HTTP/2 has sent is in windows and nowhere else; HTTP/1.1 fills the buffers of sockets first.
        assert upload.sent <= (65535 + 2 * STREAM_WINDOW if protocol == "h2" else ENDLESS // 2)
        # The connection's window is used up: what needs none goes on, what needs one does once it is given back.
        async with crowd(pki, front, 1, path=f"{THINGS}/other") as gets:
            assert (await gets[0]).status == 200
        async with calling(pki, front, "http/1.1") as other:
            short = asyncio.create_task(other.ask("POST", f"{THINGS}/other", b"hello"))
            await served.requests(3)
            await asyncio.sleep(0.05)
            assert served.asked[2].received == b""
            asked.peer.h2.increment_flow_control_window(65535)
            asked.peer.flush()
            assert (await short).body == hashlib.sha256(b"hello").hexdigest().encode()
        assert len(asked.received) == 65535
        served.pays = True
        asked.unpaid -= 65535
        go.set()
        asked.peer.h2.increment_flow_control_window(65535, asked.stream)
        asked.peer.flush()
        wanted = hashlib.sha256(MEGABYTE[:65536] * (ENDLESS // 65536)).hexdigest().encode()
        assert (await uploading).body == wanted
        assert len(served.peers) == 1


@on_uvloop
async def test_who_waits_for_the_connections_window_gets_a_share(pki: PKI) -> None:
    async with sharing(pki, digest, pays=False) as (served, front):
        callers = [asyncio.create_task(_upload(pki, front, 100_000)) for _ in range(3)]
        await served.requests(3)
        (peer,) = served.peers
        given = [65535]
        while True:
            await peer.until(lambda: sum(len(item.received) for item in served.asked) == min(sum(given), 300_000))
            if sum(given) >= 300_000:
                break
            given.append(10_000)
            peer.h2.increment_flow_control_window(10_000)
            for asked in served.asked:
                if not asked.ended:
                    peer.h2.increment_flow_control_window(10_000, asked.stream)
            peer.flush()
        assert {item.body for item in await asyncio.gather(*callers)} == {
            hashlib.sha256(MEGABYTE[:100_000]).hexdigest().encode()
        }


async def _upload(pki: PKI, front: Proxy, size: int) -> Outcome:
    async with calling(pki, front, "http/1.1") as caller:
        return await caller.ask("POST", THINGS, MEGABYTE[:size])


def _flood(stream: int, size: int) -> bytes:
    return h2.frame(h2.DATA, 0, stream, b"x" * 16384) * (size // 16384)


@over_both
@on_uvloop
async def test_more_than_the_window_is_broken_off(pki: PKI, protocol: str) -> None:
    async def handle(asked: Asked) -> None:
        if "other" in asked.path:
            await asked.answer(b"other")
        else:
            asked.peer.write(h2.head(asked.stream, (":status", "200"), end=False), _flood(asked.stream, ENDLESS))

    async with sharing(pki, handle) as (served, front):
        async with calling(pki, front, protocol) as caller:
            await caller.begin(THINGS, head=False)
            asked = await served.request()
            assert await asyncio.wait_for(asked.until_reset(), 3) == h2.FLOW
        async with crowd(pki, front, 1, path=f"{THINGS}/other") as tasks:
            assert (await tasks[0]).body == b"other"
        assert len(served.peers) == 1


@on_uvloop
async def test_what_comes_for_those_who_have_left_uses_up_no_window(pki: PKI) -> None:
    async def handle(asked: Asked) -> None:
        if "other" in asked.path:
            await asked.answer(MEGABYTE)
            return
        await asked.until_reset()
        for _ in range(20):
            asked.peer.write(_flood(asked.stream, 1 << 20))
            await asyncio.sleep(0)

    async with sharing(pki, handle) as (served, front):
        async with calling(pki, front, "h2") as caller:
            await caller.begin(THINGS, head=False)
            await served.request()
        await _others(pki, front, served)
