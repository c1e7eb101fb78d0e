"""Heads of HTTP/2 requests: too large, refused, remembered, in pieces."""

import hpack

from aggregator.proxy.limits import Limits
from tests.unit.aggregator.http2_kit import (
    CALM,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    NO_ERROR,
    PATH,
    PROTOCOL,
    block,
    frame,
    head,
    never,
    served,
)
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    answering,
    fields_of,
    lines_of,
    on_uvloop,
)


@on_uvloop
async def test_a_head_that_is_too_large_is_answered(pki: PKI) -> None:
    async with served(pki, answering(answer()), limits=Limits(head_bytes=4000)) as (_, caller):
        caller.send(head(1, *GET, ("x-a", "v" * 5000)), head(3, *GET))
        assert await caller.status(1) == "431"
        assert await caller.status(3) == "200"
        large = block(*GET, *((f"x-{number}", "v" * 100) for number in range(60)))
        caller.send(frame(HEADERS, END_STREAM, 5, large[:3000]), frame(CONTINUATION, END_HEADERS, 5, large[3000:]))
        assert await caller.status(5) == "431"
        assert (await caller.goaway()).error_code == CALM


@on_uvloop
async def test_the_dynamic_table_is_kept_over_refused_heads(pki: PKI) -> None:
    """A head that is refused may still change the table; equal bytes mean another request then."""
    seen: list[bytes] = []
    async with served(pki, answering(answer(), seen)) as (_, caller):
        encoder = hpack.Encoder()
        for ident, path, extra in ((1, "a", "1"), (3, "b", " bad"), (5, "b", "1"), (7, "c", "1"), (9, "b", "1")):
            fields = [*GET[:3], (":path", f"{PATH}/{path}"), ("x-a", extra)]
            caller.send(frame(HEADERS, END_HEADERS | END_STREAM, ident, encoder.encode(fields)))
            if extra == "1":
                assert await caller.status(ident) == "200"
                assert lines_of(seen[-1])[0] == f"GET {PATH}/{path} HTTP/1.1"
        assert caller.resets() == {3: PROTOCOL}


@on_uvloop
async def test_cookies_become_one_field(pki: PKI) -> None:
    seen: list[bytes] = []
    async with served(pki, answering(answer(), seen)) as (_, caller):
        caller.send(head(1, *GET, ("cookie", "a=1"), ("x-b", "2"), ("cookie", "c=3")))
        assert await caller.status(1) == "200"
        assert fields_of(seen[0], "cookie") == ["a=1; c=3"]


@on_uvloop
async def test_connect_is_refused(pki: PKI) -> None:
    async with served(pki, never) as (_, caller):
        caller.send(head(1, (":method", "CONNECT"), (":authority", "localhost:1"), end=False))
        assert await caller.status(1) == "405"
        assert await caller.reset_code(1) == NO_ERROR
