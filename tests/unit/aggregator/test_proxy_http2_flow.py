"""HTTP/2 streams from end to end: flow control, bodies, trailers, faults."""

import asyncio

import pytest
from h2.events import SettingsAcknowledged
from hyperframe.frame import HeadersFrame, WindowUpdateFrame

from aggregator.proxy import http2_response
from aggregator.proxy.limits import Limits
from tests.unit.aggregator.h2_kit import stack
from tests.unit.aggregator.http2_kit import (
    CANCEL,
    CHUNKED,
    DATA,
    END_STREAM,
    GET,
    INTERNAL,
    NO_ERROR,
    PATH,
    POST,
    frame,
    head,
    served,
    setting,
    window,
)
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    answering,
    fields_of,
    on_uvloop,
    read_head,
    read_until_broken,
)


@on_uvloop
async def test_a_window_of_one_byte(pki: PKI) -> None:
    async with served(pki, answering(answer(b"abcdef"))) as (_, caller):
        caller.send(setting((4, 1)), head(1, *GET))
        await caller.status(1)
        await caller.ping()
        assert caller.body(1) == b"a"
        caller.send(window(1, 2))
        await caller.ping()
        assert caller.body(1) == b"abc"
        # The change counts from what was announced before: two more are owed now, then four.
        caller.send(setting((4, 0)))
        caller.send(window(1, 1))
        await caller.ping()
        assert caller.body(1) == b"abc"
        assert not caller.ended(1)
        caller.send(setting((4, 3)))
        assert await caller.until_end(1) == b"abcdef"


@on_uvloop
async def test_settings_are_acknowledged_before_they_are_made_use_of(pki: PKI) -> None:
    async with stack(pki, answering(answer(b"x" * 1000))) as (_, _, caller):
        caller.connection.update_settings({4: 10})
        caller.flush()
        while sum(isinstance(item, SettingsAcknowledged) for item in caller.events) < 2:
            await caller.receive()
        stream = caller.start("GET", PATH)
        while len(caller.received(stream)) < 10:
            await caller.receive()
        # The client would find fault with what is more than it has heard to be agreed upon.
        caller.connection.update_settings({4: 500})
        caller.flush()
        while len(caller.received(stream)) < 500:
            await caller.receive()


@on_uvloop
async def test_a_response_that_is_not_taken_is_reset(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_response, "_FLUSH_SECONDS", 0.1)
    async with served(pki, answering(answer(b"abc")), limits=Limits(sweep_seconds=0.05)) as (front, caller):
        caller.send(setting((4, 0)), head(1, *GET))
        assert await caller.status(1) == "200"
        assert await caller.reset_code(1) == CANCEL
        assert front.metrics.in_flight == 0
        caller.send(setting((4, 10)), head(3, *GET))
        assert await caller.until_end(3) == b"abc"


@on_uvloop
async def test_streams_share_the_connection_window(pki: PKI) -> None:
    async with served(pki, answering(answer(b"x" * 100_000))) as (_, caller):
        caller.send(setting((4, 1 << 20)), head(1, *GET), head(3, *GET))
        await caller.heads(1)
        await caller.heads(3)
        await caller.ping()
        assert len(caller.body(1)) + len(caller.body(3)) == 65535
        for _ in range(14):
            caller.send(window(0, 10_000))
            await caller.ping()
        assert caller.ended(1)
        assert caller.ended(3)
        assert len(caller.body(1)) == len(caller.body(3)) == 100_000


@on_uvloop
async def test_a_client_that_takes_nothing_holds_its_backend_back(pki: PKI) -> None:
    size = 24 * 1024 * 1024
    written = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while written < size:
            writer.write(b"x" * 65536)
            written += 65536
            await writer.drain()
        await read_until_broken(reader)

    async with served(pki, handle) as (_, caller):
        caller.send(head(1, *GET))
        await caller.heads(1)
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.2)
        assert written < size // 2
        caller.send(window(0, size), window(1, size))
        assert len(await caller.until_end(1)) == size


@on_uvloop
async def test_a_client_that_reads_nothing_holds_itself_back(pki: PKI) -> None:
    """Windows are wide open, but the socket is not read."""
    size = 24 * 1024 * 1024
    async with served(pki, answering(answer(b"x" * size))) as (front, caller):
        caller.send(setting((4, 1 << 30)), window(0, 1 << 30), head(1, *GET), head(3, *GET))
        await caller.heads(1)
        (connection,) = front.plane.connections
        while not connection.write_blocked:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        held = [len(stream._held) for stream in connection.streams.values()]  # type: ignore[attr-defined]
        assert max(held) < 4 * 1024 * 1024
        assert len(await caller.until_end(1)) == len(await caller.until_end(3)) == size


