"""The fault table: what a client, the metrics and the process see of each way in which a backend or a client can fail.

Clients of HTTP/1.1 and of HTTP/2 see the same, except that a stream that is broken off leaves its connection usable.

Slow clients and backends are in test_proxy_streams, names that fail or move in test_proxy_names.
"""

import asyncio
import contextlib
import datetime
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from aggregator.proxy.limits import Limits
from tests.unit.aggregator.fault_callers import PROTOCOLS, Http2Caller, calling
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Handler,
    answer,
    answering,
    apiservice,
    backend,
    on_uvloop,
    proxy,
    read_head,
    read_until_broken,
)

LIMITS = Limits(sweep_seconds=0.05, connect_seconds=0.3, handshake_seconds=0.3, head_bytes=20_000, linger_seconds=0.2)
THINGS = "/apis/test/v1/things"
over_both = pytest.mark.parametrize("protocol", PROTOCOLS)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST instead of a FIN."""
    raw = writer.get_extra_info("socket")
    # uvloop's stand-in for a socket only reads options.
    with socket.socket(fileno=os.dup(raw.fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def saying(data: bytes, then: Callable[[asyncio.StreamWriter], None] | None = None) -> Handler:
    """Reads a request's head, says `data`, and does something about the connection; None waits for its end."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(data)
        await writer.drain()
        if then is not None:
            await asyncio.sleep(0.05)
            then(writer)
        else:
            await read_until_broken(reader)

    return handle


def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A fault that the client gets told about."""

    handler: Handler
    code: int
    body: bytes
    """How it begins."""
    query: str = ""
    counted: int = 0
    """The code in the metrics, if it is another one."""
    reusable: bool = False
    """The connection to the backend can be used again."""


ANSWERED = {
    "closed-before-head": Answered(handler=saying(b"", close), code=503, body=b"error trying to reach service: "),
    "reset-before-head": Answered(handler=saying(b"", reset), code=503, body=b"error trying to reach service: "),
    "closed-within-head": Answered(
        handler=saying(b"HTTP/1.1 200 OK\r\nContent-", close), code=503, body=b"error trying to reach service: EOF\n"
    ),
    "garbage": Answered(
        handler=saying(b"\x16\x03\x01 who are you?\r\n\r\n"),
        code=503,
        body=b"error trying to reach service: malformed HTTP response",
    ),
    "another-protocol": Answered(
        handler=saying(b"220 mail ESMTP\r\n"), code=503, body=b"error trying to reach service: malformed HTTP response"
    ),
    "two-lengths": Answered(
        handler=saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        code=503,
        body=b"error trying to reach service: malformed HTTP response",
    ),
    "huge-headers": Answered(
        handler=saying(b"HTTP/1.1 200 OK\r\n" + b"X-Large: " + b"x" * 50_000),
        code=503,
        body=b"error trying to reach service: server response headers exceeded 20000 bytes\n",
    ),
    "longer-than-said": Answered(
        handler=saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n"), code=200, body=b"ok"
    ),
    "silent": Answered(
        handler=saying(b""), code=504, body=b'{"metadata":{},"status":"Failure"', query="?timeout=200ms"
    ),
    "overloaded": Answered(
        handler=answering(answer(b"busy", "Retry-After: 3", status="503 Service Unavailable")),
        code=503,
        body=b"busy",
        reusable=True,
    ),
}


@contextlib.asynccontextmanager
async def nothing_left_open() -> AsyncIterator[None]:
    """Whatever happens within opens no file descriptor for good."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    # The loop's own descriptors, some of which it opens when it is first used.
    async with backend(answering(answer())) as warm:
        with socket.create_connection(("127.0.0.1", warm.port)):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    before = descriptors()
    yield
    async with asyncio.timeout(3):
        while descriptors() > before:
            await asyncio.sleep(0.02)


