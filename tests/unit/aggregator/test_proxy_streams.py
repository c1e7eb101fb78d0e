"""HTTP/1.1 bodies both ways, with real sockets and TLS on both sides, on uvloop."""

import asyncio
from typing import cast

import pytest

from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    answering,
    client,
    fields_of,
    lines_of,
    on_uvloop,
    read_head,
    read_until_broken,
    request,
)
from tests.unit.aggregator.streams_kit import read_chunked, stack


@on_uvloop
async def test_forwards_a_get(pki: PKI) -> None:
    seen: list[bytes] = []
    async with stack(pki, answering(answer(b"hello", "X-A: 1"), seen)) as (served, _, caller):
        for _ in range(3):
            found = await caller.get("/apis/test/v1/things?a=1", "X-B: 2")
            assert (found.status, found.body, found.all("x-a")) == (200, b"hello", ["1"])
        assert served.connections == 1
        head = seen[0]
        assert lines_of(head)[0] == "GET /apis/test/v1/things?a=1 HTTP/1.1"
        assert fields_of(head, "host") == [f"127.0.0.1:{served.port}"]
        assert fields_of(head, "x-remote-user") == ["admin"]
        assert fields_of(head, "x-remote-group") == ["system:masters", "system:authenticated"]
        assert fields_of(head, "x-forwarded-uri") == ["/apis/test/v1/things"]
        assert fields_of(head, "x-forwarded-for") == ["127.0.0.1"]
        assert fields_of(head, "x-b") == ["2"]
        assert [len(audit_id) for audit_id in fields_of(head, "audit-id")] == [36]


@on_uvloop
async def test_streams_a_watch_chunk_by_chunk(pki: PKI) -> None:
    more = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await more.wait()
        writer.write(b"4\r\none\n\r\n")
        await reader.read()

    async with stack(pki, handle) as (served, front, caller):
        await caller.send(request("GET", "/apis/test/v1/things?watch=true"))
        head = await read_head(caller.reader)
        assert fields_of(head, "transfer-encoding") == ["chunked"]
        assert front.metrics.long_running == 1
        more.set()
        assert await caller.reader.readexactly(9) == b"4\r\none\n\r\n"
        caller.close()
        while served.closed == 0:
            await asyncio.sleep(0.01)
        assert front.metrics.in_flight == front.metrics.long_running == 0


@on_uvloop
async def test_a_backend_that_dies_in_the_middle_breaks_the_response_off(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if b"chunked" in head.split(b"\r\n")[0]:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(0.05)

    async with stack(pki, handle) as (_, front, caller):
        async with client(pki, front) as other:
            await other.send(request("GET", "/apis/test/v1/chunked"))
            got = await read_until_broken(other.reader)
            assert got.endswith(b"4\r\none\n\r\n")
        await caller.send(request("GET", "/apis/test/v1/things"))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await caller.reader.readexactly(4096)


@on_uvloop
async def test_forwards_a_fixed_body(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            body = await reader.readexactly(int(fields_of(head, "content-length")[0]))
            writer.write(answer(body[::-1]))

    async with stack(pki, handle) as (_, _, caller):
        for _ in range(2):
            await caller.send(request("POST", "/apis/test/v1/things", "Content-Length: 5", body=b"ab"))
            await asyncio.sleep(0.02)
            await caller.send(b"cde")
            assert (await caller.response("POST")).body == b"edcba"


@on_uvloop
async def test_forwards_a_chunked_body_with_trailers(pki: PKI) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            assert fields_of(head, "content-length") == []
            seen.append(await read_chunked(reader))
            writer.write(
                b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\nok\r\n0\r\nX-Sum: 7\r\nContent-Type: x\r\n\r\n"
            )

    async with stack(pki, handle) as (_, _, caller):
        for _ in range(2):
            await caller.send(
                request("PUT", "/apis/test/v1/things/a", "Transfer-Encoding: chunked")
                + b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Check: 1\r\nX-Remote-User: evil\r\nAuthorization: x\r\n\r\n"
            )
            found = await caller.response("PUT")
            assert (found.body, found.trailers) == (b"ok", [("x-sum", "7")])
        assert seen == [(b"abcde", b"X-Check: 1\r\n")] * 2


@on_uvloop
async def test_large_bodies_both_ways_under_backpressure(pki: PKI) -> None:
    size = 8 * 1024 * 1024

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        left = int(fields_of(head, "content-length")[0])
        while left:
            left -= len(await reader.read(min(left, 65536)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for position in range(0, size, 65536):
            writer.write(bytes([position // 65536 % 251]) * 65536)
            await writer.drain()
        await asyncio.sleep(3600)

    async with stack(pki, handle) as (_, _, caller):
        await caller.send(request("POST", "/apis/test/v1/things", f"Content-Length: {size}"))
        for _ in range(size // 65536):
            await caller.send(b"x" * 65536)
        found = await caller.response("POST")
        assert len(found.body) == size
        assert all(found.body[at] == at // 65536 % 251 for at in range(0, size, 65536))


@on_uvloop
async def test_a_slow_client_stops_the_reading_from_the_backend(pki: PKI) -> None:
    sent = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536

    async with stack(pki, handle) as (_, _, caller):
        transport = cast(asyncio.Transport, caller.writer.transport)
        transport.pause_reading()
        caller.writer.write(request("GET", "/apis/test/v1/things?watch=1"))
        await asyncio.sleep(0.5)
        first = sent
        await asyncio.sleep(0.3)
        assert sent == first < 64 * 1024 * 1024
        transport.resume_reading()
        while sent < first + 4 * 1024 * 1024:
            await caller.reader.read(1 << 20)


@on_uvloop
async def test_a_slow_backend_stops_the_reading_from_the_client(pki: PKI) -> None:
    go_on = asyncio.Event()
    received = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await read_head(reader)
        await go_on.wait()
        while received < 32 * 1024 * 1024:
            received += len(await reader.read(1 << 20))
        writer.write(answer(b"done"))
        await asyncio.sleep(3600)

    async with stack(pki, handle) as (_, _, caller):
        size = 32 * 1024 * 1024
        await caller.send(request("POST", "/apis/test/v1/things", f"Content-Length: {size}"))
        sent = 0

        async def fill() -> None:
            nonlocal sent
            while sent < size:
                caller.writer.write(b"x" * 65536)
                sent += 65536
                await caller.writer.drain()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fill(), 0.7)
        assert sent < size // 2
        go_on.set()
        caller.writer.write(b"x" * (size - sent))
        assert (await caller.response("POST")).body == b"done"
        assert received == size
