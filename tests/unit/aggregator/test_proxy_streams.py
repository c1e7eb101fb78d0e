"""The HTTP/1.1 path with real sockets and TLS on both sides, on uvloop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from aggregator.proxy.server import Proxy
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Backend,
    Client,
    Handler,
    answer,
    answering,
    apiservice,
    backend,
    client,
    fields_of,
    lines_of,
    on_uvloop,
    proxy,
    read_head,
    read_until_broken,
    request,
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return PKI.make(tmp_path_factory.mktemp("pki"))


@asynccontextmanager
async def stack(pki: PKI, handler: Handler) -> AsyncIterator[tuple[Backend, Proxy, Client]]:
    async with (
        backend(handler, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        yield served, front, caller


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


async def _read_chunked(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """(body, trailer lines) of a chunked message."""
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    trailers = b""
    while (line := await reader.readline()) != b"\r\n":
        trailers += line
    return body, trailers


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
            seen.append(await _read_chunked(reader))
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


@on_uvloop
async def test_pipelined_requests_are_answered_in_order(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            path = lines_of(head)[0].split()[1]
            length = fields_of(head, "content-length")
            body = await reader.readexactly(int(length[0])) if length else b""
            await asyncio.sleep(0.03 if path.endswith("1") else 0)
            writer.write(answer(path.encode() + body))

    async with stack(pki, handle) as (served, _, caller):
        await caller.send(
            request("GET", "/apis/test/v1/1")
            + request("POST", "/apis/test/v1/2", "Content-Length: 3", body=b"abc")
            + request("GET", "/healthz")
            + request("GET", "/apis/test/v1/../x")
        )
        assert (await caller.response()).body == b"/apis/test/v1/1"
        assert (await caller.response()).body == b"/apis/test/v1/2abc"
        assert (await caller.response()).status == 503
        assert (await caller.response()).status == 400
        assert await caller.closed()
        assert served.connections == 1


@on_uvloop
async def test_a_pipelined_body_that_arrives_late(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            length = fields_of(head, "content-length")
            body = await reader.readexactly(int(length[0])) if length else b"none"
            await asyncio.sleep(0.05)
            writer.write(answer(body))

    async with stack(pki, handle) as (_, _, caller):
        await caller.send(
            request("GET", "/apis/test/v1/1") + request("POST", "/apis/test/v1/2", "Content-Length: 6", body=b"abc")
        )
        assert (await caller.response()).body == b"none"
        await caller.send(b"def" + request("GET", "/apis/test/v1/3"))
        assert (await caller.response()).body == b"abcdef"
        assert (await caller.response()).body == b"none"


@on_uvloop
async def test_head_and_bodyless_statuses_keep_the_connection(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            first = lines_of(head)[0]
            if first.startswith("HEAD"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
            elif "204" in first:
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            elif "304" in first:
                writer.write(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: x\r\n\r\n")
            else:
                writer.write(answer(b"body"))

    async with stack(pki, handle) as (served, _, caller):
        await caller.send(request("HEAD", "/apis/test/v1/a"))
        found = await caller.response("HEAD")
        assert (found.status, found.all("content-length"), found.body) == (200, ["1234"], b"")
        assert (await caller.get("/apis/test/v1/204")).status == 204
        assert (await caller.get("/apis/test/v1/304")).all("etag") == ["x"]
        assert (await caller.get("/apis/test/v1/a")).body == b"body"
        assert served.connections == 1


@on_uvloop
async def test_expect_continue_and_other_informational_responses_pass(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            assert fields_of(head, "expect") == ["100-continue"]
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(3)
            writer.write(answer(body))

    async with stack(pki, handle) as (_, _, caller):
        for _ in range(2):
            await caller.send(request("POST", "/apis/test/v1/a", "Content-Length: 3", "Expect: 100-continue"))
            assert lines_of(await read_head(caller.reader)) == ["HTTP/1.1 103 Early Hints", "Link: </x>"]
            assert lines_of(await read_head(caller.reader)) == ["HTTP/1.1 100 Continue"]
            await caller.send(b"abc")
            assert (await caller.response("POST")).body == b"abc"


@on_uvloop
async def test_a_refused_upload_is_answered_before_its_body(pki: PKI) -> None:
    async with stack(pki, answering(answer())) as (served, front, _), client(pki, front, None) as caller:
        await caller.send(request("POST", "/apis/test/v1/a", "Content-Length: 300", "Expect: 100-continue"))
        found = await caller.response("POST")
        assert (found.status, found.all("connection")) == (401, ["close"])
        await caller.send(b"x" * 300)
        assert await caller.closed()
        assert served.connections == 0


@on_uvloop
async def test_an_early_answer_ends_the_upload_and_keeps_the_client(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if b"POST" in head:
            writer.write(answer(b"too large", status="413 Request Entity Too Large"))
            await asyncio.sleep(0.2)
        else:
            writer.write(answer(b"fine"))
            await asyncio.sleep(3600)

    async with stack(pki, handle) as (_, _, caller):
        await caller.send(request("POST", "/apis/test/v1/a", "Content-Length: 100000"))
        assert (await caller.response("POST")).status == 413
        await caller.send(b"x" * 100000)
        assert (await caller.get()).body == b"fine"


@on_uvloop
async def test_a_response_until_close_becomes_chunked(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nabc")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with stack(pki, handle) as (_, _, caller):
        for _ in range(2):
            found = await caller.get()
            assert (found.body, found.all("transfer-encoding")) == (b"abc", ["chunked"])


@on_uvloop
async def test_an_http_1_0_client_gets_no_chunks(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        await asyncio.sleep(3600)

    async with stack(pki, handle) as (_, _, caller):
        await caller.send(b"GET /apis/test/v1/a HTTP/1.0\r\n\r\n")
        head = await read_head(caller.reader)
        assert lines_of(head)[0] == "HTTP/1.1 200 OK"
        assert (fields_of(head, "transfer-encoding"), fields_of(head, "connection")) == ([], ["close"])
        assert await caller.reader.read(-1) == b"abcde"


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


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"garbage\r\n\r\n", id="garbage"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", id="two lengths"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="length and chunked",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="gzip coding"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A: 1\n\r\n\r\n", id="bare LF"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", id="unasked 101"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\n\r\n", id="NUL"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 2_000_000, id="endless head"),
    ],
)
@on_uvloop
async def test_a_malformed_response_is_a_503(pki: PKI, response: bytes) -> None:
    async with stack(pki, answering(response)) as (_, _, caller):
        found = await caller.get()
        assert found.status == 503
        assert found.body.startswith(b"error trying to reach service: ")


@on_uvloop
async def test_unasked_bytes_behind_a_response_cost_the_connection_not_the_response(pki: PKI) -> None:
    async with stack(pki, answering(answer(b"one") + answer(b"two"))) as (served, _, caller):
        assert (await caller.get()).body == b"one"
        await asyncio.sleep(0.05)
        assert (await caller.get()).body == b"one"
        assert served.connections == 2


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
async def test_a_malformed_chunk_in_an_upload_ends_it_without_reaching_the_backend_complete(pki: PKI) -> None:
    ended: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        ended.append(await read_until_broken(reader))

    async with stack(pki, handle) as (_, _, caller):
        await caller.send(request("POST", "/apis/test/v1/a", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n"))
        await asyncio.sleep(0.05)
        await caller.send(b"zz\r\nabc\r\n")
        found = await caller.response("POST")
        assert (found.status, found.all("connection")) == (400, ["close"])
        assert await caller.closed()
        while not ended:
            await asyncio.sleep(0.01)
        assert ended == [b"3\r\nabc\r\n"]


@on_uvloop
async def test_a_request_in_small_pieces(pki: PKI) -> None:
    seen: list[bytes] = []
    async with stack(pki, answering(answer(), seen)) as (_, _, caller):
        for byte in request("GET", "/apis/test/v1/things", "X-Slow: yes"):
            await caller.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await caller.response()).status == 200
        assert lines_of(seen[0])[0] == "GET /apis/test/v1/things HTTP/1.1"
        assert fields_of(seen[0], "x-slow") == ["yes"]


@on_uvloop
async def test_connection_close_of_either_side_is_honoured(pki: PKI) -> None:
    async with stack(pki, answering(answer(b"x", "Connection: close"))) as (served, _, caller):
        found = await caller.get()
        assert (found.status, found.all("connection")) == (200, [])
        assert (await caller.get("/apis/test/v1/b", "Connection: close")).all("connection") == ["close"]
        assert await caller.closed()
        assert served.connections == 2


@on_uvloop
async def test_a_redirect_is_refused_and_a_created_location_becomes_relative(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            host = fields_of(head, "host")[0]
            status = "302 Found" if b"redirect" in head else "201 Created"
            writer.write(answer(b"x", f"Location: https://{host}/apis/test/v1/things/a", status=status))

    async with stack(pki, handle) as (_, _, caller):
        found = await caller.get("/apis/test/v1/redirect")
        assert found.status == 502
        assert found.body == b"the backend attempted to redirect this request, which is not permitted\n"
        assert (await caller.get()).all("location") == ["/apis/test/v1/things/a"]
