"""A proxy that stops, and clients that have only just connected: their first request is answered, and no other."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from aggregator.proxy.limits import Limits
from aggregator.proxy.server import Proxy
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Client,
    answer,
    answering,
    apiservice,
    backend,
    client,
    on_uvloop,
    proxy,
    request,
)

_ASKED = request("GET", "/apis/test/v1/things")


@contextlib.asynccontextmanager
async def _stopping(pki: PKI, before: bytes, *, warm: bool = False) -> AsyncIterator[tuple[Proxy, Client]]:
    """A proxy that stops, and a client that has sent so much before; `warm`: it has had an answer, too."""
    limits = Limits(sweep_seconds=0.05)
    async with (
        backend(answering(answer()), pki.server_context("backend")) as behind,
        proxy(pki, [apiservice(behind.port, pki.ca.pem)], limits=limits) as front,
        client(pki, front) as caller,
    ):
        if warm:
            await caller.get()
        if before:
            await caller.send(before)
        while not front.plane.connections:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        stopping = asyncio.get_running_loop().create_task(front.stop(5.0))
        await asyncio.sleep(0.1)
        yield front, caller
        await stopping


@pytest.mark.parametrize("before", [0, 10, len(_ASKED) - 2], ids=["nothing", "part of a line", "part of a head"])
@on_uvloop
async def test_the_first_request_of_who_has_just_connected_is_answered(pki: PKI, before: int) -> None:
    async with _stopping(pki, _ASKED[:before]) as (_, caller):
        await caller.send(_ASKED[before:])
        found = await caller.response()
        assert (found.status, found.body, found.all("connection")) == (200, b"ok", ["close"])
        assert await caller.closed()


@on_uvloop
async def test_who_has_just_connected_and_does_not_ask_has_to_go(pki: PKI) -> None:
    began = time.monotonic()
    async with _stopping(pki, b"") as (_, caller):
        assert await caller.closed()
        assert 0.5 < time.monotonic() - began < 3


@on_uvloop
async def test_who_has_had_an_answer_has_to_go_at_once(pki: PKI) -> None:
    began = time.monotonic()
    async with _stopping(pki, b"", warm=True) as (_, caller):
        assert await caller.closed()
        assert time.monotonic() - began < 0.9


@on_uvloop
async def test_who_is_in_the_middle_of_the_handshake_is_let_in(pki: PKI) -> None:
    async with (
        backend(answering(answer()), pki.server_context("backend")) as behind,
        proxy(pki, [apiservice(behind.port, pki.ca.pem)]) as front,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        while not front.door.arriving:
            await asyncio.sleep(0.01)
        stopping = asyncio.get_running_loop().create_task(front.stop(5.0))
        await asyncio.sleep(0.1)
        assert not stopping.done()
        await writer.start_tls(pki.client_context(), server_hostname="localhost")
        caller = Client(reader, writer)
        found = await caller.get()
        assert (found.status, found.all("connection")) == (200, ["close"])
        await stopping
        writer.transport.abort()


@on_uvloop
async def test_a_handshake_that_never_ends_holds_nobody_up(pki: PKI) -> None:
    async with proxy(pki) as front:
        _, writer = await asyncio.open_connection("127.0.0.1", front.port)
        while not front.door.arriving:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        await front.stop(10.0)
        assert time.monotonic() - began < 3
        writer.transport.abort()
