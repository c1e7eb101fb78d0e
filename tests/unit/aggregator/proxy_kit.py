"""What the proxy's socket tests share: a small PKI, scripted raw backends, a running proxy and a raw client."""

import asyncio
import base64
import contextlib
import datetime
import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aggregator.proxy.limits import Limits
from aggregator.proxy.routes import RouteTable
from aggregator.proxy.server import Proxy
from aggregator.upstream.tls import UpstreamTLS
from apimachinery.identity import RequestHeaderNames, User, from_headers
from apimachinery.types import Object

ADMIN = User("admin", groups=("system:masters", "system:authenticated"))
SERVER_NAME = "svc.default.svc"
NOW = datetime.datetime.now(datetime.UTC)


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on uvloop, as production does, and fail it when it hangs or leaves a task behind."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def body() -> None:
            async with asyncio.timeout(20):
                await test(*args, **kwargs)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left

        uvloop.run(body())

    return run


@dataclass(frozen=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, directory: Path, name: str, *, cn: str = "", organizations: Sequence[str] = (), dns: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """Write `<name>.crt` and `<name>.key`."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, item) for item in organizations]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, cn or name))
        builder = _builder(x509.Name(attributes), self.certificate.subject, key.public_key()).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        if dns:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(item) for item in dns]), critical=False
            )
        certificate = builder.sign(self.key, hashes.SHA256())
        cert_file, key_file = directory / f"{name}.crt", directory / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_file, key_file


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(hours=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )


def authority(name: str = "test-ca") -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    return Authority(key, builder.sign(key, hashes.SHA256()))


@dataclass(frozen=True)
class PKI:
    """Files for a proxy, a backend and a client, all under one authority."""

    directory: Path
    ca: Authority

    @classmethod
    def make(cls, directory: Path) -> "PKI":
        ca = authority()
        pki = cls(directory, ca)
        (directory / "ca.crt").write_bytes(ca.pem)
        ca.issue(directory, "proxy", dns=["localhost"])
        ca.issue(directory, "backend", dns=[SERVER_NAME])
        ca.issue(directory, "client", cn="admin", organizations=["system:masters"])
        ca.issue(directory, "front", cn="front-proxy")
        return pki

    def server_context(self, name: str, alpn: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        context.load_verify_locations(self.directory / "ca.crt")
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(list(alpn))
        return context

    def client_context(self, name: str | None = "client", alpn: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.directory / "ca.crt")
        if name is not None:
            context.load_cert_chain(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        context.set_alpn_protocols(list(alpn))
        return context


class CertificateNames:
    """An authenticator by the certificate's common name: `front-proxy` speaks for others, `bad` is refused."""

    def authenticate(self, certificate: bytes | None, headers: Sequence[tuple[str, str]]) -> User | object | None:
        if certificate is None:
            return None
        subject = x509.load_der_x509_certificate(certificate).subject
        name = str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        if name == "front-proxy":
            return from_headers(headers, RequestHeaderNames())
        if name == "bad":
            return object()
        groups = [str(item.value) for item in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        return User(name, groups=(*groups, "system:authenticated"))

    def reads_headers(self, certificate: bytes | None) -> bool:
        return certificate is not None and b"front-proxy" in certificate


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Backend:
    """A TLS (or plain) server whose every connection runs a script; what it receives is kept."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self.closed = 0
        self.port = 0
        self.errors: list[BaseException] = []
        self.peer_certificates: list[bytes | None] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        tls = writer.get_extra_info("ssl_object")
        self.peer_certificates.append(tls.getpeercert(binary_form=True) if tls is not None else None)
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.closed += 1
            writer.transport.abort()
            self._tasks.discard(task)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def backend(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[Backend]:
    served = Backend(handler)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=context)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        await served.stop()
        assert not served.errors, served.errors


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def read_until_broken(reader: asyncio.StreamReader) -> bytes:
    """Everything until the connection ends, in whatever way."""
    got = b""
    try:
        while data := await reader.read(65536):
            got += data
    except ConnectionError:
        pass
    return got


def lines_of(head: bytes) -> list[str]:
    return head.decode("latin-1").split("\r\n")[:-2]


def fields_of(head: bytes, name: str) -> list[str]:
    """The values of one field of a raw head."""
    found = []
    for line in lines_of(head)[1:]:
        key, _, value = line.partition(": ")
        if key.lower() == name.lower():
            found.append(value)
    return found


def answer(body: bytes = b"ok", *extra: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *extra]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def answering(response: bytes, seen: list[bytes] | None = None) -> Handler:
    """A backend that reads requests without a body and gives each the same answer."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            if seen is not None:
                seen.append(head)
            writer.write(response)
            await writer.drain()

    return handle


def apiservice(
    port: int, ca: bytes | None, *, name: str = "v1.test", available: bool = True, insecure: bool = False
) -> Object:
    version, _, group = name.partition(".")
    spec: Object = {
        "group": group,
        "version": version,
        "service": {"namespace": "default", "name": "svc", "port": port},
    }
    if ca is not None:
        spec["caBundle"] = base64.b64encode(ca).decode()
    if insecure:
        spec["insecureSkipTLSVerify"] = True
    conditions = [{"type": "Available", "status": "True" if available else "False"}]
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions}}


def externalname(host: str = "127.0.0.1") -> Object:
    return {"metadata": {"name": "svc", "namespace": "default"}, "spec": {"host": host}}


@contextlib.asynccontextmanager
async def proxy(
    pki: PKI,
    apiservices: Sequence[Object] = (),
    *,
    local_port: int | None = None,
    limits: Limits | None = None,
    upstream_tls: UpstreamTLS | None = None,
    alpn: Sequence[str] = ("http/1.1", "h2"),
    externalnames: Sequence[Object] | None = None,
) -> AsyncIterator[Proxy]:
    running = Proxy(
        ssl_context=pki.server_context("proxy", alpn),
        authenticator=CertificateNames(),
        local_address=("127.0.0.1", local_port) if local_port is not None else None,
        limits=limits,
        upstream_tls=upstream_tls,
    )
    await running.start()
    running.plane.install(RouteTable.build(apiservices, [externalname()] if externalnames is None else externalnames))
    try:
        yield running
    finally:
        await running.stop()


@dataclass
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]]
    informational: list[int]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]


class Client:
    """One TLS connection to the proxy; responses are judged by h11, an implementation independent of ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._pending = b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self, method: str = "GET") -> Response:
        """The next response; h11.RemoteProtocolError when it ends too early."""
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        connection.send(h11.EndOfMessage())
        found = Response(0, [], b"", [], [])
        if self._pending:
            connection.receive_data(self._pending)
            self._pending = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    data = b""
                connection.receive_data(data)
            elif isinstance(event, h11.InformationalResponse):
                found.informational.append(event.status_code)
            elif isinstance(event, h11.Response):
                found.status = event.status_code
                found.headers = [(key.decode(), value.decode()) for key, value in event.headers]
            elif isinstance(event, h11.Data):
                found.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.trailers = [(key.decode(), value.decode()) for key, value in event.headers]
                self._pending = connection.trailing_data[0]
                return found
            else:
                raise AssertionError(event)

    async def get(self, path: str = "/apis/test/v1/things", *headers: str) -> Response:
        await self.send(request("GET", path, *headers))
        return await self.response()

    async def closed(self) -> bool:
        """Whether the proxy closes the connection without another byte."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.transport.abort()


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def client(pki: PKI, served: Proxy, name: str | None = "client") -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", served.port, ssl=pki.client_context(name), server_hostname="localhost"
    )
    made = Client(reader, writer)
    try:
        yield made
    finally:
        made.close()
