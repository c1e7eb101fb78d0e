"""Large bodies over shared connections, both ways and beside each other."""

import asyncio
import hashlib

import pytest

from tests.unit.aggregator import http2_kit as h2
from tests.unit.aggregator.fault_callers import PROTOCOLS, calling
from tests.unit.aggregator.proxy_kit import PKI, client, on_uvloop, request
from tests.unit.aggregator.shared_kit import THINGS, crowd, sharing
from tests.unit.aggregator.shared_peer import Asked
from tests.unit.aggregator.test_proxy_shared_flow import MEGABYTE, digest

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)


async def echo(asked: Asked) -> None:
    """Answers with what it gets, while it gets it."""
    asked.head()
    while not asked.ended or asked.pieces:
        await asked.peer.until(lambda: asked.ended or bool(asked.pieces))
        if asked.pieces:
            await asked.data(asked.pieces.pop(0))
    await asked.data(b"", end=True)


@over_both
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
@on_uvloop
async def test_large_answers_beside_each_other(pki: PKI, declared: bool, protocol: str) -> None:
    async def handle(asked: Asked) -> None:
        asked.head("200", *([("content-length", str(len(MEGABYTE)))] if declared else []))
        await asked.data(MEGABYTE, end=True)

    async with sharing(pki, handle) as (served, front), crowd(pki, front, 4, protocol=protocol) as tasks:
        for task in tasks:
            found = await task
            assert (found.status, found.whole, found.body == MEGABYTE) == (200, True, True)
        assert len(served.peers) == 1


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "declared"])
@on_uvloop
async def test_large_bodies_of_http1_clients(pki: PKI, chunked: bool) -> None:
    async with sharing(pki, digest) as (served, front), client(pki, front) as caller, client(pki, front) as other:
        for each in (caller, other):
            if chunked:
                head = request("POST", THINGS, "Transfer-Encoding: chunked")
                pieces = [MEGABYTE[at : at + 99_999] for at in range(0, len(MEGABYTE), 99_999)]
                body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nX-Sum: 1\r\n\r\n"
            else:
                head, body = request("POST", THINGS, f"Content-Length: {len(MEGABYTE)}"), MEGABYTE
            each.writer.write(head + body)
        for each in (caller, other):
            found = await each.response("POST")
            assert found.body == hashlib.sha256(MEGABYTE).hexdigest().encode()
        assert len(served.peers) == 1
        assert [list(asked.trailers) for asked in served.asked] == [[("x-sum", "1")] if chunked else []] * 2


@on_uvloop
async def test_large_bodies_of_http2_clients(pki: PKI) -> None:
    async with (
        sharing(pki, digest) as (served, front),
        calling(pki, front, "h2") as one,
        calling(pki, front, "h2") as two,
    ):
        found = await asyncio.gather(*(caller.ask("PUT", f"{THINGS}/a", MEGABYTE) for caller in (one, two)))
        assert {item.body for item in found} == {hashlib.sha256(MEGABYTE).hexdigest().encode()}
        assert len(served.peers) == 1


@over_both
@on_uvloop
async def test_a_body_that_is_answered_while_it_comes(pki: PKI, protocol: str) -> None:
    async with sharing(pki, echo) as (_, front), calling(pki, front, protocol) as caller:
        found = await caller.ask("POST", THINGS, MEGABYTE[:200_000])
        assert (found.status, found.whole, found.body == MEGABYTE[:200_000]) == (200, True, True)


@on_uvloop
async def test_a_body_without_length_of_an_http2_client(pki: PKI) -> None:
    async with sharing(pki, digest) as (served, front), h2.connected(pki, front) as caller:
        caller.send(h2.PREFACE, h2.setting(), h2.head(1, *h2.POST, end=False))
        caller.send(h2.frame(h2.DATA, 0, 1, b"hello"), h2.frame(h2.DATA, 0, 1, b" world"))
        caller.send(h2.head(1, ("x-sum", "1")))
        assert await caller.until_end(1) == hashlib.sha256(b"hello world").hexdigest().encode()
        assert list(served.asked[0].trailers) == [("x-sum", "1")]


@on_uvloop
async def test_padding_counts_and_is_given_back(pki: PKI) -> None:
    async def handle(asked: Asked) -> None:
        asked.head()
        peer = asked.peer
        for number in range(4000):
            await peer.until(lambda: peer.h2.local_flow_control_window(asked.stream) > 400)
            peer.h2.send_data(asked.stream, b"0123456789", pad_length=255, end_stream=number == 3999)
            peer.flush()

    async with sharing(pki, handle) as (_, front), crowd(pki, front, 1) as tasks:
        assert (await tasks[0]).body == b"0123456789" * 4000