@over_both
@pytest.mark.parametrize("fault", ANSWERED.values(), ids=ANSWERED.keys())
@on_uvloop
async def test_a_fault_before_the_response_is_told(pki: PKI, fault: Answered, protocol: str) -> None:
    async with (
        nothing_left_open(),
        backend(fault.handler, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=LIMITS) as front,
        calling(pki, front, protocol) as caller,
    ):
        found = await caller.ask("GET", THINGS + fault.query)
        assert (found.status, found.whole) == (fault.code, True)
        assert found.body.startswith(fault.body)
        assert front.metrics.route("v1.test").codes == {(b"GET", fault.counted or fault.code): 1}
        assert front.metrics.in_flight == 0
        async with asyncio.timeout(3):
            while front.plane.pools.connection_count() != fault.reusable:
                await asyncio.sleep(0.01)
        # The client's connection is none the worse for it.
        assert (await caller.ask("GET", "/healthz")).status == 503
        assert served.connections == 1


BROKEN_OFF = {
    "closed-after-head": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", close),
    "reset-after-head": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", reset),
    "half-a-response": saying(HALF, close),
    "half-a-response-and-reset": saying(HALF, reset),
    "stalled": saying(HALF),
    "chunk-missing": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", close),
    "chunk-malformed": saying(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", lambda writer: writer.write(b"ZZ\r\n")
    ),
}


@over_both
@pytest.mark.parametrize("handler", BROKEN_OFF.values(), ids=BROKEN_OFF.keys())
@on_uvloop
async def test_a_fault_within_the_response_breaks_it_off(pki: PKI, handler: Handler, protocol: str) -> None:
    async with (
        nothing_left_open(),
        backend(handler, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=LIMITS) as front,
        calling(pki, front, protocol) as caller,
    ):
        found = await caller.ask("GET", f"{THINGS}?timeout=400ms")
        assert (found.status, found.whole) == (200, False)
        assert found.body in (b"", b"half")
        assert front.metrics.route("v1.test").codes == {(b"GET", 200): 1}
        assert front.metrics.in_flight == 0
        async with asyncio.timeout(3):
            while front.plane.pools.connection_count() or front.metrics.downstream_connections() > (protocol == "h2"):
                await asyncio.sleep(0.01)
        if protocol == "h2":
            assert (await caller.ask("GET", "/healthz")).status == 503


@contextlib.asynccontextmanager
async def nobody() -> AsyncIterator[int]:
    """A port that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    yield port


@contextlib.asynccontextmanager
async def swallowing() -> AsyncIterator[int]:
    """A port where connections are neither made nor refused: its backlog is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(server.getsockname())
        await asyncio.sleep(0.05)
        port: int = server.getsockname()[1]
        yield port


@contextlib.asynccontextmanager
async def mute() -> AsyncIterator[int]:
    """A port where connections are made and no handshake ever ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        yield port


@contextlib.asynccontextmanager
async def plain() -> AsyncIterator[int]:
    """A server that does not speak TLS, and says so."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await read_until_broken(reader)

    async with backend(handle) as served:
        yield served.port


UNREACHABLE = {
    "refused": (nobody, ("dial tcp 127.0.0.1:", "connect: connection refused")),
    "swallowed": (swallowing, ("dial tcp 127.0.0.1:", "i/o timeout")),
    "no-handshake": (mute, ("net/http: TLS handshake timeout",)),
    "no-tls": (plain, ("tls: ",)),
}


