"""Answers over HTTP/2 that are none (RFC 9113 8.1.1): what the client gets, and that no other stream notices."""

import asyncio
from collections.abc import Callable

import pytest

from tests.unit.aggregator.fault_callers import PROTOCOLS, calling
from tests.unit.aggregator.http2_kit import (
    DATA,
    END_STREAM,
    PROTOCOL,
    frame,
    head,
)
from tests.unit.aggregator.proxy_kit import PKI, on_uvloop
from tests.unit.aggregator.shared_kit import THINGS, crowd, sharing
from tests.unit.aggregator.shared_peer import Asked, Handler

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
OPEN = says(OK, end=False)
AFTER_THE_HEAD = {
    "too-long": in_turn(_FOUR, data(b"half+")),
    "too-long-later": in_turn(_FOUR, data(b"half"), data(b"+", end=True)),
    "too-short": in_turn(_FOUR, data(b"ha", end=True)),
    "too-short-and-empty": in_turn(_FOUR, data(b"ha"), data(b"", end=True)),
    "too-short-with-trailers": in_turn(_FOUR, data(b"ha"), says(("x-sum", "1"))),
    "two-heads": in_turn(OPEN, data(b"half"), OPEN),
    "trailers-that-do-not-end": in_turn(OPEN, data(b"half"), says(("x-sum", "1"), end=False)),
    "status-in-trailers": in_turn(OPEN, data(b"half"), says(OK)),
    "upper-case-in-trailers": in_turn(OPEN, data(b"half"), says(("X-Sum", "1"))),
    "lines-in-trailers": in_turn(OPEN, data(b"half"), says(("x-sum", "1\r\nSet-Cookie: a=b"))),
    "connection-in-trailers": in_turn(OPEN, data(b"half"), says(("transfer-encoding", "chunked"))),
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
    "head": ("HEAD", OPEN),
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
