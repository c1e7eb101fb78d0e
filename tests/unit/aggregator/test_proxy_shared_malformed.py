"""Answers over HTTP/2 that are none (RFC 9113 8.1.1): what the client gets, and that no other stream notices."""

import asyncio
from collections.abc import Callable

import pytest

from aggregator.proxy.limits import Limits
from tests.unit.aggregator.fault_callers import PROTOCOLS, calling
from tests.unit.aggregator.http2_kit import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL,
    block,
    frame,
    head,
    setting,
    window,
)
from tests.unit.aggregator.proxy_kit import PKI, on_uvloop
from tests.unit.aggregator.shared_kit import SHARING, THINGS, Asked, Handler, crowd, sharing

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)
OK = (":status", "200")
Script = Callable[[int], bytes]
"""What the backend says on a stream."""


def says(*fields: tuple[str, str], end: bool = True) -> Script:
    return lambda stream: head(stream, *fields, end=end)


def in_turn(*scripts: Script) -> Script:
    return lambda stream: b"".join(script(stream) for script in scripts)


def data(payload: bytes, *, end: bool = False) -> Script:
    return lambda stream: frame(DATA, END_STREAM if end else 0, stream, payload)


def beside_another(script: Script, go: asyncio.Event) -> Handler:
    """Says what the script does, and answers those well that ask for the other one."""

    async def handle(asked: Asked) -> None:
        await asked.body()
        if "other" not in asked.path:
            asked.peer.write(script(asked.stream))
            return
        await go.wait()
        await asked.answer(b"other")

    return handle


NO_HEAD = {
    "no-status": says(("content-type", "a/b")),
    "no-fields": says(),
    "two-statuses": says(OK, OK),
    "status-behind-a-field": says(("a", "b"), OK),
    "another-pseudo-field": says(OK, (":path", "/")),
    "unknown-pseudo-field": says((":unknown", "1"), OK),
    **{
        f"status-{name}": says((":status", value))
        for name, value in {
            "empty": "",
            "101": "101",
            "words": "okay",
            "short": "20",
            "long": "2000",
            "low": "099",
            "high": "600",
            "signed": "+20",
            "spaced": "200 ",
            "phrase": "200 OK",
            "line": "200\r\nx: y",
        }.items()
    },
    **{
        f"name-{name}": says(OK, (value, "1"))
        for name, value in {
            "upper-case": "X-A",
            "empty": "",
            "space": "x a",
            "colon": "x:a",
            "line": "x\r\na",
            "line-feed": "x\na",
            "nul": "x\0a",
            "beyond-ascii": "x\xe9",
            "delete": "x\x7f",
        }.items()
    },
    **{
        f"value-{name}": says(OK, ("x-a", value))
        for name, value in {
            "lines": "1\r\nSet-Cookie: a=b",
            "line-feed": "1\nSet-Cookie: a=b",
            "carriage-return": "1\rSet-Cookie: a=b",
            "response": "1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "nul": "1\x002",
            "leading-space": " 1",
            "trailing-space": "1 ",
            "trailing-tab": "1\t",
        }.items()
    },
    **{
        f"field-{name}": says(OK, (name, value))
        for name, value in {
            "connection": "x-a",
            "keep-alive": "timeout=5",
            "proxy-connection": "keep-alive",
            "transfer-encoding": "chunked",
            "upgrade": "websocket",
        }.items()
    },
    **{
        f"length-{name}": in_turn(says(OK, ("content-length", value), end=False), data(b"12345", end=True))
        for name, value in {
            "words": "five",
            "negative": "-5",
            "signed": "+5",
            "list": "5, 5",
            "hex": "0x5",
            "empty": "",
            "endless": "9" * 400,
        }.items()
    },
    "two-lengths": in_turn(
        says(OK, ("content-length", "5"), ("content-length", "6"), end=False), data(b"12345", end=True)
    ),
    "length-of-nothing": says(OK, ("content-length", "5")),
    "informational-and-no-more": says((":status", "103")),
    "switching-and-more": in_turn(says((":status", "101"), end=False), says(OK)),
    "body-before-the-head": data(b"x", end=True),
    "body-behind-an-informational-head": in_turn(says((":status", "103"), end=False), data(b"x", end=True)),
    "end-before-the-head": data(b"", end=True),
    "malformed-informational-head": in_turn(says((":status", "103"), ("X-A", "1"), end=False), says(OK)),
}


