"""Requests that are too large or too slow, and clients that do not read; others are served meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import pytest

from aggregator.proxy.limits import Limits
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Handler,
    answer,
    answering,
    apiservice,
    backend,
    client,
    on_uvloop,
    proxy,
    read_head,
    read_until_broken,
    request,
)

THINGS = "/apis/test/v1/things"
SMALL = Limits(head_fields=8, target_bytes=100, body_bytes=10, sweep_seconds=0.05)
SLOW = Limits(body_rate=100, body_window_seconds=0.2, write_seconds=0.3, sweep_seconds=0.05)


def _fields(count: int, *more: str) -> list[str]:
    return [*more, *(f"X-{number}: 1" for number in range(count - 1 - len(more)))]


def _target(length: int) -> str:
    return THINGS + "?" + "a" * (length - len(THINGS) - 1)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        pytest.param(request("GET", THINGS, *_fields(8)), 200, id="fields, plain"),
        pytest.param(request("GET", THINGS, *_fields(9)), 431, id="one field too many, plain"),
        pytest.param(request("GET", THINGS, *_fields(8, "TE: trailers")), 200, id="fields, parser"),
        pytest.param(request("GET", THINGS, *_fields(9, "TE: trailers")), 431, id="one field too many, parser"),
        pytest.param(request("GET", _target(100)), 200, id="target, plain"),
        pytest.param(request("GET", _target(101)), 414, id="target too long, plain"),
        pytest.param(request("GET", _target(100), "TE: trailers"), 200, id="target, parser"),
        pytest.param(request("GET", _target(101), "TE: trailers"), 414, id="target too long, parser"),
        pytest.param(request("POST", THINGS, "Content-Length: 11", body=b"x" * 11), 413, id="length"),
        pytest.param(
            request("POST", THINGS, "Transfer-Encoding: chunked", body=b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n"),
            413,
            id="chunked",
        ),
        pytest.param(
            request("POST", THINGS, "Transfer-Encoding: chunked", body=b"6\r\nxxxxxx\r\n6\r\nxxxxxx\r\n"),
            413,
            id="chunks",
        ),
    ],
)
@on_uvloop
async def test_what_is_too_large(pki: PKI, raw: bytes, code: int) -> None:
    async with (
        backend(answering(answer()), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=SMALL) as front,
        client(pki, front) as caller,
        client(pki, front) as other,
    ):
        await caller.send(raw)
        found = await caller.response()
        assert found.status == code
        assert found.all("connection") == ([] if code == 200 else ["close"])
        if code == 413:
            status = orjson.loads(found.body)
            assert status["message"] == "Request entity too large: limit is 10"
            assert status["reason"] == "RequestEntityTooLarge"
        if code != 200:
            assert await caller.closed()
        assert (await other.get()).status == 200


def _echo() -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            if b"POST" in head:
                await reader.readexactly(60)
            writer.write(answer())

    return handle


@on_uvloop
async def test_a_body_that_trickles_is_408_and_nobody_else_waits(pki: PKI) -> None:
    async with (
        backend(_echo(), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=SLOW) as front,
        client(pki, front) as slow,
        client(pki, front) as other,
    ):
        await slow.send(request("POST", THINGS, "Content-Length: 60", body=b"x"))
        trickle = asyncio.create_task(_trickle(slow.send))
        assert (await other.get()).status == 200
        found = await slow.response("POST")
        trickle.cancel()
        assert (found.status, found.all("connection")) == (408, ["close"])
        assert (await other.get()).status == 200


async def _trickle(send: Callable[[bytes], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(0.05)
        await send(b"x")


@on_uvloop
async def test_a_body_at_a_decent_pace_is_served_and_its_answer_has_time(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(100)
        await asyncio.sleep(0.5)
        writer.write(answer())

    async with (
        backend(handle, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=SLOW) as front,
        client(pki, front) as caller,
    ):
        await caller.send(request("POST", THINGS, "Content-Length: 100"))
        for _ in range(10):
            await asyncio.sleep(0.03)
            await caller.send(b"x" * 10)
        assert (await caller.response("POST")).status == 200


@pytest.mark.parametrize(("path", "broken"), [(THINGS, True), (THINGS + "?watch=true", False)])
@on_uvloop
async def test_a_response_that_is_not_read(pki: PKI, path: str, broken: bool) -> None:
    size = 32 * 1024 * 1024

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            large = b"large" in head or b"watch" in head
            writer.write(answer(b"x" * size if large else b"ok"))
            await writer.drain()

    async with (
        backend(handle, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=SLOW) as front,
        client(pki, front) as lazy,
        client(pki, front) as other,
    ):
        await lazy.send(request("GET", path, "X-Size: large"))
        while not front.plane.unread:
            await asyncio.sleep(0.01)
        for _ in range(10):
            assert (await other.get()).status == 200
            await asyncio.sleep(0.06)
        assert len(front.plane.connections) == (1 if broken else 2)
        if broken:
            assert len(await read_until_broken(lazy.reader)) < size
