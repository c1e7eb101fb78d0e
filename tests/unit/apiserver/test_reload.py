"""Files in force: the poller, and a listener that follows its certificate and authorities on both event loops."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from prometheus_client import CollectorRegistry

from apiserver import http1, serving
from apiserver.auth.x509 import CertificateVerifier, Untrusted
from apiserver.reload import Reloader, ReloadMetrics
from apiserver.tls import ServerTLS, TLSConfigError
from tests.unit.apiserver import certificates
from tests.unit.apiserver.certificates import CLIENT, Issued


class Subject:
    """Something read from a file; `bad` is what cannot be used."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.value = file.read_text()
        self.reads = 0

    def load(self) -> bool:
        self.reads += 1
        try:
            found = self.file.read_text()
        except OSError as error:
            raise TLSConfigError(f"cannot read {self.file.name}") from error
        if "bad" in found:
            raise TLSConfigError(f"{found} in {self.file.name}")
        changed, self.value = found != self.value, found
        return changed


class World:
    def __init__(self, directory: Path) -> None:
        self.file = directory / "file"
        self.file.write_text("one")
        self.subject = Subject(self.file)
        self.collectors = CollectorRegistry()
        self.reloader = Reloader(ReloadMetrics(self.collectors, prefix="test"))
        self.reloader.watch("thing", [self.file], self.subject.load)
        self.reloader.poll()

    def reloads(self, result: str) -> float | None:
        return self.collectors.get_sample_value("test_file_reloads_total", {"name": "thing", "result": result})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def replaced(file: Path) -> None:
    new = file.with_name("new")
    new.write_text("two")
    # Same size and time of modification: the file itself is another one.
    state = file.stat()
    os.utime(new, ns=(state.st_atime_ns, state.st_mtime_ns))
    new.replace(file)


def written(file: Path) -> None:
    state = file.stat()
    file.write_text("two")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


def link_turned(file: Path) -> None:
    target = file.with_name("target")
    target.write_text("two")
    link = file.with_name("link")
    link.symlink_to(target)
    link.replace(file)


@pytest.mark.parametrize("change", [replaced, written, link_turned])
def test_a_changed_file_is_loaded_once(world: World, change: Callable[[Path], None]) -> None:
    change(world.file)
    reads = world.subject.reads
    for _ in range(3):
        world.reloader.poll()
    assert (world.subject.value, world.subject.reads - reads) == ("two", 1)
    assert (world.reloads("success"), world.reloads("failure")) == (1, 0)


def test_what_changed_between_start_and_first_look_is_not_missed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    subject = Subject(file)
    reloader = Reloader(ReloadMetrics(CollectorRegistry(), prefix="test"))
    file.write_text("two")
    reloader.watch("thing", [file], subject.load)
    reloader.poll()
    assert subject.value == "two"


def test_an_unusable_file_is_logged_once_and_waited_for(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        world.file.write_text("bad")
        for _ in range(3):
            world.reloader.poll()
        assert world.subject.value == "one"
        world.file.write_text("good")
        world.reloader.poll()
    assert world.subject.value == "good"
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "changed files not usable, the former stay in force"),
        ("INFO", "changed files are in force"),
    ]
    assert (world.reloads("success"), world.reloads("failure")) == (1, 1)


def test_a_file_that_vanishes_for_a_while(world: World) -> None:
    world.file.unlink()
    world.reloader.poll()
    world.reloader.poll()
    assert (world.subject.value, world.reloads("failure")) == ("one", 1)
    world.file.write_text("two")
    world.reloader.poll()
    assert world.subject.value == "two"


def test_other_errors_are_not_swallowed(world: World) -> None:
    def broken() -> bool:
        raise ZeroDivisionError

    world.reloader.watch("broken", [world.file], broken)
    with pytest.raises(ZeroDivisionError):
        world.reloader.poll()


def test_the_first_expiration_in_a_bundle_is_a_metric(tmp_path: Path) -> None:
    one, other = certificates.authority("one"), certificates.issue(certificates.name("short"), ca=True)
    file = tmp_path / "ca.crt"
    file.write_bytes(one.pem)
    collectors = CollectorRegistry()
    reloader = Reloader(ReloadMetrics(collectors, prefix="test"))
    reloader.watch("ca", [file], lambda: True, certificates=file)

    def expiration() -> float | None:
        return collectors.get_sample_value("test_certificate_expiration_timestamp_seconds", {"name": "ca"})

    assert expiration() == one.certificate.not_valid_after_utc.timestamp()
    file.write_bytes(one.pem + other.pem)
    reloader.poll()
    ends = [issued.certificate.not_valid_after_utc.timestamp() for issued in (one, other)]
    assert expiration() == min(ends)