@on_uvloop
async def test_a_backend_that_takes_nothing_holds_its_upload_back(pki: PKI) -> None:
    go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = await read_head(reader)
        if not fields_of(found, "transfer-encoding"):
            writer.write(answer())
            return
        await go_on.wait()
        while length := int(await reader.readline(), 16):
            await reader.readexactly(length + 2)
        writer.write(answer(b"got it"))
        await read_until_broken(reader)

    async with served(pki, handle) as (_, caller):
        caller.send(head(1, *POST, end=False))
        sent, room = 0, 256 * 1024
        piece = 16000 * b"x"
        while True:
            while room >= len(piece):
                caller.send(frame(DATA, 0, 1, piece))
                room -= len(piece)
                sent += len(piece)
            await caller.ping()
            credit = [item for item in caller.frames if isinstance(item, WindowUpdateFrame) and item.stream_id == 1]
            caller.frames = [item for item in caller.frames if item not in credit]
            if not credit:
                break
            room += sum(item.window_increment for item in credit)
        assert sent < 16 * 1024 * 1024
        # Another stream of the connection does not notice.
        caller.send(head(3, *GET))
        assert await caller.until_end(3) == b"ok"
        go_on.set()
        caller.send(frame(DATA, END_STREAM, 1, b""))
        assert await caller.until_end(1) == b"got it"


@on_uvloop
async def test_trailers_both_ways_and_informational_responses(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = await read_head(reader)
        assert fields_of(found, "expect") == ["100-continue"]
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        assert await reader.readexactly(7) == b"2\r\nab\r\n"
        assert await reader.readuntil(b"\r\n\r\n") == b"0\r\nx-in: 1\r\n\r\n"
        writer.write(CHUNKED + b"2\r\ncd\r\n0\r\nX-Out: 2\r\nContent-Type: evil\r\n\r\n")
        await read_until_broken(reader)

    async with served(pki, handle) as (_, caller):
        caller.send(head(1, *POST, ("expect", "100-continue"), end=False))
        first, second = await caller.heads(1, 2)
        assert first == {":status": "100"}
        assert second == {":status": "103", "link": "x"}
        caller.send(frame(DATA, 0, 1, b"ab"), head(1, ("x-in", "1"), ("x-remote-user", "evil"), ("content-type", "x")))
        assert await caller.until_end(1) == b"cd"
        heads = await caller.heads(1, 4)
        assert heads[2][":status"] == "200"
        assert heads[3] == {"x-out": "2"}


@pytest.mark.parametrize(
    ("method", "response"),
    [
        pytest.param("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", id="HEAD"),
        pytest.param("GET", b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", id="304"),
        pytest.param("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", id="empty"),
    ],
)
@on_uvloop
async def test_a_response_without_a_body_is_one_frame(pki: PKI, method: str, response: bytes) -> None:
    async with served(pki, answering(response)) as (_, caller):
        for stream in (1, 3):
            caller.send(head(stream, (":method", method), *GET[1:]))
            await caller.until_end(stream)
            (only,) = [item for item in caller.frames if item.stream_id == stream]
            assert isinstance(only, HeadersFrame)


@on_uvloop
async def test_a_response_before_the_end_of_the_request(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(answer(b"no", status="413 Too Large"))
        await read_until_broken(reader)

    async with served(pki, handle) as (_, caller):
        caller.send(head(1, *POST, end=False), frame(DATA, 0, 1, b"abc"))
        assert await caller.until_end(1) == b"no"
        assert await caller.reset_code(1) == NO_ERROR
        caller.send(frame(DATA, 0, 1, b"abc"), frame(DATA, END_STREAM, 1, b"d"))
        await caller.ping()
        assert len(caller.resets()) == 1


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", id="content-length"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n", id="chunked"),
        pytest.param(CHUNKED + b"3\r\nabc\r\nnonsense", id="malformed"),
    ],
)
@on_uvloop
async def test_a_broken_response_never_ends_well(pki: PKI, response: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(response)
        await writer.drain()
        await asyncio.sleep(0.05)

    async with served(pki, handle) as (front, caller):
        caller.send(head(1, *GET))
        assert await caller.reset_code(1) == INTERNAL
        assert not caller.ended(1)
        await caller.ping()
        assert front.metrics.in_flight == 0


@on_uvloop
async def test_a_large_response_head(pki: PKI) -> None:
    large = [f"X-{number}: {'v' * 1000}" for number in range(40)]
    async with stack(pki, answering(answer(b"ok", *large))) as (_, _, caller):
        stream = caller.start("GET", PATH)
        assert (await caller.head(stream))["x-39"] == "v" * 1000
        assert await caller.body(stream) == b"ok"
