"""HTTP/2 connections that end: the proxy stops, clients leave."""

import asyncio

from hyperframe.frame import GoAwayFrame

from tests.unit.aggregator.http2_kit import (
    CHUNKED,
    DATA,
    END_STREAM,
    GET,
    NO_ERROR,
    POST,
    WATCH,
    frame,
    head,
    served,
)
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    answering,
    on_uvloop,
    read_head,
    read_until_broken,
)


async def _watched(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while b"watch" in await read_head(reader):
        writer.write(CHUNKED + b"4\r\none\n\r\n")
    await asyncio.sleep(0.3)
    writer.write(answer(b"late"))
    await read_until_broken(reader)


@on_uvloop
async def test_stopping_gracefully(pki: PKI) -> None:
    async with served(pki, _watched) as (front, caller):
        caller.send(head(1, *WATCH), head(3, *GET))
        await caller.heads(1)
        caller.answers_pings = False
        stopping = asyncio.get_running_loop().create_task(front.stop(10.0, watch_grace_seconds=0.1))
        while not any(isinstance(item, GoAwayFrame) for item in caller.frames):
            await caller.read()
        # On its way when the client heard of it: still served.
        caller.send(head(5, *GET))
        assert await caller.until_end(1) == b"one\n"
        assert await caller.until_end(3) == b"late"
        assert await caller.until_end(5) == b"late"
        assert (await caller.goaway()).error_code == NO_ERROR
        assert [item.last_stream_id for item in caller.frames if isinstance(item, GoAwayFrame)] == [0x7FFFFFFF, 5]
        await stopping


@on_uvloop
async def test_streams_behind_the_last_one_are_not_served(pki: PKI) -> None:
    async with served(pki, _watched) as (front, caller):
        caller.send(head(1, *GET))
        await caller.ping()
        stopping = asyncio.get_running_loop().create_task(front.stop(10.0))
        while len([item for item in caller.frames if isinstance(item, GoAwayFrame)]) < 2:
            await caller.read()
        caller.send(head(3, *POST, end=False), frame(DATA, END_STREAM, 3, b"x"))
        assert await caller.until_end(1) == b"late"
        assert (await caller.goaway()).last_stream_id == 1
        assert not [item for item in caller.frames if item.stream_id == 3]
        await stopping


@on_uvloop
async def test_an_announced_end_lets_the_first_request_of_a_connection_pass(pki: PKI) -> None:
    async with served(pki, answering(answer())) as (front, caller):
        front.announce_end()
        await caller.ping()
        caller.send(head(1, *GET))
        assert await caller.until_end(1) == b"ok"
        assert (await caller.goaway()).last_stream_id == 1


@on_uvloop
async def test_a_client_that_leaves_takes_its_requests_along(pki: PKI) -> None:
    begun = gone = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal begun, gone
        await read_head(reader)
        begun += 1
        await read_until_broken(reader)
        gone += 1

    async with served(pki, handle) as (front, caller):
        caller.send(head(1, *WATCH), head(3, *GET), head(5, *POST, end=False), frame(DATA, 0, 5, b"abc"))
        while begun < 3:
            await asyncio.sleep(0.01)
        caller.writer.transport.abort()
        while gone < 3:
            await asyncio.sleep(0.01)
        assert front.metrics.in_flight == front.metrics.long_running == 0
        codes = front.metrics.route("v1.test").codes
        assert codes == {(b"GET", 499): 2, (b"POST", 499): 1}
