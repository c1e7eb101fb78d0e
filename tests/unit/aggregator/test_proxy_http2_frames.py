"""What RFC 9113 demands of a server, frame by frame. Table-driven, over real TLS sockets, in the spirit of h2spec."""

import asyncio
import struct

import pytest
from hyperframe.frame import GoAwayFrame, PingFrame, SettingsFrame

from aggregator.proxy.limits import Limits
from tests.unit.aggregator.http2_kit import (
    ACK,
    CALM,
    CANCEL,
    CLOSED,
    COMPRESSION,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW,
    GET,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    NO_ERROR,
    PADDED,
    PATH,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    PROTOCOL,
    PUSH_PROMISE,
    REFUSED,
    RST_STREAM,
    SETTINGS,
    SIZE,
    WATCH,
    WINDOW_UPDATE,
    block,
    connected,
    frame,
    head,
    never,
    served,
    setting,
    window,
)
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    answering,
    fields_of,
    lines_of,
    on_uvloop,
    proxy,
    read_head,
    read_until_broken,
)

CODE = struct.pack(">I", CANCEL)
OPEN = head(1, *POST, end=False)
WATCHED = head(1, *WATCH)


CONNECTION_ERRORS = [
    pytest.param(b"\0\x40\x01" + bytes(6) + bytes(0x4001), SIZE, id="4.2 larger than SETTINGS_MAX_FRAME_SIZE"),
    pytest.param(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80"), COMPRESSION, id="4.3 bad index"),
    pytest.param(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x40\x05a"), COMPRESSION, id="4.3 truncated block"),
    pytest.param(
        frame(HEADERS, END_STREAM, 1, block(*GET)) + head(3, *GET), PROTOCOL, id="4.3 HEADERS within another head"
    ),
    pytest.param(
        frame(HEADERS, END_STREAM, 1, block(*GET)) + frame(CONTINUATION, END_HEADERS, 3, b""),
        PROTOCOL,
        id="4.3 CONTINUATION of another stream",
    ),
    pytest.param(
        frame(HEADERS, END_STREAM, 1, block(*GET)) + frame(PING, 0, 0, bytes(8)), PROTOCOL, id="4.3 PING within a head"
    ),
    pytest.param(frame(HEADERS, END_STREAM, 1, b"") + frame(99, 0, 1), PROTOCOL, id="5.5 unknown frame within a head"),
    pytest.param(frame(DATA, END_STREAM, 1, b"x"), PROTOCOL, id="5.1 idle: DATA"),
    pytest.param(frame(RST_STREAM, 0, 1, CODE), PROTOCOL, id="5.1 idle: RST_STREAM"),
    pytest.param(window(1, 1), PROTOCOL, id="5.1 idle: WINDOW_UPDATE"),
    pytest.param(frame(CONTINUATION, END_HEADERS, 1, block(*GET)), PROTOCOL, id="5.1 idle: CONTINUATION"),
    pytest.param(head(2, *GET), PROTOCOL, id="5.1.1 even stream"),
    pytest.param(head(5, *GET) + head(3, *GET), CLOSED, id="5.1.1 lower stream"),
    pytest.param(frame(DATA, 0, 0, b"x"), PROTOCOL, id="6.1 DATA of the connection"),
    pytest.param(OPEN + frame(DATA, PADDED, 1, b"\x05abc"), PROTOCOL, id="6.1 padding longer than DATA"),
    pytest.param(OPEN + frame(DATA, PADDED, 1, b""), SIZE, id="6.1 no pad length"),
    pytest.param(head(0, *GET), PROTOCOL, id="6.2 HEADERS of the connection"),
    pytest.param(frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09abc"), PROTOCOL, id="6.2 padding longer than HEADERS"),
    pytest.param(frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, b"abc"), SIZE, id="6.2 priority cut off"),
    pytest.param(frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL, id="6.3 PRIORITY of the connection"),
    pytest.param(frame(PRIORITY, 0, 1, bytes(4)), SIZE, id="6.3 PRIORITY of a wrong size"),
    pytest.param(frame(RST_STREAM, 0, 0, CODE), PROTOCOL, id="6.4 RST_STREAM of the connection"),
    pytest.param(OPEN + frame(RST_STREAM, 0, 1, b"abc"), SIZE, id="6.4 RST_STREAM of a wrong size"),
    pytest.param(frame(SETTINGS, ACK, 0, bytes(6)), SIZE, id="6.5 acknowledgement with content"),
    pytest.param(frame(SETTINGS, 0, 1), PROTOCOL, id="6.5 SETTINGS of a stream"),
    pytest.param(frame(SETTINGS, 0, 0, b"abc"), SIZE, id="6.5 SETTINGS of a wrong size"),
    pytest.param(setting((2, 2)), PROTOCOL, id="6.5.2 ENABLE_PUSH 2"),
    pytest.param(setting((4, 1 << 31)), FLOW, id="6.5.2 INITIAL_WINDOW_SIZE too large"),
    pytest.param(setting((5, 16383)), PROTOCOL, id="6.5.2 MAX_FRAME_SIZE too small"),
    pytest.param(setting((5, 1 << 24)), PROTOCOL, id="6.5.2 MAX_FRAME_SIZE too large"),
    pytest.param(OPEN + frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), PROTOCOL, id="8.4 PUSH_PROMISE of a client"),
    pytest.param(frame(PING, 0, 1, bytes(8)), PROTOCOL, id="6.7 PING of a stream"),
    pytest.param(frame(PING, 0, 0, bytes(7)), SIZE, id="6.7 PING of a wrong size"),
    pytest.param(frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL, id="6.8 GOAWAY of a stream"),
    pytest.param(frame(GOAWAY, 0, 0, bytes(7)), SIZE, id="6.8 GOAWAY of a wrong size"),
    pytest.param(window(0, 0), PROTOCOL, id="6.9 WINDOW_UPDATE of nothing"),
    pytest.param(frame(WINDOW_UPDATE, 0, 0, b"abc"), SIZE, id="6.9 WINDOW_UPDATE of a wrong size"),
    pytest.param(window(0, 0x7FFFFFFF), FLOW, id="6.9.1 connection's window too large"),
    pytest.param(
        OPEN + window(1, 0x7FFF0000) + setting((4, 0x7FFF0000)), FLOW, id="6.9.2 window too large by settings"
    ),
    pytest.param(frame(CONTINUATION, END_HEADERS, 0, b""), PROTOCOL, id="6.10 CONTINUATION of the connection"),
    pytest.param(
        head(1, *GET) + frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL, id="6.10 CONTINUATION behind a head's end"
    ),
    pytest.param(
        frame(HEADERS, END_STREAM, 1, block(*GET)) + frame(CONTINUATION, 0, 1) * 200, CALM, id="CONTINUATION flood"
    ),
    pytest.param(frame(PING, 0, 0, bytes(8)) * 2200, CALM, id="PING flood"),
    pytest.param(setting() * 2200, CALM, id="SETTINGS flood"),
    pytest.param(frame(PRIORITY, 0, 1, bytes(5)) * 2200, CALM, id="PRIORITY flood"),
    pytest.param(OPEN + frame(DATA, 0, 1) * 2200, CALM, id="flood of empty DATA"),
    pytest.param(OPEN + window(1, 1) * 2200, CALM, id="flood of tiny WINDOW_UPDATE"),
    pytest.param(frame(99, 0, 0) * 2200, CALM, id="flood of unknown frames"),
    pytest.param(
        b"".join(head(ident, *GET) + frame(RST_STREAM, 0, ident, CODE) for ident in range(1, 901, 2)),
        CALM,
        id="rapid reset",
    ),
    pytest.param(
        b"".join(head(ident, *GET) + window(ident, 0) for ident in range(1, 901, 2)), CALM, id="resets made by us"
    ),
    pytest.param(
        b"".join(head(ident, *GET, ("connection", "x")) for ident in range(1, 901, 2)), CALM, id="malformed requests"
    ),
]


@pytest.mark.parametrize(("sent", "code"), CONNECTION_ERRORS)
@on_uvloop
async def test_connection_errors(pki: PKI, sent: bytes, code: int) -> None:
    async with served(pki, never) as (front, caller):
        caller.send(sent)
        assert (await caller.goaway()).error_code == code
        while front.plane.connections:
            await asyncio.sleep(0.01)
        assert front.metrics.in_flight == front.metrics.long_running == 0


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="HTTP/1.1"),
        pytest.param(PREFACE[:-1] + b"x", id="wrong at the end"),
        pytest.param(PREFACE + frame(PING, 0, 0, bytes(8)), id="PING first"),
        pytest.param(PREFACE + frame(SETTINGS, ACK, 0), id="acknowledgement first"),
        pytest.param(PREFACE + head(1, *GET), id="HEADERS first"),
    ],
)
@on_uvloop
async def test_a_wrong_preface(pki: PKI, sent: bytes) -> None:
    async with proxy(pki) as front, connected(pki, front) as caller:
        caller.send(sent)
        assert (await caller.goaway()).error_code == PROTOCOL