@over_both
@pytest.mark.parametrize("script", NO_HEAD.values(), ids=NO_HEAD.keys())
@on_uvloop
async def test_a_malformed_head_is_a_503(pki: PKI, script: Script, protocol: str) -> None:
    go = asyncio.Event()
    async with (
        sharing(pki, beside_another(script, go)) as (served, front),
        crowd(pki, front, 1, path=f"{THINGS}/other") as others,
        calling(pki, front, protocol) as caller,
    ):
        await served.requests(1)
        found = await caller.ask("POST", THINGS, b"hello")
        assert (found.status, found.whole) == (503, True)
        assert found.body.startswith(b"error trying to reach service: malformed HTTP response")
        assert found.body.count(b"\n") == 1
        assert found.all("set-cookie") == []
        asked = await served.request(2)
        assert await asyncio.wait_for(asked.until_reset(), 3) == PROTOCOL
        go.set()
        assert (await others[0]).body == b"other"
        assert (await caller.ask("GET", f"{THINGS}/other")).body == b"other"
        assert (len(served.asked), len(served.peers), served.http1) == (3, 1, 0)
        assert front.metrics.route("v1.test").codes == {(b"POST", 503): 1, (b"GET", 200): 2}
        assert front.metrics.in_flight == 0


_FOUR = says(OK, ("content-length", "4"), end=False)
_OPEN = says(OK, end=False)
AFTER_THE_HEAD = {
    "too-long": in_turn(_FOUR, data(b"half+")),
    "too-long-later": in_turn(_FOUR, data(b"half"), data(b"+", end=True)),
    "too-short": in_turn(_FOUR, data(b"ha", end=True)),
    "too-short-and-empty": in_turn(_FOUR, data(b"ha"), data(b"", end=True)),
    "too-short-with-trailers": in_turn(_FOUR, data(b"ha"), says(("x-sum", "1"))),
    "two-heads": in_turn(_OPEN, data(b"half"), _OPEN),
    "trailers-that-do-not-end": in_turn(_OPEN, data(b"half"), says(("x-sum", "1"), end=False)),
    "status-in-trailers": in_turn(_OPEN, data(b"half"), says(OK)),
    "upper-case-in-trailers": in_turn(_OPEN, data(b"half"), says(("X-Sum", "1"))),
    "lines-in-trailers": in_turn(_OPEN, data(b"half"), says(("x-sum", "1\r\nSet-Cookie: a=b"))),
    "connection-in-trailers": in_turn(_OPEN, data(b"half"), says(("transfer-encoding", "chunked"))),
}


@over_both
@pytest.mark.parametrize("script", AFTER_THE_HEAD.values(), ids=AFTER_THE_HEAD.keys())
@on_uvloop
async def test_an_answer_that_turns_out_malformed_is_broken_off(pki: PKI, script: Script, protocol: str) -> None:
    go = asyncio.Event()
    async with (
        sharing(pki, beside_another(script, go)) as (served, front),
        crowd(pki, front, 1, path=f"{THINGS}/other") as others,
        calling(pki, front, protocol) as caller,
    ):
        await served.requests(1)
        found = await caller.ask("GET", THINGS)
        assert not found.whole
        assert found.status in (0, 200)
        assert b"half+" not in found.body
        asked = await served.request(2)
        assert await asyncio.wait_for(asked.until_reset(), 3) == PROTOCOL
        go.set()
        assert (await others[0]).body == b"other"
        assert (len(served.asked), len(served.peers), served.http1) == (2, 1, 0)
        assert front.metrics.route("v1.test").codes == {(b"GET", 200): 2}
        assert front.metrics.in_flight == 0


BODYLESS = {
    "head": ("HEAD", _OPEN),
    "no-content": ("GET", says((":status", "204"), end=False)),
    "not-modified": ("GET", says((":status", "304"), end=False)),
}


