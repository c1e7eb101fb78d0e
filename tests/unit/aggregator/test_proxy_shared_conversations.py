"""Who speaks when on a shared connection: watches, Expect, answers before the request has ended."""

import asyncio

import pytest

from tests.unit.aggregator import http2_kit as h2
from tests.unit.aggregator.fault_callers import PROTOCOLS, calling
from tests.unit.aggregator.proxy_kit import PKI, client, on_uvloop, read_head, request
from tests.unit.aggregator.shared_kit import THINGS, crowd, sharing
from tests.unit.aggregator.shared_peer import Asked

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)


@over_both
@on_uvloop
async def test_a_watch_is_told_at_once(pki: PKI, protocol: str) -> None:
    events: asyncio.Queue[bytes] = asyncio.Queue()

    async def handle(asked: Asked) -> None:
        asked.head("200", ("content-type", "application/json"))
        while event := await events.get():
            await asked.data(event)
        await asked.data(b"", end=True)

    async with sharing(pki, handle) as (served, front):
        lines = [b'{"type":"ADDED","object":{"n":%d}}\n' % number for number in range(20)]
        if protocol == "h2":
            async with h2.connected(pki, front) as caller:
                caller.send(h2.PREFACE, h2.setting(), h2.head(1, *h2.WATCH))
                # The head comes before there is anything to tell.
                assert (await caller.heads(1))[0]["content-type"] == "application/json"
                for number, line in enumerate(lines, 1):
                    events.put_nowait(line)
                    while len(caller.body(1)) < len(b"".join(lines[:number])):
                        await caller.read()
                events.put_nowait(b"")
                assert await caller.until_end(1) == b"".join(lines)
        else:
            async with client(pki, front) as other:
                await other.send(request("GET", f"{THINGS}?watch=1"))
                assert b"Transfer-Encoding: chunked" in await read_head(other.reader)
                for line in lines:
                    events.put_nowait(line)
                    assert await other.reader.readuntil(b"}}\n\r\n") == b"%x\r\n%b\r\n" % (len(line), line)
                events.put_nowait(b"")
                assert await other.reader.readexactly(5) == b"0\r\n\r\n"
        assert len(served.peers) == 1


@over_both
@on_uvloop
async def test_a_client_is_asked_to_go_on(pki: PKI, protocol: str) -> None:
    async def handle(asked: Asked) -> None:
        assert asked.value("expect") == "100-continue"
        assert not asked.ended
        asked.head("103", ("link", "</x>"))
        asked.head("100")
        await asked.answer(await asked.body())

    async with sharing(pki, handle) as (_, front):
        if protocol == "h2":
            async with h2.connected(pki, front) as caller:
                caller.send(h2.PREFACE, h2.setting())
                caller.send(h2.head(1, *h2.POST, ("expect", "100-continue"), ("content-length", "3"), end=False))
                heads = await caller.heads(1, 2)
                assert [head[":status"] for head in heads] == ["103", "100"]
                caller.send(h2.frame(h2.DATA, h2.END_STREAM, 1, b"abc"))
                assert await caller.until_end(1) == b"abc"
        else:
            async with client(pki, front) as other:
                for _ in range(2):
                    await other.send(request("POST", THINGS, "Content-Length: 3", "Expect: 100-continue"))
                    assert await read_head(other.reader) == b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
                    assert await read_head(other.reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
                    await other.send(b"abc")
                    assert (await other.response("POST")).body == b"abc"


@over_both
@pytest.mark.parametrize("resets", [True, False], ids=["says so", "leaves it at that"])
@on_uvloop
async def test_an_early_answer_ends_the_upload_and_keeps_the_connection(pki: PKI, resets: bool, protocol: str) -> None:
    """RFC 9113 8.1: a whole answer, and RST_STREAM(NO_ERROR) since the rest of the request is not needed."""

    async def handle(asked: Asked) -> None:
        await asked.answer(b"too large", status="413")
        if asked.method == "POST" and resets:
            asked.refuse(h2.NO_ERROR)

    async with sharing(pki, handle) as (served, front), calling(pki, front, protocol) as caller:
        found = await caller.ask("POST", THINGS, b"x" * 200_000)
        assert (found.status, found.whole, found.body) == (413, True, b"too large")
        async with crowd(pki, front, 1) as tasks:
            assert (await tasks[0]).status == 413
        assert len(served.peers) == 1
        if not resets and not served.asked[0].ended:
            assert await asyncio.wait_for(served.asked[0].until_reset(), 3) == h2.CANCEL
        assert front.metrics.in_flight == 0
