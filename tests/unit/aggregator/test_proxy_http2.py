"""HTTP/2 clients: the same decisions, streaming both ways. The client is the h2 library on a raw TLS connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import pytest

from aggregator.proxy.server import Proxy
from tests.unit.aggregator.h2_kit import Http2Client, stack
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Handler,
    answer,
    answering,
    apiservice,
    backend,
    fields_of,
    lines_of,
    on_uvloop,
    proxy,
    read_head,
    read_until_broken,
)


@on_uvloop
async def test_forwards_a_get_with_identity(pki: PKI) -> None:
    seen: list[bytes] = []
    async with stack(pki, answering(answer(b"hello", "X-A: 1"), seen)) as (served, front, caller):
        for _ in range(3):
            stream = caller.start("GET", "/apis/test/v1/things?a=1", ("x-remote-user", "evil"), ("x-b", "2"))
            head = await caller.head(stream)
            assert (head[":status"], head["x-a"], head["content-length"]) == ("200", "1", "5")
            assert await caller.body(stream) == b"hello"
        assert served.connections == 1
        assert lines_of(seen[0])[0] == "GET /apis/test/v1/things?a=1 HTTP/1.1"
        assert fields_of(seen[0], "x-remote-user") == ["admin"]
        assert fields_of(seen[0], "x-b") == ["2"]
        assert fields_of(seen[0], "host") == [f"127.0.0.1:{served.port}"]
        while front.metrics.in_flight:
            await asyncio.sleep(0.01)
        assert front.metrics.route("v1.test").codes == {(b"GET", 200): 3}


@on_uvloop
async def test_streams_an_upload_and_a_watch(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        assert await reader.readexactly(8) == b"3\r\nabc\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n")
        assert await reader.readexactly(11) == b"1\r\nd\r\n0\r\n\r\n"
        writer.write(b"4\r\ntwo\n\r\n0\r\n\r\n")
        await read_until_broken(reader)

    async with stack(pki, handle) as (_, _, caller):
        stream = caller.start("POST", "/apis/test/v1/things", end=False)
        caller.data(stream, b"abc")
        await caller.until(h2.events.DataReceived, stream)
        assert caller.received(stream) == b"one\n"
        caller.data(stream, b"d", end=True)
        assert await caller.body(stream) == b"one\ntwo\n"


@on_uvloop
async def test_a_large_download(pki: PKI) -> None:
    size = 3_000_000
    async with stack(pki, answering(answer(b"x" * size))) as (_, _, caller):
        stream = caller.start("GET", "/apis/test/v1/things")
        assert await caller.body(stream) == b"x" * size


@on_uvloop
async def test_a_backend_that_dies_resets_the_stream(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)

    async with stack(pki, handle) as (_, _, caller):
        stream = caller.start("GET", "/apis/test/v1/things?watch=1")
        await caller.until(h2.events.StreamReset, stream)
        assert caller.received(stream) == b"one\n"
        other = caller.start("GET", "/apis/test/v1/..")
        assert (await caller.head(other))[":status"] == "400"


@on_uvloop
async def test_a_client_that_resets_closes_the_backend_connection(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await read_until_broken(reader)

    async with stack(pki, handle) as (served, front, caller):
        stream = caller.start("GET", "/apis/test/v1/things?watch=1")
        assert (await caller.head(stream))[":status"] == "200"
        caller.connection.reset_stream(stream)
        caller.flush()
        while served.closed == 0:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert front.metrics.in_flight == front.metrics.long_running == 0


@pytest.mark.parametrize(
    ("name", "path", "code"),
    [
        (None, "/apis/test/v1/things", "401"),
        ("front", "/apis/test/v1/things", "401"),
        ("client", "/apis/test/v1/%2e%2e", "400"),
        ("client", "/apis/test/v1?timeout=100ms", "503"),
        ("client", "/apis/test/v1/things?timeout=100ms", "504"),
    ],
)
@on_uvloop
async def test_refusals(pki: PKI, name: str | None, path: str, code: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_until_broken(reader)

    async with stack(pki, handle, name) as (_, _, caller):
        stream = caller.start("GET", path)
        assert (await caller.head(stream))[":status"] == code
        await caller.until(h2.events.StreamEnded, stream)


@on_uvloop
async def test_a_dead_backend_is_a_503(pki: PKI) -> None:
    async with proxy(pki, [apiservice(1, pki.ca.pem)]) as front:
        context = pki.client_context("client", ["h2"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", front.port, ssl=context, server_hostname="localhost"
        )
        caller = Http2Client(reader, writer)
        stream = caller.start("GET", "/apis/test/v1/things")
        assert (await caller.head(stream))[":status"] == "503"
        assert (await caller.body(stream)).startswith(b"error trying to reach service: dial tcp 127.0.0.1:1: connect: ")
        assert front.metrics.route("v1.test").connect_errors == 1
        writer.transport.abort()


@asynccontextmanager
async def two(
    pki: PKI, first: Handler, second: Handler, annotations: dict[str, str] | None = None
) -> AsyncIterator[tuple[Proxy, Http2Client, list[str]]]:
    """Two backends behind one name; what is reported as unreachable is collected."""
    async with (
        backend(first, pki.server_context("backend")) as one,
        backend(second, pki.server_context("backend")) as other,
    ):
        service = apiservice(one.port, pki.ca.pem)
        service["metadata"]["annotations"] = annotations or {}
        external = {
            "metadata": {"name": "svc", "namespace": "default"},
            "spec": {"host": "127.0.0.1", "hosts": [f"127.0.0.1:{other.port}"]},
        }
        async with proxy(pki, [service], externalnames=[external]) as front:
            reported: list[str] = []
            front.plane.on_unreachable = reported.append
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", front.port, ssl=pki.client_context("client", ["h2"]), server_hostname="localhost"
            )
            try:
                yield front, Http2Client(reader, writer), reported
            finally:
                writer.transport.abort()


async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)


DRAINING = answer(b"later", "Retry-After: 9", status="503 Service Unavailable")


@pytest.mark.parametrize("fault", [dies, answering(DRAINING)], ids=["dead", "draining"])
@on_uvloop
async def test_another_backend_stands_in(pki: PKI, fault: Handler) -> None:
    async with two(pki, fault, answering(answer(b"good"))) as (front, caller, reported):
        for _ in range(5):
            stream = caller.start("GET", "/apis/test/v1/things")
            assert (await caller.head(stream))[":status"] == "200"
            assert await caller.body(stream) == b"good"
        assert reported == []
        assert {state.retries for _, state in front.plane.pools.states()} == {1}


@on_uvloop
async def test_what_may_have_been_carried_out_is_not_repeated(pki: PKI) -> None:
    async with two(pki, dies, dies) as (_, caller, reported):
        stream = caller.start("POST", "/apis/test/v1/things", end=False)
        caller.data(stream, b"hi", end=True)
        assert (await caller.head(stream))[":status"] == "503"
        assert (await caller.body(stream)).startswith(b"error trying to reach service: ")
        assert reported == ["v1.test"]


@on_uvloop
async def test_too_many_requests_are_refused_at_once(pki: PKI) -> None:
    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_until_broken(reader)

    limits = {"aggregator.grafana.app/max-connections": "1", "aggregator.grafana.app/max-pending": "0"}
    async with two(pki, stuck, stuck, limits) as (front, caller, reported):
        caller.start("GET", "/apis/test/v1/things")
        refused = caller.start("GET", "/apis/test/v1/things")
        head = await caller.head(refused)
        assert (head[":status"], head["retry-after"]) == ("503", "1")
        assert {"audit-id", "cache-control", "content-type", "date"} < head.keys()
        again = await caller.head(caller.start("GET", "/apis/test/v1/things"))
        assert again["audit-id"] != head["audit-id"]
        assert await caller.body(refused) == b"too many requests: 1 in progress, 0 waiting\n"
        assert reported == []
        assert front.metrics.route("v1.test").connect_errors == 0


@on_uvloop
async def test_head_has_no_body(pki: PKI) -> None:
    async with stack(pki, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")) as (_, _, caller):
        stream = caller.start("HEAD", "/apis/test/v1/things")
        assert (await caller.head(stream))["content-length"] == "9"
        assert await caller.body(stream) == b""


@on_uvloop
async def test_stopping_does_not_wait_for_watches(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n")
        await read_until_broken(reader)

    async with stack(pki, handle) as (served, front, caller):
        stream = caller.start("GET", "/apis/test/v1/things?watch=1")
        await caller.until(h2.events.DataReceived, stream)
        stopping = asyncio.get_running_loop().create_task(front.stop(15.0))
        assert await read_until_broken(caller.reader) != b""
        caller.writer.transport.abort()
        await asyncio.wait_for(stopping, 5.0)
        assert served.closed == 1
