"""HTTP/2: requests that are too large or too slow, and responses that nobody reads; other streams go on meanwhile."""

import asyncio
import socket

import orjson
import pytest
from hyperframe.frame import DataFrame, Frame, RstStreamFrame

from aggregator.proxy import http2_frames as frames
from aggregator.proxy.limits import Limits
from tests.unit.aggregator.http2_kit import (
    DATA,
    END_STREAM,
    GET,
    PATH,
    POST,
    PREFACE,
    RawClient,
    frame,
    head,
    served,
    setting,
    window,
)
from tests.unit.aggregator.proxy_kit import PKI, Handler, answer, answering, on_uvloop, read_head

SMALL = Limits(head_fields=8, target_bytes=100, body_bytes=10, sweep_seconds=0.05)
SLOW = Limits(body_rate=100, body_window_seconds=0.2, write_seconds=0.3, sweep_seconds=0.05)
TRAILERS = ("te", "trailers")
"""Makes a request one that is not plain."""


def _fields(count: int, *more: tuple[str, str]) -> bytes:
    """A head whose fields are `count`, with the host."""
    return head(1, *GET, *more, *((f"x-{number}", "1") for number in range(count - 1 - len(more))))


def _target(length: int, *more: tuple[str, str]) -> bytes:
    path = PATH + "?" + "a" * (length - len(PATH) - 1)
    return head(1, *GET[:3], (":path", path), *more)


def _post(*more: tuple[str, str]) -> bytes:
    return head(1, *POST, *more, end=False)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        pytest.param(_fields(8), "200", id="fields, plain"),
        pytest.param(_fields(9), "431", id="one field too many, plain"),
        pytest.param(_fields(8, TRAILERS), "200", id="fields"),
        pytest.param(_fields(9, TRAILERS), "431", id="one field too many"),
        pytest.param(_target(100), "200", id="target, plain"),
        pytest.param(_target(101), "414", id="target too long, plain"),
        pytest.param(_target(100, TRAILERS), "200", id="target"),
        pytest.param(_target(101, TRAILERS), "414", id="target too long"),
        pytest.param(_post(("content-length", "11")), "413", id="length"),
        pytest.param(_post() + frame(DATA, END_STREAM, 1, b"x" * 11), "413", id="one frame"),
        pytest.param(_post() + frame(DATA, 0, 1, b"x" * 6) * 2, "413", id="frames"),
    ],
)
@on_uvloop
async def test_what_is_too_large(pki: PKI, raw: bytes, code: str) -> None:
    async with served(pki, answering(answer()), limits=SMALL) as (_, client):
        client.send(raw)
        assert await client.status(1) == code
        body = await client.until_end(1)
        if code == "413":
            assert orjson.loads(body)["message"] == "Request entity too large: limit is 10"
        client.send(head(3, *GET))
        assert await client.status(3) == "200"


def _records(pki: PKI, port: int, raw: bytes) -> list[list[Frame]]:
    """What comes after `raw` up to a reset, in its TLS records."""
    records: list[list[Frame]] = []
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        pki.client_context(alpn=["h2"]).wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(raw)
        while not any(isinstance(item, RstStreamFrame) for item in (records or [[]])[-1]):
            # Never more than one record at a time.
            data = memoryview(secure.recv(65536))
            assert data, records
            records.append([])
            while data:
                found, length = Frame.parse_frame_header(data[:9])
                found.parse_body(data[9 : 9 + length])
                records[-1].append(found)
                data = data[9 + length :]
    return records


@pytest.mark.parametrize(
    "asked",
    [pytest.param(("content-length", "11"), id="by the proxy"), pytest.param(("x-a", "1"), id="by the backend")],
)
@on_uvloop
async def test_an_answer_can_be_read_before_the_rest_of_its_request_is_refused(
    pki: PKI, asked: tuple[str, str]
) -> None:
    """Some clients lose a response that comes in one TLS record with the reset."""
    async with served(pki, answering(answer(status="413 Too Large")), limits=SMALL) as (front, _):
        raw = PREFACE + setting() + _post(asked)
        *_, answered, refused = await asyncio.to_thread(_records, pki, front.port, raw)
    assert isinstance(answered[-1], DataFrame)
    assert "END_STREAM" in answered[-1].flags
    assert [type(item) for item in refused] == [RstStreamFrame]


