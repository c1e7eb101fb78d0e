"""Deadlines, idle connections, upgrades, shutdown and metrics, with real sockets."""

import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from aggregator.proxy.limits import Limits
from aggregator.proxy.routes import RouteTable
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    answering,
    apiservice,
    backend,
    client,
    externalname,
    fields_of,
    lines_of,
    on_uvloop,
    proxy,
    read_head,
    read_until_broken,
    request,
)

FAST = Limits(sweep_seconds=0.05, head_seconds=0.2, idle_seconds=0.3, linger_seconds=0.2)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads everything, says nothing."""
    await read_until_broken(reader)


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("/apis/test/v1?timeout=200ms", 503, b"error trying to reach service: context deadline exceeded\n"),
        ("/apis/test/v1/things?timeout=200ms", 504, b"request did not complete within the allotted timeout"),
    ],
)
@on_uvloop
async def test_a_silent_backend_ends_at_the_deadline(pki: PKI, path: str, code: int, text: bytes) -> None:
    async with (
        backend(silent, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=FAST) as front,
        client(pki, front) as caller,
    ):
        started = time.monotonic()
        found = await caller.get(path)
        assert 0.2 <= time.monotonic() - started < 1.5
        assert found.status == code
        assert text in found.body
        while served.closed == 0:
            await asyncio.sleep(0.01)
        assert front.metrics.in_flight == 0


@on_uvloop
async def test_a_response_that_stalls_is_broken_off_at_the_deadline(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await read_until_broken(reader)

    async with (
        backend(handle, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=FAST) as front,
        client(pki, front) as caller,
    ):
        await caller.send(request("GET", "/apis/test/v1/things?timeout=200ms"))
        assert (await read_until_broken(caller.reader)).endswith(b"half")


@on_uvloop
async def test_a_watch_outlives_every_deadline(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(0.6)
        writer.write(b"3\r\nabc\r\n0\r\n\r\n")
        await read_until_broken(reader)

    async with (
        backend(handle, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=FAST) as front,
        client(pki, front) as caller,
    ):
        assert (await caller.get("/apis/test/v1/things?watch=1&timeout=100ms")).body == b"abc"


@on_uvloop
async def test_idle_and_slow_clients_are_closed(pki: PKI) -> None:
    async with proxy(pki, limits=FAST) as front:
        async with client(pki, front) as caller:
            assert await caller.closed()
        async with client(pki, front) as caller:
            await caller.send(b"GET /healthz HTTP/1.1\r\nHo")
            assert (await caller.response()).status == 408
            assert await caller.closed()
        while front.metrics.downstream_connections():
            await asyncio.sleep(0.01)


@on_uvloop
async def test_a_client_that_keeps_its_body_to_itself_is_closed(pki: PKI) -> None:
    async with proxy(pki, limits=FAST) as front, client(pki, front, None) as caller:
        await caller.send(request("POST", "/apis/test/v1/things", "Content-Length: 100"))
        assert (await caller.response("POST")).status == 401
        assert await caller.closed()


@on_uvloop
async def test_idle_upstream_connections_are_closed(pki: PKI) -> None:
    async with (
        backend(answering(answer()), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=FAST) as front,
        client(pki, front) as caller,
    ):
        assert (await caller.get()).status == 200
        assert front.plane.pools.connection_count() == 1
        while served.closed == 0:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert front.plane.pools.connection_count() == 0


@on_uvloop
async def test_a_changed_backend_gets_new_connections_and_the_old_ones_finish(pki: PKI) -> None:
    go_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await go_on.wait()
        writer.write(answer(b"old"))
        await read_until_broken(reader)

    async with (
        backend(slow, pki.server_context("backend")) as old,
        backend(answering(answer(b"new")), pki.server_context("backend")) as new,
        proxy(pki, [apiservice(old.port, pki.ca.pem)]) as front,
        client(pki, front) as first,
        client(pki, front) as second,
    ):
        await first.send(request("GET", "/apis/test/v1/things"))
        while old.connections == 0:
            await asyncio.sleep(0.01)
        table = RouteTable.build([apiservice(new.port, pki.ca.pem)], [externalname()], front.plane.table)
        front.plane.install(table)
        assert (await second.get()).body == b"new"
        go_on.set()
        assert (await first.response()).body == b"old"
        while old.closed == 0:
            await asyncio.sleep(0.01)
        assert (await first.get()).body == b"new"


_UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x")


async def echo_upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await read_head(reader)
    assert fields_of(head, "x-remote-user") == ["admin"]
    assert fields_of(head, "x-forwarded-proto") == []
    assert fields_of(head, "authorization") == []
    protocol = fields_of(head, "upgrade")[0]
    assert fields_of(head, "connection") == ["Upgrade"]
    fields = f"Connection: Upgrade\r\nUpgrade: {protocol}\r\nSec-A: b\r\n\r\n"
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{fields}hello".encode())
    while data := await reader.read(65536):
        writer.write(data[::-1])
        if b"bye" in data:
            await writer.drain()
            return


@pytest.mark.parametrize("protocol", ["websocket", "SPDY/3.1"])
@on_uvloop
async def test_an_upgrade_is_spliced(pki: PKI, protocol: str) -> None:
    async with (
        backend(echo_upgrade, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        await caller.send(
            request("GET", "/apis/test/v1/x", "Connection: Upgrade", f"Upgrade: {protocol}", "Authorization: t")
        )
        head = await read_head(caller.reader)
        assert lines_of(head)[0] == "HTTP/1.1 101 Switching Protocols"
        assert (fields_of(head, "upgrade"), fields_of(head, "sec-a")) == ([protocol], ["b"])
        assert await caller.reader.readexactly(5) == b"hello"
        for data in (b"abc", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256))):
            await caller.send(data)
            assert await caller.reader.readexactly(len(data)) == data[::-1]
        await caller.send(b"bye")
        assert await caller.reader.readexactly(3) == b"eyb"
        assert await caller.closed()
        assert front.metrics.route("v1.test").codes == {(b"GET", 101): 1}


@on_uvloop
async def test_bytes_sent_before_the_switch_arrive_after_it(pki: PKI) -> None:
    async with (
        backend(echo_upgrade, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        await caller.send(request("GET", "/apis/test/v1/x", *_UPGRADE) + b"early")
        await read_head(caller.reader)
        assert await caller.reader.readexactly(10) == b"helloylrae"
        caller.close()
        while served.closed == 0:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("response", "code", "body"),
    [
        (answer(b"no", status="403 Forbidden"), 403, b"no"),
        (answer(b"ok"), 503, b"invalid upgrade response: status code 200\n"),
    ],
)
@on_uvloop
async def test_a_refused_upgrade(pki: PKI, response: bytes, code: int, body: bytes) -> None:
    async with (
        backend(answering(response), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        await caller.send(request("GET", "/apis/test/v1/x", *_UPGRADE) + b"GET /apis/test/v1/secret HTTP/1.1\r\n\r\n")
        found = await caller.response()
        assert (found.status, found.body) == (code, body)
        assert await caller.closed()
        assert served.connections == 1


@on_uvloop
async def test_an_upgrade_to_a_dead_backend(pki: PKI) -> None:
    async with proxy(pki, [apiservice(1, pki.ca.pem)]) as front, client(pki, front) as caller:
        await caller.send(request("GET", "/apis/test/v1/x", *_UPGRADE))
        found = await caller.response()
        assert found.status == 503
        assert found.body.startswith(b"error dialing backend: dial tcp 127.0.0.1:1: connect: connection refused")


@on_uvloop
async def test_an_unknown_upgrade_is_served_as_a_plain_request(pki: PKI) -> None:
    seen: list[bytes] = []
    async with (
        backend(answering(answer(), seen), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        h2c = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
        await caller.send(request("GET", "/apis/test/v1/a", *h2c) + request("GET", "/apis/test/v1/b"))
        assert (await caller.response()).status == 200
        assert (await caller.response()).status == 200
        assert [lines_of(head)[0].split()[1] for head in seen] == ["/apis/test/v1/a", "/apis/test/v1/b"]
        assert fields_of(seen[0], "upgrade") == fields_of(seen[0], "http2-settings") == []


@on_uvloop
async def test_stopping_finishes_what_is_in_flight(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if b"watch" in lines_of(head)[0].encode():
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n")
            await read_until_broken(reader)
        await asyncio.sleep(0.3)
        writer.write(answer(b"done"))
        await read_until_broken(reader)

    async with (
        backend(handle, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as working,
        client(pki, front) as watching,
        client(pki, front) as idle,
    ):
        await working.send(request("GET", "/apis/test/v1/things"))
        await watching.send(request("GET", "/apis/test/v1/things?watch=1"))
        await read_head(watching.reader)
        await watching.reader.readexactly(len(b"4\r\none\n\r\n"))
        await idle.get("/livez")
        started = time.monotonic()
        stopping = asyncio.get_running_loop().create_task(front.stop(5.0))
        assert await idle.closed()
        assert await watching.reader.read() == b"0\r\n\r\n"
        found = await working.response()
        assert (found.body, found.all("connection")) == (b"done", ["close"])
        await stopping
        assert time.monotonic() - started < 2
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", front.port)


@pytest.mark.parametrize("path", ["/apis/test/v1/things", "/apis/other/v1/things"], ids=["forwarded", "own answer"])
@on_uvloop
async def test_an_announced_end_serves_on_and_asks_clients_to_leave(pki: PKI, path: str) -> None:
    async with (
        backend(answering(answer(b"ok")), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        assert (await caller.get(path)).all("connection") == []
        front.announce_end()
        assert (await caller.get(path)).all("connection") == ["close"]
        assert await caller.closed()
        async with client(pki, front) as later:
            assert (await later.get(path)).all("connection") == ["close"]


@on_uvloop
async def test_stopping_breaks_off_what_does_not_finish(pki: PKI) -> None:
    async with (
        backend(silent, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        await caller.send(request("GET", "/apis/test/v1/things"))
        while served.connections == 0:
            await asyncio.sleep(0.01)
        await front.stop(0.2)
        assert await read_until_broken(caller.reader) == b""


@on_uvloop
async def test_metrics_of_requests(pki: PKI) -> None:
    registry = CollectorRegistry()
    async with (
        backend(answering(answer()), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        registry.register(front.metrics)
        assert (await caller.get()).status == 200
        assert (await caller.get()).status == 200
        text = generate_latest(registry).decode()
    assert 'aggregator_proxy_requests_total{apiservice="v1.test",code="200",method="GET"} 2.0' in text
    assert 'aggregator_proxy_request_duration_seconds_count{apiservice="v1.test"} 2.0' in text
    assert 'aggregator_proxy_in_flight_requests{kind="normal"} 0.0' in text
    assert 'aggregator_proxy_connections{side="downstream"} 1.0' in text
    assert 'aggregator_proxy_upstream_connect_errors_total{apiservice="v1.test"} 0.0' in text