MALFORMED = [
    pytest.param((*GET, ("X-A", "1")), id="upper case name"),
    pytest.param((*GET, ("x a", "1")), id="space in a name"),
    pytest.param((*GET, ("", "1")), id="empty name"),
    pytest.param((*GET, ("x-a:", "1")), id="colon in a name"),
    pytest.param((*GET, ("x-a", "1\r\nx-remote-user: evil")), id="line end in a value"),
    pytest.param((*GET, ("x-a", "1\n2")), id="LF in a value"),
    pytest.param((*GET, ("x-a", "\0")), id="NUL in a value"),
    pytest.param((*GET, ("x-a", " 1")), id="white space before a value"),
    pytest.param((*GET, ("x-a", "1\t")), id="white space behind a value"),
    pytest.param((*GET, (":foo", "1")), id="unknown pseudo-header"),
    pytest.param((*GET, (":status", "200")), id="pseudo-header of responses"),
    pytest.param((*GET, (":protocol", "websocket")), id="extended CONNECT"),
    pytest.param((*GET, (":method", "GET")), id="pseudo-header twice"),
    pytest.param((*GET, (":path", PATH)), id="path twice"),
    pytest.param((*GET[:3], ("x-a", "1"), GET[3]), id="pseudo-header behind a field"),
    pytest.param(GET[1:], id="no method"),
    pytest.param((GET[0], *GET[2:]), id="no scheme"),
    pytest.param(GET[:3], id="no path"),
    pytest.param((*GET[:3], (":path", "")), id="empty path"),
    pytest.param((*GET[:3], (":path", "/a b")), id="space in the path"),
    pytest.param((*GET[:3], (":path", "/a\r\nHost: x")), id="line end in the path"),
    pytest.param(((":method", "G T"), *GET[1:]), id="space in the method"),
    pytest.param((GET[0], (":scheme", "ftp"), *GET[2:]), id="unknown scheme"),
    pytest.param((*GET[:2], GET[3]), id="neither authority nor host"),
    pytest.param((*GET[:2], (":authority", ""), GET[3]), id="empty authority"),
    pytest.param((*GET[:2], (":authority", "a@b"), GET[3]), id="user in the authority"),
    pytest.param((*GET, ("host", "other")), id="host differs from authority"),
    pytest.param((*GET[:2], GET[3], ("host", "a"), ("host", "a")), id="two hosts"),
    pytest.param((*GET, ("connection", "keep-alive")), id="connection"),
    pytest.param((*GET, ("keep-alive", "1")), id="keep-alive"),
    pytest.param((*GET, ("proxy-connection", "x")), id="proxy-connection"),
    pytest.param((*GET, ("transfer-encoding", "chunked")), id="transfer-encoding"),
    pytest.param((*GET, ("upgrade", "websocket")), id="upgrade"),
    pytest.param((*GET, ("te", "trailers, deflate")), id="te"),
    pytest.param((*GET, ("content-length", "1")), id="content-length without a body"),
    pytest.param((*GET, ("content-length", "x")), id="content-length that is no number"),
    pytest.param((*GET, ("content-length", "-1")), id="negative content-length"),
    pytest.param((*GET, ("content-length", "0"), ("content-length", "0")), id="content-length twice"),
    pytest.param(((":method", "CONNECT"), *GET[1:]), id="CONNECT with a path"),
    pytest.param(((":method", "CONNECT"),), id="CONNECT without authority"),
]