@over_both
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("peer", "texts"), UNREACHABLE.values(), ids=UNREACHABLE.keys())
@on_uvloop
async def test_a_backend_that_cannot_be_reached(
    pki: PKI,
    peer: Callable[[], contextlib.AbstractAsyncContextManager[int]],
    texts: tuple[str, ...],
    method: str,
    protocol: str,
) -> None:
    async with (
        nothing_left_open(),
        peer() as port,
        proxy(pki, [apiservice(port, pki.ca.pem)], limits=LIMITS) as front,
        calling(pki, front, protocol) as caller,
    ):
        reported: list[str] = []
        front.plane.on_unreachable = reported.append
        # An upload to a dead backend: more than any buffer holds, which nobody will ever read.
        found = await caller.ask(method, THINGS, b"x" * 3_000_000 if method == "POST" else b"")
        assert (found.status, found.whole) == (503, True)
        text = found.body.decode()
        assert text.startswith("error trying to reach service: ")
        assert [part for part in texts if part not in text] == []
        assert front.metrics.route("v1.test").codes == {(method.encode(), 503): 1}
        assert front.metrics.route("v1.test").connect_errors == 1
        assert reported == ["v1.test"]
        assert front.metrics.in_flight == front.plane.pools.connection_count() == 0


@over_both
@on_uvloop
async def test_an_upload_to_a_backend_that_dies_on_the_way(pki: PKI, protocol: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.read(65536)
        reset(writer)

    async with (
        nothing_left_open(),
        backend(handle, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=LIMITS) as front,
        calling(pki, front, protocol) as caller,
    ):
        found = await caller.ask("PUT", f"{THINGS}/a", b"x" * 8_000_000)
        assert (found.status, found.whole) == (503, True)
        assert found.body.startswith(b"error trying to reach service: ")
        assert front.metrics.route("v1.test").codes == {(b"PUT", 503): 1}
        assert served.connections == 1


@over_both
@on_uvloop
async def test_an_expired_certificate(pki: PKI, protocol: str) -> None:
    _expired(pki)
    async with (
        nothing_left_open(),
        backend(answering(answer()), pki.server_context("expired")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=LIMITS) as front,
        calling(pki, front, protocol) as caller,
    ):
        found = await caller.ask("GET", THINGS)
        assert found.status == 503
        text = b"error trying to reach service: tls: failed to verify certificate: certificate has expired\n"
        assert found.body == text
        assert front.metrics.route("v1.test").connect_errors == 1
        assert front.plane.pools.connection_count() == 0


def _expired(pki: PKI) -> None:
    """Write a certificate like the backend's that ended an hour ago."""
    backend_file, key_file = pki.directory / "backend.crt", pki.directory / "backend.key"
    old = x509.load_pem_x509_certificate(backend_file.read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "expired")]))
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(hours=1))
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    certificate = builder.sign(pki.ca.key, hashes.SHA256())
    _write(pki.directory / "expired.crt", certificate.public_bytes(serialization.Encoding.PEM))
    _write(pki.directory / "expired.key", key_file.read_bytes())


def _write(file: Path, data: bytes) -> None:
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("protocol", "stays"),
    [
        pytest.param("http/1.1", False, id="http/1.1"),
        pytest.param("h2", False, id="h2"),
        pytest.param("h2", True, id="h2, and stays connected"),
    ],
)
@pytest.mark.parametrize("when", ["waiting", "reading"])
@on_uvloop
async def test_a_client_that_goes_away(pki: PKI, when: str, protocol: str, stays: bool) -> None:
    said = b"" if when == "waiting" else HALF
    async with (
        nothing_left_open(),
        backend(saying(said), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=LIMITS) as front,
    ):
        async with calling(pki, front, protocol) as caller:
            await caller.begin(THINGS, head=bool(said))
            while served.connections == 0:
                await asyncio.sleep(0.01)
            if stays:
                assert isinstance(caller, Http2Caller)
                caller.leave()
                async with asyncio.timeout(3):
                    while served.closed == 0:
                        await asyncio.sleep(0.01)
        async with asyncio.timeout(3):
            while served.closed == 0 or front.metrics.downstream_connections():
                await asyncio.sleep(0.01)
        assert front.metrics.route("v1.test").codes == {(b"GET", 499): 1}
        assert front.metrics.in_flight == front.plane.pools.connection_count() == 0
