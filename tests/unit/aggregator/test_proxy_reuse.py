"""Connections that are used again, or die in between."""

import asyncio

from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    answering,
    on_uvloop,
    read_head,
    request,
)
from tests.unit.aggregator.streams_kit import stack


@on_uvloop
async def test_a_dead_reused_connection_is_retried_once_for_idempotent_requests(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(answer())
        await writer.drain()
        # The next request is read, so that the proxy cannot know of the end before, and not answered.
        await read_head(reader)

    async with stack(pki, handle) as (served, _, caller):
        assert (await caller.get()).status == 200
        assert (await caller.get()).status == 200
        assert served.connections == 2
        await caller.send(request("POST", "/apis/test/v1/a", "Content-Length: 0"))
        found = await caller.response("POST")
        assert (found.status, found.body) == (503, b"error trying to reach service: EOF\n")
        assert served.connections == 2


@on_uvloop
async def test_a_fresh_connection_that_dies_is_not_retried(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)

    async with stack(pki, handle) as (served, _, caller):
        found = await caller.get()
        assert (found.status, found.body) == (503, b"error trying to reach service: EOF\n")
        assert served.connections == 1
        # The connection of the client survives it.
        assert (await caller.get()).status == 503


@on_uvloop
async def test_a_connection_closed_while_idle_is_replaced(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(answer())
        await writer.drain()

    async with stack(pki, handle) as (served, _, caller):
        for _ in range(3):
            assert (await caller.get()).status == 200
            await asyncio.sleep(0.05)
        await caller.send(request("POST", "/apis/test/v1/a", "Content-Length: 0"))
        assert (await caller.response("POST")).status == 200
        assert served.connections == 4


@on_uvloop
async def test_a_client_that_leaves_in_the_middle_of_an_upload_closes_the_backend_connection(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(100)

    async with stack(pki, handle) as (served, front, caller):
        await caller.send(request("POST", "/apis/test/v1/a", "Content-Length: 100", body=b"half"))
        while served.connections == 0:
            await asyncio.sleep(0.01)
        caller.close()
        while served.closed == 0:
            await asyncio.sleep(0.01)
        assert front.metrics.route("v1.test").codes == {(b"POST", 499): 1}


@on_uvloop
async def test_connection_close_of_either_side_is_honoured(pki: PKI) -> None:
    async with stack(pki, answering(answer(b"x", "Connection: close"))) as (served, _, caller):
        found = await caller.get()
        assert (found.status, found.all("connection")) == (200, [])
        assert (await caller.get("/apis/test/v1/b", "Connection: close")).all("connection") == ["close"]
        assert await caller.closed()
        assert served.connections == 2