@pytest.mark.parametrize("fields", MALFORMED)
@on_uvloop
async def test_malformed_requests(pki: PKI, fields: tuple[tuple[str, str], ...]) -> None:
    seen: list[bytes] = []
    async with served(pki, answering(answer(), seen)) as (front, caller):
        caller.send(head(1, *fields), head(3, *GET))
        assert await caller.reset_code(1) == PROTOCOL
        assert await caller.status(3) == "200"
        assert len(seen) == 1
        assert front.metrics.route("local").codes == {(b"OTHER", 400): 1}


STREAM_ERRORS = [
    pytest.param(
        (head(1, *POST, ("content-length", "3"), end=False), frame(DATA, END_STREAM, 1, b"ab")),
        PROTOCOL,
        id="8.1.1 body shorter than content-length",
    ),
    pytest.param(
        (head(1, *POST, ("content-length", "3"), end=False), frame(DATA, 0, 1, b"abcd")),
        PROTOCOL,
        id="8.1.1 body longer than content-length",
    ),
    pytest.param(
        (head(1, *POST, ("content-length", "3"), end=False), head(1, ("x-a", "1"))),
        PROTOCOL,
        id="8.1.1 trailers before the body's end",
    ),
    pytest.param((OPEN, head(1, ("x-a", "1"), end=False)), PROTOCOL, id="8.1 second HEADERS without END_STREAM"),
    pytest.param((OPEN, head(1, (":path", "/"))), PROTOCOL, id="8.1 pseudo-header in trailers"),
    pytest.param((OPEN, head(1, ("X-A", "1"))), PROTOCOL, id="8.2 upper case in trailers"),
    pytest.param((OPEN, window(1, 0)), PROTOCOL, id="6.9 WINDOW_UPDATE of nothing"),
    pytest.param((OPEN, window(1, 0x7FFFFFFF)), FLOW, id="6.9.1 window too large"),
    pytest.param((WATCHED, frame(DATA, END_STREAM, 1, b"x")), CLOSED, id="5.1 half-closed: DATA"),
    pytest.param((WATCHED, head(1, ("x-a", "1"))), CLOSED, id="5.1 half-closed: HEADERS"),
    pytest.param((OPEN, frame(DATA, 0, 1, bytes(16384)) * 17), FLOW, id="6.9 more than the stream's window"),
]