def _taking_bodies(size: int, *, answers_first: bool = False) -> Handler:
    """A backend that wants `size` bytes in all of each POST."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            posted = b"POST" in await read_head(reader)
            if posted and answers_first:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            if posted:
                await reader.readexactly(size)
                await asyncio.sleep(0.5)
            writer.write(answer())

    return handle


async def _trickle(client: RawClient, size: int) -> None:
    while True:
        client.send(frame(DATA, 0, 1, b"x" * size))
        await asyncio.sleep(0.03)


@pytest.mark.parametrize("length", [(), (("content-length", "60"),)], ids=["any length", "length"])
@on_uvloop
async def test_a_body_that_trickles_is_408_and_nobody_else_waits(pki: PKI, length: tuple[tuple[str, str], ...]) -> None:
    async with served(pki, _taking_bodies(1000), limits=SLOW) as (_, client):
        client.send(_post(*length))
        trickle = asyncio.create_task(_trickle(client, 1))
        client.send(head(3, *GET))
        assert await client.status(3) == "200"
        assert await client.status(1) == "408"
        assert await client.reset_code(1) == frames.NO_ERROR
        trickle.cancel()
        client.send(head(5, *GET))
        assert await client.status(5) == "200"


@on_uvloop
async def test_a_body_that_trickles_beneath_its_response_is_broken_off(pki: PKI) -> None:
    async with served(pki, _taking_bodies(1000, answers_first=True), limits=SLOW) as (_, client):
        client.send(_post())
        assert await client.status(1) == "200"
        assert await client.reset_code(1) == frames.INTERNAL_ERROR


@on_uvloop
async def test_a_body_at_a_decent_pace_is_served_and_its_answer_has_time(pki: PKI) -> None:
    async with served(pki, _taking_bodies(200), limits=SLOW) as (_, client):
        client.send(_post(("content-length", "200")))
        for _ in range(20):
            await asyncio.sleep(0.02)
            client.send(frame(DATA, 0, 1, b"x" * 10))
        assert await client.status(1) == "200"


@pytest.mark.parametrize(("path", "broken"), [(PATH, True), (PATH + "?watch=true", False)], ids=["ordinary", "watch"])
@on_uvloop
async def test_a_response_whose_window_stays_closed(pki: PKI, path: str, broken: bool) -> None:
    size = 1_000_000

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            large = b"x-size" in await read_head(reader)
            writer.write(answer(b"x" * size if large else b"ok"))
            await writer.drain()

    async with served(pki, handle, limits=SLOW) as (front, client):
        # More than the one stream may take, so that the connection's window never is what others wait for.
        client.send(setting((frames.INITIAL_WINDOW_SIZE, 1000)))
        client.send(head(1, *GET[:3], (":path", path), ("x-size", "large")))
        for stream in range(3, 23, 2):
            client.send(head(stream, *GET))
            assert await client.status(stream) == "200"
            await asyncio.sleep(0.06)
        if broken:
            assert await client.reset_code(1) == frames.CANCEL
            assert not front.plane.unread
        else:
            assert 1 not in client.resets()
            client.send(window(0, size), window(1, size))
            assert len(await client.until_end(1)) == size


@on_uvloop
async def test_a_response_that_is_read_slowly_has_time(pki: PKI) -> None:
    async with served(pki, answering(answer(b"x" * 10)), limits=SLOW) as (front, client):
        client.send(setting((frames.INITIAL_WINDOW_SIZE, 1)), head(1, *GET))
        for _ in range(9):
            await asyncio.sleep(0.1)
            client.send(window(1, 1))
        assert await client.until_end(1) == b"x" * 10
        assert len([item for item in client.frames if isinstance(item, DataFrame)]) == 10
        while front.plane.unread:
            await asyncio.sleep(0.01)
