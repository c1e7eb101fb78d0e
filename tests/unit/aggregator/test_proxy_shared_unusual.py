"""Answers over HTTP/2 that are unusual, and allowed; and heads that are too large."""

import asyncio

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
    block,
    frame,
    head,
    setting,
    window,
)
from tests.unit.aggregator.proxy_kit import PKI, on_uvloop
from tests.unit.aggregator.shared_kit import SHARING, THINGS, sharing
from tests.unit.aggregator.shared_peer import Asked
from tests.unit.aggregator.test_proxy_shared_malformed import OK, OPEN, Script, beside_another, data, in_turn, says

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)


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
    "no-length": in_turn(OPEN, data(b"o"), data(b"k", end=True)),
    "end-in-a-frame-of-its-own": in_turn(OPEN, data(b"ok"), data(b"", end=True)),
    "length-with-zeros": in_turn(says(OK, ("content-length", "002"), end=False), data(b"ok", end=True)),
    "tab-within-a-value": in_turn(says(OK, ("x-a", "1\t2"), end=False), data(b"ok", end=True)),
    "empty-trailers": in_turn(OPEN, data(b"ok"), says()),
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