class Listener:
    """A TLS server whose answer is the common name of the client, with the files it follows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server_ca, self.client_ca = certificates.authority("server-ca"), certificates.authority("client-ca")
        self.serve_as(certificates.server_for(self.server_ca))
        self.trusted = directory / "clients.crt"
        self.trusted.write_bytes(self.client_ca.pem)
        self.tls = ServerTLS(directory / "server.crt", directory / "server.key", [self.trusted])
        self.verifier = CertificateVerifier(self.trusted)
        self.port = 0

    def serve_as(self, issued: Issued) -> None:
        issued.write(self.directory, "server")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
            body = self.name_of(scope["state"]["peer_certificate"])
            headers = [(b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        server = await serving.serve(app, ssl_context=self.tls.context)
        self.port = server.port
        try:
            yield
        finally:
            await server.stop()

    def name_of(self, der: bytes | None) -> bytes:
        if der is not None and isinstance(self.verifier.verify(der), Untrusted):
            return b"unauthorized"
        return certificates_digest(der)

    def trust(self, *authorities: Issued) -> None:
        self.trusted.write_bytes(b"".join(one.pem for one in authorities))
        assert self.tls.reload()
        assert self.verifier.reload()

    def client(self, server_ca: Issued, identity: Issued | None) -> ssl.SSLContext:
        file = self.directory / f"trusted-{server_ca.certificate.serial_number}.crt"
        file.write_bytes(server_ca.pem)
        if identity is None:
            return ssl.create_default_context(cafile=str(file))
        return identity.client_context(file, self.directory)

    async def ask(self, server_ca: Issued, identity: Issued | None = None) -> bytes:
        """A request on a connection of its own, by address and so without SNI."""
        target = http1.Target(host="127.0.0.1", port=self.port, ssl=self.client(server_ca, identity))
        response = await http1.request(target, "GET", "/", timeout=5, max_body=1000)
        return response.body


def certificates_digest(der: bytes | None) -> bytes:
    return b"nobody" if der is None else der[-16:].hex().encode()


def user(ca: Issued) -> Issued:
    return certificates.issue(certificates.name("user"), ca, usages=[CLIENT])


def on_both_loops(test: Callable[[Listener], Coroutine[Any, Any, None]]) -> Callable[[Path, str], None]:
    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def run(tmp_path: Path, loop: str) -> None:
        async def body() -> None:
            listener = Listener(tmp_path)
            async with asyncio.timeout(20), listener.running():
                await test(listener)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
            runner.run(body())

    return run


@on_both_loops
async def test_a_new_serving_certificate_is_shown_to_the_next_client(listener: Listener) -> None:
    successor = certificates.authority("successor")
    assert await listener.ask(listener.server_ca) == b"nobody"
    assert not listener.tls.reload()
    listener.serve_as(certificates.server_for(successor))
    assert listener.tls.reload()
    assert await listener.ask(successor) == b"nobody"
    with pytest.raises(http1.TLSError):
        await listener.ask(listener.server_ca)


@on_both_loops
async def test_an_authority_can_be_added_and_taken_away(listener: Listener) -> None:
    successor = certificates.authority("successor")
    old, new = user(listener.client_ca), user(successor)

    async def counts(identity: Issued) -> bool:
        return await listener.ask(listener.server_ca, identity) == certificates_digest(identity.der)

    assert [await counts(old), await counts(new)] == [True, False]
    listener.trust(listener.client_ca, successor)
    assert [await counts(old), await counts(new)] == [True, True]
    listener.trust(successor)
    assert [await counts(old), await counts(new)] == [False, True]


@on_both_loops
async def test_open_connections_live_on(listener: Listener) -> None:
    context = listener.client(listener.server_ca, user(listener.client_ca))
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)

    async def exchange() -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        return await reader.readexactly(32)

    before = await exchange()
    successor = certificates.authority("successor")
    listener.serve_as(certificates.server_for(successor))
    listener.trusted.write_bytes(successor.pem)
    assert listener.tls.reload()
    assert await listener.ask(successor) == b"nobody"
    assert await exchange() == before
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


@on_both_loops
async def test_a_session_of_a_former_authority_is_judged_anew(listener: Listener) -> None:
    """A ticket brings the client's certificate back; what counted when it was made must not count for ever."""
    context = listener.client(listener.server_ca, user(listener.client_ca))
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def connect(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool, bytes]:
        with (
            socket.create_connection(("127.0.0.1", listener.port), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=session) as wrapped,
        ):
            wrapped.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: wrapped.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 200")
            return wrapped.session, bool(wrapped.session_reused), answer.partition(b"\r\n\r\n")[2]

    session, _, first = await asyncio.to_thread(connect, None)
    _, resumed, second = await asyncio.to_thread(connect, session)
    assert resumed
    assert first == second != b"unauthorized"
    listener.trusted.write_bytes(certificates.authority("successor").pem)
    assert listener.verifier.reload()
    assert (await asyncio.to_thread(connect, session))[1:] == (True, b"unauthorized")
    assert listener.tls.reload()
    assert (await asyncio.to_thread(connect, session))[1:] == (False, b"unauthorized")


def test_a_pair_that_does_not_match_yet_is_waited_for(tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    before = listener.tls.context.current
    successor = certificates.server_for(listener.server_ca)
    (tmp_path / "server.crt").write_bytes(successor.pem)
    with pytest.raises(TLSConfigError, match="does not belong"):
        listener.tls.reload()
    (tmp_path / "server.key").write_bytes(successor.key_pem[:40])
    with pytest.raises(TLSConfigError):
        listener.tls.reload()
    assert listener.tls.context.current is before
    (tmp_path / "server.key").write_bytes(successor.key_pem)
    assert listener.tls.reload()
    assert listener.tls.context.current is not before


@pytest.mark.parametrize("loading", ["load_cert_chain", "load_verify_locations"])
def test_a_file_that_vanishes_while_it_is_read(tmp_path: Path, loading: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(tmp_path)
    listener.serve_as(certificates.server_for(listener.server_ca))

    def gone(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    with monkeypatch.context() as patch:
        patch.setattr(ssl.SSLContext, loading, gone)
        with pytest.raises(TLSConfigError, match="No such file or directory"):
            listener.tls.reload()
    assert listener.tls.reload()
