"""The server's HTTP/1.1 front against raw sockets: framing, refusals, and what clients do to it."""

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from apiserver import http1_connection, serving
from tests.unit.apiserver.conftest import PKI, Serve

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


def answers(status: int = 200, headers: list[tuple[bytes, bytes]] | None = None, *pieces: bytes) -> serving.ASGIApp:
    """An application that reads nothing and sends these pieces."""

    async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers or []})
        for number, piece in enumerate(pieces or (b"",), 1):
            await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})

    return app


async def echo(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
    """Answers with the target and the body."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    else:
        raise serving.AbortResponse
    text = b"%b|%b|%b|%b" % (scope["path"].encode(), scope["raw_path"], scope["query_string"], body)
    await answers(200, [], text)(scope, receive, send)


@asynccontextmanager
async def connected(server: serving.Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        async with asyncio.timeout(5):
            yield reader, writer
    finally:
        writer.transport.abort()


async def talk(server: serving.Server, data: bytes) -> bytes:
    """Everything the server says to these bytes until it closes the connection."""
    async with connected(server) as (reader, writer):
        writer.write(data)
        return await reader.read()


def closing(request: bytes) -> bytes:
    return request.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n", 1)


CLOSE = closing(GET)
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, id="no request"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", 400, id="TLS on a plain port"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2 without ALPN"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400, id="two hosts"),
        pytest.param(b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400, id="two hosts, 1.0"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, id="version 2.0"),
        pytest.param(b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505, id="version 0.9"),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n", 405, id="CONNECT"),
        pytest.param(b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="target beyond ASCII"),
        pytest.param(b"GET / HTTP/1.1\nHost: x\n\n", 400, id="bare line feeds"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400, id="folded line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400, id="space before colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", 400, id="NUL in a value"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400, id="bare CR in a value"),
        pytest.param(POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="CL and TE"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", 400, id="TE and CL"),
        pytest.param(POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na", 400, id="two lengths"),
        pytest.param(POST + b"Content-Length: 1, 1\r\n\r\na", 400, id="list of lengths"),
        pytest.param(POST + b"Content-Length: +1\r\n\r\na", 400, id="signed length"),
        pytest.param(POST + b"Content-Length: 0x1\r\n\r\na", 400, id="hexadecimal length"),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, id="coding before chunked"),
        pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, id="unknown coding"),
        pytest.param(CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", 400, id="TE in 1.0"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n", 400, id="TE twice"),
        pytest.param(CHUNKED + b"g\r\n", 400, id="bad chunk size"),
        pytest.param(CHUNKED + b"1\na\r\n0\r\n\r\n", 400, id="chunk size with bare LF"),
        pytest.param(CHUNKED + b"1 ;x\r\na\r\n0\r\n\r\n", 400, id="space after chunk size"),
        pytest.param(CHUNKED + b"1\r\nab\r\n0\r\n\r\n", 400, id="chunk longer than its size"),
        pytest.param(CHUNKED + b"ffffffffffffffffff\r\n", 400, id="chunk size overflows"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 1_100_000, 431, id="endless value"),
        pytest.param(CHUNKED + b"0\r\nA: " + b"a" * 1_600_000, 431, id="endless trailer"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: a\r\n" * 200_000, 431, id="endless fields"),
        pytest.param(b"GET /" + b"a" * 1_100_000, 431, id="endless target"),
    ],
)
async def test_refused(serve: Serve, data: bytes, code: int) -> None:
    server = await serve(echo)
    said = await talk(server, data)
    assert said.startswith(b"HTTP/1.1 %d " % code), said[:100]
    assert said.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in said


@pytest.mark.parametrize(
    ("data", "body"),
    [
        pytest.param(closing(POST + b"Content-Length: 3\r\n\r\nabc"), b"/|/||abc", id="fixed length"),
        pytest.param(
            closing(CHUNKED + b"1\r\na\r\n2;x=y\r\nbc\r\n0\r\nT: v\r\n\r\n"), b"/|/||abc", id="chunks, trailer"
        ),
        pytest.param(CLOSE.replace(b" / ", b" /a%2Fb%20c?d=%20 "), b"/a/b c|/a%2Fb%20c|d=%20|", id="escapes"),
        pytest.param(CLOSE.replace(b" / ", b" http://y/a?b "), b"/a|/a|b|", id="absolute target"),
        pytest.param(CLOSE.replace(b" / ", b" HTTPS://y?b "), b"/|/|b|", id="absolute target without path"),
        pytest.param(b"\r\n\r\n" + CLOSE, b"/|/||", id="empty lines before"),
        pytest.param(GET.replace(b"1.1", b"1.0"), b"/|/||", id="HTTP/1.0"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", b"/|/||", id="HTTP/1.0 without host"),
        pytest.param(CLOSE + b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n", b"/|/||", id="bytes after the last request"),
        pytest.param(
            GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n") * 3 + CLOSE,
            b"/|/||",
            id="offers of an upgrade",
        ),
    ],
)
async def test_answered(serve: Serve, data: bytes, body: bytes) -> None:
    said = await talk(await serve(echo), data)
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body))


async def test_any_split_of_the_bytes_means_the_same(serve: Serve) -> None:
    server = await serve(echo)
    data = GET + POST + b"Content-Length: 2\r\n\r\nab" + closing(CHUNKED + b"1\r\nc\r\n0\r\n\r\n")
    whole = [line for line in (await talk(server, data)).split(b"\r\n") if not line.startswith(b"date")]
    for cut in range(1, len(data), 7):
        async with connected(server) as (reader, writer):
            writer.write(data[:cut])
            await writer.drain()
            await asyncio.sleep(0.001)
            writer.write(data[cut:])
            said = [line for line in (await reader.read()).split(b"\r\n") if not line.startswith(b"date")]
            assert said == whole, cut


@pytest.mark.parametrize(
    ("request_bytes", "app", "framing", "body"),
    [
        pytest.param(CLOSE, answers(200, [], b"ab"), b"content-length: 2", b"ab", id="one piece"),
        pytest.param(CLOSE, answers(200, [], b"a", b"b"), b"transfer-encoding: chunked",
                     b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n", id="two pieces"),
        pytest.param(CLOSE, answers(200, [], b"a", b"", b"b"), b"transfer-encoding: chunked",
                     b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n", id="an empty piece ends nothing"),
        pytest.param(CLOSE, answers(200, [(b"Content-Length", b"2")], b"a", b"b"), b"content-length: 2", b"ab",
                     id="declared length"),
        pytest.param(CLOSE, answers(304, [(b"etag", b"x")]), b"", b"", id="304"),
        pytest.param(CLOSE, answers(204, [(b"content-length", b"0")], b"no"), b"", b"", id="204"),
        pytest.param(CLOSE.replace(b"GET", b"HEAD"), answers(200, [(b"content-length", b"2")], b"ab"),
                     b"content-length: 2", b"", id="HEAD"),
        pytest.param(CLOSE.replace(b"1.1", b"1.0"), answers(200, [], b"a", b"b"), b"", b"ab", id="stream to HTTP/1.0"),
    ],
)  # fmt: skip
async def test_framing(serve: Serve, request_bytes: bytes, app: serving.ASGIApp, framing: bytes, body: bytes) -> None:
    head, _, said = (await talk(await serve(app), request_bytes)).partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert [line for line in lines if line.startswith((b"content-length", b"transfer"))] == ([framing] * bool(framing))
    assert said == body
    assert sum(line.startswith(b"date: ") for line in lines) == 1


@pytest.mark.parametrize(
    "header",
    [
        pytest.param((b"a", b"b\r\nset-cookie: c"), id="line end in a value"),
        pytest.param((b"a", b"b\nc"), id="line feed in a value"),
        pytest.param((b"a", b"b\x00"), id="NUL in a value"),
        pytest.param((b"a: b\r\nc", b"d"), id="line end in a name"),
        pytest.param((b"a b", b"d"), id="space in a name"),
        pytest.param((b"", b"d"), id="empty name"),
        pytest.param((b"transfer-encoding", b"chunked"), id="own framing"),
        pytest.param((b"content-length", b"-1"), id="length is no number"),
    ],
)
async def test_a_head_that_would_be_two_is_500(serve: Serve, header: tuple[bytes, bytes]) -> None:
    said = await talk(await serve(answers(200, [header], b"x")), CLOSE)
    assert said.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in said


@pytest.mark.parametrize("pieces", [(b"a",), (b"abc",), (b"a", b"bc")], ids=["short", "long", "long in two"])
async def test_a_wrong_length_never_looks_whole(serve: Serve, pieces: tuple[bytes, ...]) -> None:
    head, _, body = (await talk(await serve(answers(200, [(b"content-length", b"2")], *pieces)), GET)).partition(
        b"\r\n\r\n"
    )
    assert b" 500 " in head or len(body) < 2


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
async def test_expect_continue(serve: Serve, reads: bool) -> None:
    server = await serve(echo if reads else answers(413, [], b"no"))
    async with connected(server) as (reader, writer):
        writer.write(POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if reads:
            assert head == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"ab")
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        else:
            assert head.startswith(b"HTTP/1.1 413 ")
            assert b"connection: close" in head


async def test_expect_continue_is_not_answered_when_the_body_is_there(serve: Serve) -> None:
    data = closing(POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\nab")
    assert (await talk(await serve(echo), data)).startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_nobody_reads_yet_is_held_back(serve: Serve) -> None:
    release = asyncio.Event()

    async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
        await release.wait()
        received, more = 0, True
        while more:
            message = await receive()
            received += len(message["body"])
            more = message["more_body"]
        await answers(200, [], b"%d" % received)(scope, receive, send)

    server = await serve(app)
    size = 64 * 1024 * 1024
    async with connected(server) as (reader, writer):
        writer.write(closing(POST + b"Content-Length: %d\r\n\r\n" % size))
        piece = b"x" * 1024 * 1024
        sent = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while sent < size:
                    writer.write(piece)
                    sent += len(piece)
                    await writer.drain()
        assert sent < size / 2  # what the sockets of both sides hold, and one read
        release.set()
        while sent < size:
            writer.write(piece)
            sent += len(piece)
            await writer.drain()
        assert (await reader.read()).endswith(b"\r\n\r\n%d" % size)


async def test_a_client_that_does_not_read_holds_the_application_back(serve: Serve) -> None:
    sent = 0

    async def flood(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent += 65536

    server = await serve(flood)
    async with connected(server) as (_, writer):
        writer.write(GET)
        await asyncio.sleep(0.2)
        held = sent
        await asyncio.sleep(0.1)
        assert 0 < sent == held < 32 * 1024 * 1024
    async with asyncio.timeout(2):
        while len(server.connections):
            await asyncio.sleep(0.01)


async def test_a_pipelined_request_waits_and_what_is_wrong_with_it_too(serve: Serve) -> None:
    said = await talk(await serve(echo), GET + POST + b"Content-Length: 1\r\n\r\na" + b"nonsense\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+) ", said) == [b"200", b"200", b"400"]


async def test_a_half_closed_client_gets_its_answer(serve: Serve) -> None:
    async def slow(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
        await asyncio.sleep(0.05)
        await answers(200, [], b"done")(scope, receive, send)

    server = await serve(slow)
    async with connected(server) as (reader, writer):
        writer.write(GET)
        writer.write_eof()
        assert (await reader.read()).endswith(b"done")


async def test_an_upload_that_breaks_off_disconnects_the_application(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
        while (message := await receive())["type"] == "http.request":
            seen.append(message["type"])
        seen.append(message["type"])
        raise serving.AbortResponse

    server = await serve(app)
    async with connected(server) as (_, writer):
        writer.write(POST + b"Content-Length: 5\r\n\r\nab")
        await writer.drain()
        await asyncio.sleep(0.05)
    async with asyncio.timeout(2):
        while len(server.connections):
            await asyncio.sleep(0.01)
    assert seen == ["http.request", "http.disconnect"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("begun", [b"", b"GET / HT", GET], ids=["silent", "within a head", "after an answer"])
async def test_an_idle_connection_is_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    server = await serve(answers(200, [], b"x"))
    server.connections._http1.idle_seconds = 0.1
    async with connected(server) as (reader, writer):
        writer.write(begun)
        said = await reader.read()
        assert said.count(b"HTTP/1.1") == (1 if begun == GET else 0)


async def test_a_busy_connection_is_not_idle(serve: Serve) -> None:
    async def slow(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
        await asyncio.sleep(0.3)
        await answers(200, [], b"done")(scope, receive, send)

    server = await serve(slow)
    server.connections._http1.idle_seconds = 0.1
    assert (await talk(server, CLOSE)).endswith(b"done")


async def test_stop_while_a_request_waits_to_begin(serve: Serve) -> None:
    server = await serve(answers(200, [], b"x"))
    async with connected(server) as (_, writer):
        writer.write(GET)
        await writer.drain()
        async with asyncio.timeout(2):
            await server.stop()
        assert len(server.connections) == 0


async def test_random_bytes_break_nothing(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    server = await serve(echo)
    for number in range(100):
        data = bytearray(GET + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + GET)
        for _ in range(3):
            data[os.urandom(1)[0] % len(data)] = os.urandom(1)[0]
        async with connected(server) as (reader, writer):
            writer.write(bytes(data) if number % 2 else os.urandom(300))
            writer.write_eof()
            said = await reader.read()
            assert said == b"" or said.startswith(b"HTTP/1.1 ")
    assert (await talk(server, CLOSE)).startswith(b"HTTP/1.1 200 ")
    assert capfd.readouterr().err == ""


async def test_tls_answers_a_refusal_and_closes(serve: Serve, pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1_connection, "_LINGER_SECONDS", 0.1)
    server = await serve(echo, tls_on=True)
    context = ssl.create_default_context(cafile=str(pki.ca_file))
    reader, writer = await asyncio.open_connection("localhost", server.port, ssl=context, family=2)
    async with asyncio.timeout(5):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        with contextlib.suppress(ConnectionError):
            await reader.read()
    writer.transport.abort()