@pytest.mark.parametrize(("sent", "code"), STREAM_ERRORS)
@on_uvloop
async def test_stream_errors(pki: PKI, sent: tuple[bytes, ...], code: int) -> None:
    """The stream is reset, its connection to the backend given up; the others do not notice."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = lines_of(await read_head(reader))[0]
        if first == f"GET {PATH} HTTP/1.1":
            writer.write(answer())
        await read_until_broken(reader)

    async with served(pki, handle) as (front, caller):
        caller.send(*sent)
        assert await caller.reset_code(1) == code
        caller.send(head(3, *GET))
        assert await caller.status(3) == "200"
        await caller.until_end(3)
        while front.metrics.in_flight:
            await asyncio.sleep(0.01)


HARMLESS = [
    pytest.param((setting((99, 1), (3, 0), (1, 0), (6, 10)), head(1, *GET)), id="any settings"),
    pytest.param((frame(99, 255, 0, b"abc"), frame(98, 0, 7), head(1, *GET)), id="unknown frames"),
    pytest.param((frame(PRIORITY, 0, 1, bytes(5)), head(1, *GET)), id="PRIORITY of an idle stream"),
    # RFC 9113 dropped the error that RFC 7540 5.3.1 made of it, together with what priorities meant.
    pytest.param(
        (
            frame(PRIORITY, 0, 1, b"\0\0\0\1\x10"),
            frame(HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY, 1, b"\0\0\0\1\x10" + block(*GET)),
        ),
        id="a stream that depends on itself",
    ),
    pytest.param(
        (frame(HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY, 1, bytes(5) + block(*GET)),),
        id="HEADERS with priority",
    ),
    pytest.param(
        (frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\x03" + block(*GET) + bytes(3)),), id="padded HEADERS"
    ),
    pytest.param(
        (
            frame(HEADERS, END_STREAM, 1, block(*GET[:2])),
            frame(CONTINUATION, 0, 1, b""),
            frame(CONTINUATION, END_HEADERS, 1, block(*GET[2:])),
        ),
        id="CONTINUATION",
    ),
    pytest.param((head(1, *GET, ("te", "trailers")),), id="TE"),
    pytest.param((head(1, *GET, ("host", "LOCALHOST")),), id="the same host"),
    pytest.param((head(1, *GET[:2], GET[3], ("host", "localhost")),), id="host instead of authority"),
    pytest.param((head(1, *GET, ("content-length", "0")),), id="content-length 0"),
    pytest.param((head(1, *GET, end=False), frame(DATA, END_STREAM, 1)), id="empty DATA at the end"),
    pytest.param((head(1, *GET, end=False), head(1, ("x-a", "1"))), id="trailers"),
    pytest.param((head(1, *GET), frame(GOAWAY, 0, 0, bytes(8))), id="GOAWAY of the client"),
    pytest.param((head(0x80000001, *GET),), id="reserved bit"),
]


@pytest.mark.parametrize("sent", HARMLESS)
@on_uvloop
async def test_what_is_allowed(pki: PKI, sent: tuple[bytes, ...]) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = await read_head(reader)
        if fields_of(found, "transfer-encoding"):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"0\r\n")
        writer.write(answer())
        await read_until_broken(reader)

    async with served(pki, handle) as (_, caller):
        for piece in sent:
            # Byte by byte or all at once: frames know no packets.
            for start in range(len(piece)):
                caller.send(piece[start : start + 1])
        assert await caller.status(1) == "200"
        assert await caller.until_end(1) == b"ok"
        await caller.ping()
        assert not any(isinstance(item, GoAwayFrame) for item in caller.frames)


@on_uvloop
async def test_settings_and_pings_are_acknowledged(pki: PKI) -> None:
    async with served(pki, never) as (front, caller):
        caller.send(frame(PING, 0, 0, b"12345678"))
        await caller.ping()
        assert [item.opaque_data for item in caller.frames if isinstance(item, PingFrame)] == []
        assert ["ACK" in item.flags for item in caller.frames if isinstance(item, SettingsFrame)] == [False, True]
        assert caller.settings() == {3: front.plane.limits.streams, 4: 256 * 1024, 6: 1024 * 1024}


@on_uvloop
async def test_more_streams_than_allowed_are_refused(pki: PKI) -> None:
    async with served(pki, never, limits=Limits(streams=2)) as (front, caller):
        caller.send(head(1, *GET), head(3, *GET), head(5, *GET))
        assert await caller.reset_code(5) == REFUSED
        assert front.metrics.in_flight == 2


@on_uvloop
async def test_frames_behind_a_reset_of_ours_are_ignored(pki: PKI) -> None:
    async with served(pki, answering(answer())) as (_, caller):
        caller.send(head(1, *POST, ("x-a", "\n"), end=False))
        caller.send(frame(DATA, 0, 1, b"abc"), head(1, ("x-b", "1")), window(1, 5), frame(RST_STREAM, 0, 1, CODE))
        caller.send(head(3, *GET))
        assert await caller.status(3) == "200"
        assert caller.resets() == {1: PROTOCOL}


@on_uvloop
async def test_wrong_hello_in_time(pki: PKI) -> None:
    limits = Limits(head_seconds=0.2, idle_seconds=0.3, sweep_seconds=0.05)
    async with proxy(pki, limits=limits) as front:
        for sent, code in (
            (b"", CALM),
            (PREFACE, CALM),
            (PREFACE + setting() + frame(HEADERS, END_STREAM, 1, block(*GET)), CALM),
            (PREFACE + setting() + head(1, *GET)[:12], CALM),
            (PREFACE + setting(), NO_ERROR),
        ):
            async with connected(pki, front) as caller:
                caller.send(sent)
                assert (await caller.goaway()).error_code == code
