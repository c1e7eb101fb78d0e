import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from apiserver import http1
from tests.unit.apiserver.conftest import PKI

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(answer: bytes | Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[http1.Target]:
    """Answers each connection's first request head with bytes, or hands head and writer over; then closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(head, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield http1.Target(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await asyncio.sleep(0)


async def get(target: http1.Target, method: str = "GET", *, max_body: int = 1000, timeout: float = 2) -> http1.Response:
    return await http1.request(target, method, "/x", timeout=timeout, max_body=max_body)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: 1\r\na: 2\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "answer", "status", "body"),
    [
        pytest.param("GET", OK, 200, b"hello", id="length"),
        pytest.param("GET", CHUNKED, 200, b"hello", id="chunked"),
        pytest.param("GET", b"HTTP/1.0 200 OK\r\n\r\nhello", 200, b"hello", id="until close"),
        pytest.param("GET", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK, 200, b"hello", id="informational first"),
        pytest.param("HEAD", OK[:-5], 200, b"", id="head"),
        pytest.param("GET", b"HTTP/1.1 204 No\r\n\r\n", 204, b"", id="no content"),
        pytest.param("GET", b"HTTP/1.1 302 F\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", 302, b"", id="redirect"),
    ],
)
async def test_answers(method: str, answer: bytes, status: int, body: bytes) -> None:
    async with raw_server(answer) as target:
        response = await get(target, method)
    assert (response.status, response.body) == (status, body)


async def test_repeated_headers_stay_apart() -> None:
    async with raw_server(OK) as target:
        response = await get(target)
    assert [value for name, value in response.headers if name == "a"] == ["1", "2"]
    assert (response.header("A"), response.header("content-LENGTH"), response.header("b", "-")) == ("1", "5", "-")


async def sent_head(method: str, headers: http1.Headers = (), body: bytes = b"") -> list[bytes]:
    seen = b""

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen = head
        writer.write(OK)

    async with raw_server(handle) as target:
        await http1.request(target, method, "/a?b=c%2F", headers, body, timeout=2, max_body=100)
        return [line.replace(str(target.port).encode(), b"PORT") for line in seen.split(b"\r\n")[:-2]]


async def test_request_has_only_the_necessary_headers() -> None:
    assert await sent_head("GET") == [b"GET /a?b=c%2F HTTP/1.1", b"Host: 127.0.0.1:PORT", b"Connection: close"]


async def test_given_headers_are_sent_as_they_are() -> None:
    lines = await sent_head("POST", [("X-Remote-Group", "a"), ("X-Remote-Group", "b"), ("Host", "h")], b"body")
    given = [b"Host: h", b"X-Remote-Group: a", b"X-Remote-Group: b"]
    assert lines[1:] == [*given, b"Content-Length: 4", b"Connection: close"]


async def test_empty_post_tells_its_length() -> None:
    assert b"Content-Length: 0" in await sent_head("POST")


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        (http1.Target(host="a", port=443, ssl=ssl.create_default_context()), "a"),
        (http1.Target(host="a", port=443), "a:443"),
        (http1.Target(host="a", port=80), "a"),
        (http1.Target(host="::1", port=8080), "[::1]:8080"),
        (http1.Target(unix_path=Path("/x")), "localhost"),
    ],
    ids=["https", "plain on 443", "http", "ipv6", "unix"],
)
def test_host_header(target: http1.Target, authority: str) -> None:
    assert target.authority == authority


@pytest.mark.parametrize("header", [("X", "a\r\nb: c"), ("bad name", "x"), ("X", "\u20ac")])
async def test_header_that_cannot_be_sent(header: tuple[str, str]) -> None:
    async with raw_server(OK) as target:
        with pytest.raises(http1.ProtocolError, match="cannot be sent"):
            await http1.request(target, "GET", "/", [header], timeout=2, max_body=10)


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        pytest.param(b"", http1.ProtocolError, "closed before the response", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConte", http1.ProtocolError, "closed before", id="half a head"),
        pytest.param(OK[:-2], http1.ProtocolError, "before the response was complete", id="half a body"),
        pytest.param(CHUNKED[:-5], http1.ProtocolError, "before the response was complete", id="no last chunk"),
        pytest.param(b"SSH-2.0-x\r\n\r\n", http1.ProtocolError, "illegal status line", id="other protocol"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nA: " + b"a" * 1_200_000, http1.ProtocolError, "Receive buffer", id="big head"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001,
            http1.ResponseTooLarge,
            "exceeds 1000 bytes",
            id="big body",
        ),
        pytest.param(b"HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n", http1.ProtocolError, "change of protocol", id="101"),
    ],
)
async def test_bad_answers(answer: bytes, error: type[Exception], text: str) -> None:
    async with raw_server(answer) as target:
        with pytest.raises(error, match=text):
            await get(target)


async def test_body_of_exactly_the_limit_is_accepted() -> None:
    async with raw_server(OK) as target:
        assert (await get(target, max_body=5)).body == b"hello"


@pytest.mark.parametrize("sent", [b"", OK[:-2]], ids=["no head", "slow body"])
async def test_deadline(sent: bytes) -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await asyncio.sleep(0.5)

    async with raw_server(handle) as target:
        with pytest.raises(http1.RequestTimeout, match=rf"127\.0\.0\.1:{target.port} within 0\.05s"):
            await get(target, timeout=0.05)


async def test_caller_that_is_cancelled_gets_its_cancellation() -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)

    async with raw_server(handle) as target:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await get(target, timeout=5)


class TestConnectErrors:
    async def test_refused(self, unused_tcp_port: int) -> None:
        with pytest.raises(http1.ConnectError, match=f"connect to 127.0.0.1:{unused_tcp_port}: connection refused"):
            await get(http1.Target(host="127.0.0.1", port=unused_tcp_port))

    async def test_unknown_name(self) -> None:
        with pytest.raises(http1.ConnectError, match=r"connect to name\.invalid:80: name resolution failed"):
            await get(http1.Target(host="name.invalid", port=80))

    async def test_name_that_is_none(self) -> None:
        with pytest.raises(http1.ConnectError, match="invalid host name"):
            await get(http1.Target(host="a" * 70 + ".example", port=80))

    async def test_no_socket_file(self, tmp_path: Path) -> None:
        with pytest.raises(http1.ConnectError, match=r"connect to unix:.*x\.sock: no such file"):
            await get(http1.Target(unix_path=tmp_path / "x.sock"))


class TestTLS:
    def server(self, pki: PKI, mode: ssl.VerifyMode = ssl.CERT_NONE) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pki.server_files)
        context.load_verify_locations(pki.ca_file)
        context.verify_mode = mode
        return context

    async def ask(self, pki: PKI, client: ssl.SSLContext, name: str | None = None, **options: ssl.VerifyMode) -> bytes:
        async with raw_server(OK, self.server(pki, **options)) as plain:
            target = http1.Target(host=plain.host, port=plain.port, ssl=client, server_hostname=name)
            return (await get(target)).body

    async def test_verified(self, pki: PKI) -> None:
        client = ssl.create_default_context(cafile=str(pki.ca_file))
        assert await self.ask(pki, client) == b"hello"
        assert await self.ask(pki, client, "localhost") == b"hello"

    async def test_unknown_authority(self, pki: PKI) -> None:
        with pytest.raises(http1.TLSError, match="certificate verify failed: self-signed certificate"):
            await self.ask(pki, ssl.create_default_context())

    async def test_other_name(self, pki: PKI) -> None:
        client = ssl.create_default_context(cafile=str(pki.ca_file))
        with pytest.raises(http1.TLSError, match="Hostname mismatch, certificate is not valid for 'other'"):
            await self.ask(pki, client, "other")

    async def test_client_certificate_is_missing(self, pki: PKI) -> None:
        client = ssl.create_default_context(cafile=str(pki.ca_file))
        # With TLS 1.3 the client learns it only when it reads; asyncio's server closes without an alert.
        with pytest.raises(http1.HTTPClientError, match=r"closed before the response|certificate required"):
            await self.ask(pki, client, mode=ssl.CERT_REQUIRED)

    async def test_server_without_tls(self, pki: PKI) -> None:
        async with raw_server(OK) as plain:
            target = http1.Target(host=plain.host, port=plain.port, ssl=ssl.create_default_context())
            with pytest.raises(http1.HTTPClientError):
                await get(target, timeout=0.2)


async def streamed(answer: bytes | Handler, max_line: int = 1000) -> list[bytes]:
    async with (
        raw_server(answer) as target,
        http1.stream_lines(target, "GET", "/", head_timeout=1, max_line=max_line) as stream,
    ):
        return [line async for line in stream.lines()]


class TestStreamLines:
    HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"

    def chunks(self, *parts: bytes, end: bool = True) -> bytes:
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        return self.HEAD + body + (b"0\r\n\r\n" if end else b"")

    @pytest.mark.parametrize(
        ("parts", "lines"),
        [
            pytest.param([b"a\nb\n"], [b"a", b"b"], id="two in one chunk"),
            pytest.param([b"a", b"b\nc", b"d", b"\n"], [b"ab", b"cd"], id="split anywhere"),
            pytest.param([b"a\n\n\nb"], [b"a", b"b"], id="empty lines, last without newline"),
            pytest.param([], [], id="nothing"),
        ],
    )
    async def test_lines(self, parts: list[bytes], lines: list[bytes]) -> None:
        assert await streamed(self.chunks(*parts)) == lines

    async def test_line_comes_as_soon_as_it_is_complete(self) -> None:
        release = asyncio.Event()

        async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(self.chunks(b"first\nsec", end=False))
            await release.wait()
            writer.write(b"4\r\nond\n\r\n0\r\n\r\n")

        async with raw_server(handle) as target, http1.stream_lines(target, "GET", "/", head_timeout=1) as stream:
            assert (stream.status, stream.header("content-type")) == (200, "text/plain")
            lines = stream.lines()
            assert await asyncio.wait_for(anext(lines), 1) == b"first"
            release.set()
            assert [line async for line in lines] == [b"second"]

    @pytest.mark.parametrize("parts", [[b"x" * 11], [b"x" * 6, b"x" * 5], [b"a\n" + b"x" * 11 + b"\n"]])
    async def test_long_line(self, parts: list[bytes]) -> None:
        with pytest.raises(http1.ResponseTooLarge, match="line exceeds 10 bytes"):
            await streamed(self.chunks(*parts), max_line=10)

    async def test_longest_line(self) -> None:
        assert await streamed(self.chunks(b"x" * 10 + b"\n"), max_line=10) == [b"x" * 10]

    async def test_stream_that_breaks_off(self) -> None:
        with pytest.raises(http1.ProtocolError, match="before the response was complete"):
            await streamed(self.chunks(b"a\n", end=False))

    async def test_head_deadline_does_not_end_the_stream(self) -> None:
        async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(self.chunks(end=False))
            await asyncio.sleep(0.15)
            writer.write(b"5\r\nlate\n\r\n0\r\n\r\n")

        async with raw_server(handle) as target, http1.stream_lines(target, "GET", "/", head_timeout=0.05) as stream:
            assert [line async for line in stream.lines()] == [b"late"]

    async def test_no_head_in_time(self) -> None:
        async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.3)

        async with raw_server(handle) as target:
            with pytest.raises(http1.RequestTimeout):
                async with http1.stream_lines(target, "GET", "/", head_timeout=0.05):
                    pytest.fail("there was no head")

    async def test_error_body_is_read_whole(self) -> None:
        answer = b"HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\ngone"
        async with raw_server(answer) as target, http1.stream_lines(target, "GET", "/", head_timeout=1) as stream:
            assert stream.status == 410
            assert await stream.read(100, timeout=1) == b"gone"

    async def test_leaving_closes_the_connection(self) -> None:
        closed = asyncio.Event()

        async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(self.chunks(b"a\n", end=False))
            try:
                while True:
                    await asyncio.sleep(0.005)
                    writer.write(b"2\r\nb\n\r\n")
                    await writer.drain()
            except OSError:
                closed.set()

        async with raw_server(handle) as target:
            async with http1.stream_lines(target, "GET", "/", head_timeout=1) as stream:
                assert await anext(stream.lines()) == b"a"
            await asyncio.wait_for(closed.wait(), 2)
