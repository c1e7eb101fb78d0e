"""What a message is and where it ends: pipelining, 1xx, early answers, HTTP/1.0, faults of framing."""

import asyncio

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
from tests.unit.aggregator.streams_kit import stack


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