@over_both
@pytest.mark.parametrize(("method", "script"), BODYLESS.values(), ids=BODYLESS.keys())
@on_uvloop
async def test_a_body_where_there_can_be_none_goes_nowhere(
    pki: PKI, method: str, script: Script, protocol: str
) -> None:
    smuggled = data(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", end=True)
    async with sharing(pki, beside_another(in_turn(script, smuggled), asyncio.Event())) as (served, front):
        async with calling(pki, front, protocol) as caller:
            assert (await caller.ask(method, THINGS)).body == b""
            asked = await served.request()
            assert await asyncio.wait_for(asked.until_reset(), 3) == PROTOCOL
        assert not served.peers[0].closed
        assert front.metrics.in_flight == 0


def _in_pieces(stream: int) -> bytes:
    whole = block(OK, ("x-long", "y" * 30_000), ("content-length", "2"))
    first = frame(HEADERS, 0, stream, whole[:1])
    middle = [frame(CONTINUATION, 0, stream, whole[at : at + 10_000]) for at in range(1, len(whole), 10_000)]
    return b"".join((first, *middle, frame(CONTINUATION, END_HEADERS, stream), data(b"ok", end=True)(stream)))


def _padded(stream: int) -> bytes:
    fields = block(OK, ("content-length", "2"))
    flags = END_HEADERS | PADDED | HAS_PRIORITY
    first = frame(HEADERS, flags, stream, b"\x07" + b"\x80\0\0\0\xff" + fields + b"\0" * 7)
    bodies = [b"\x05o" + b"\0" * 5, b"\xff" + b"\0" * 255, b"\0k"]
    return first + b"".join(
        frame(DATA, PADDED | (END_STREAM if last == b"\0k" else 0), stream, last) for last in bodies
    )


def _beside_the_point(stream: int) -> bytes:
    return b"".join(
        (
            frame(0xFA, 0xFF, stream, b"whatever"),
            frame(0xFA, 0xFF, 0, b""),
            frame(0x0A, 0, 0, b"\0\0altsvc"),
            frame(0x0C, 0, 0, b"\0\x09https://a"),
            frame(PRIORITY, 0, stream, b"\0\0\0\0\x10"),
            frame(PRIORITY, 0, 99, b"\0\0\0\0\x10"),
            frame(PING, 0, 0, b"are here"),
            frame(PING, 1, 0, b"not ours"),
            setting((0xFFFF, 1), (1, 0), (1, 4096), (3, 50), (5, 1 << 20), (6, 4000)),
            window(stream, 1000),
            window(0, 1000),
            head(stream | 1 << 31, OK, ("content-length", "2"), end=False),
            frame(DATA, 0xF6, stream | 1 << 31, b"o"),
            data(b"")(stream),
            data(b"k")(stream),
            data(b"", end=True)(stream),
        )
    )


def _tables(stream: int) -> bytes:
    """The dynamic table, made use of, emptied and made use of again; Huffman code; fields that are never indexed."""
    first = b"\x3f\xe1\x1f\x20\x3f\xe1\x1f\x88\x40\x03x-a\x82\x64\x02"
    return frame(HEADERS, END_HEADERS, stream, first + b"\xbe\x10\x03x-b\x01c\x0f\x0d\x012") + data(b"ok", end=True)(
        stream
    )


TOLERATED: dict[str, Script] = {
    "continuation": _in_pieces,
    "padding-and-priority": _padded,
    "what-says-nothing-to-us": _beside_the_point,
    "tables": _tables,
    "no-length": in_turn(_OPEN, data(b"o"), data(b"k", end=True)),
    "end-in-a-frame-of-its-own": in_turn(_OPEN, data(b"ok"), data(b"", end=True)),
    "length-with-zeros": in_turn(says(OK, ("content-length", "002"), end=False), data(b"ok", end=True)),
    "tab-within-a-value": in_turn(says(OK, ("x-a", "1\t2"), end=False), data(b"ok", end=True)),
    "empty-trailers": in_turn(_OPEN, data(b"ok"), says()),
}


@over_both
@pytest.mark.parametrize("script", TOLERATED.values(), ids=TOLERATED.keys())
@on_uvloop
async def test_what_is_unusual_and_allowed_is_served(pki: PKI, script: Script, protocol: str) -> None:
    async with sharing(pki, beside_another(script, asyncio.Event())) as (served, front):
        async with calling(pki, front, protocol) as caller:
            for _ in range(2):
                found = await caller.ask("GET", THINGS)
                assert (found.status, found.whole, found.body) == (200, True, b"ok")
        assert (len(served.peers), served.http1) == (1, 0)


@over_both
@on_uvloop
async def test_fields_beyond_the_limit_are_a_503(pki: PKI, protocol: str) -> None:
    limits = Limits(own_connections=0, head_bytes=20_000, sweep_seconds=SHARING.sweep_seconds)
    script = in_turn(says(OK, *((f"x-{number}", "y" * 1000) for number in range(14)), ("x", "y" * 9000), end=False))

    async def handle(asked: Asked) -> None:
        if "other" in asked.path:
            await asked.answer(b"other")
        else:
            asked.peer.write(_split(script(asked.stream)))

    async with sharing(pki, handle, limits=limits) as (served, front), calling(pki, front, protocol) as caller:
        assert (await caller.ask("GET", f"{THINGS}/other")).body == b"other"
        found = await caller.ask("GET", THINGS)
        assert found.status == 503
        words = b"error trying to reach service: server response headers exceeded 20000 bytes\n"
        assert found.body == words
        assert await asyncio.wait_for((await served.request(2)).until_reset(), 3) >= 0
        assert (await caller.ask("GET", f"{THINGS}/other")).body == b"other"
        assert (len(served.peers), served.http1) == (1, 0)


def _split(data: bytes) -> bytes:
    """One HEADERS frame as several."""
    flags, stream, payload = data[4], int.from_bytes(data[5:9], "big"), data[9:]
    pieces = [payload[at : at + 16384] for at in range(0, len(payload), 16384)]
    out = frame(HEADERS, flags & ~END_HEADERS, stream, pieces[0])
    return out + b"".join(
        frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, stream, piece) for piece in pieces[1:]
    )
