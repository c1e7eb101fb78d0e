"""Connections to backends that are kept for a while."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aggregator.upstream import kept
from aggregator.upstream.backend import Backend, backend_for
from aggregator.upstream.kept import KeptConnections
from aggregator.upstream.tls import UpstreamTLS
from apiserver import http1
from tests.unit.aggregator.api_kit import Certificates, apiservice, externalname, make_certificates

HEADERS = [("Accept", "application/json")]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), "svc.default.svc")


@dataclass
class Server:
    """Answers with the number of the connection and of the request on it; hangs up after `requests` of them."""

    port: int = 0
    requests: int = 1000
    extra: str = ""
    silent: bool = False
    silent_on: int = 0
    """The number of a connection whose requests get no answer."""
    count: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(self.count)
        try:
            for position in range(1, self.requests + 1):
                await reader.readuntil(b"\r\n\r\n")
                if self.silent or number == self.silent_on:
                    await asyncio.sleep(60)
                body = f"{number}.{position}"
                writer.write(f"HTTP/1.1 200 OK\r\n{self.extra}content-length: {len(body)}\r\n\r\n{body}".encode())
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


@dataclass
class World:
    server: Server
    subject: KeptConnections
    backend: Backend
    clock: list[float]
    listener: asyncio.Server
    connections: set[asyncio.Task[None]]

    async def get(self, backend: Backend | None = None, timeout: float = 2) -> str:
        subject = self.subject
        answer = await subject(backend or self.backend, "/x", headers=HEADERS, timeout=timeout, max_body=1000)
        return answer.body.decode()

    async def status(self, timeout: float = 2) -> int:
        return await self.subject.status(self.backend, "/x", headers=HEADERS, timeout=timeout)

    def close(self) -> None:
        """Stop listening and hang up."""
        self.listener.close()
        for task in self.connections:
            task.cancel()


def backend(port: int, certificates: Certificates, name: str = "one.example") -> Backend:
    obj = apiservice(name, service="svc", port=port, ca=certificates.ca)
    found = backend_for(obj, lambda namespace, name: externalname(name))
    assert isinstance(found, Backend)
    return found


@asynccontextmanager
async def world(certificates: Certificates, server: Server | None = None) -> AsyncIterator[World]:
    server = server or Server()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(server.serve(reader, writer), name="connection"))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=certificates.server_context())
    server.port = listener.sockets[0].getsockname()[1]
    clock = [100.0]
    subject = KeptConnections(UpstreamTLS(), monotonic=lambda: clock[0])
    try:
        yield World(server, subject, backend(server.port, certificates), clock, listener, tasks)
    finally:
        subject.close()
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_connection_for_one_request_after_the_other(certificates: Certificates) -> None:
    async with world(certificates) as subject:
        assert [await subject.get() for _ in range(3)] == ["1.1", "1.2", "1.3"]
        same_server = backend(subject.server.port, certificates, "two.example")
        assert await subject.get(same_server) == "1.4"


async def test_two_at_a_time_have_a_connection_each(certificates: Certificates) -> None:
    async with world(certificates) as subject:
        answers = await asyncio.gather(*(subject.get() for _ in range(4)))
        assert sorted(answers) == ["1.1", "2.1", "3.1", "4.1"]
        again = await asyncio.gather(*(subject.get() for _ in range(3)))
        assert sum(answer.endswith(".2") for answer in again) == 2


@pytest.mark.parametrize(
    ("seconds", "requests", "expected"),
    [(kept.IDLE_SECONDS - 1, 1, "1.2"), (kept.IDLE_SECONDS + 1, 1, "2.1"), (60.0, 12, "2.3")],
    ids=["used soon", "idle for too long", "too old"],
)
async def test_how_long_a_connection_is_used(
    seconds: float, requests: int, expected: str, certificates: Certificates
) -> None:
    async with world(certificates) as subject:
        await subject.get()
        for _ in range(requests):
            subject.clock[0] += seconds
            answer = await subject.get()
        assert answer == expected


@pytest.mark.parametrize("server", [Server(requests=1), Server(extra="connection: close\r\n")], ids=["quits", "closes"])
async def test_a_server_that_hangs_up_is_connected_again(server: Server, certificates: Certificates) -> None:
    async with world(certificates, server) as subject:
        assert [await subject.get() for _ in range(3)] == ["1.1", "2.1", "3.1"]


async def test_trust_is_not_shared(certificates: Certificates, tmp_path: Path) -> None:
    async with world(certificates) as subject:
        await subject.get()
        stranger = make_certificates(tmp_path, "svc.default.svc")
        with pytest.raises(http1.TLSError, match="certificate verify failed"):
            await subject.get(backend(subject.server.port, stranger))


async def test_a_deadline_holds_on_kept_connections_too(certificates: Certificates) -> None:
    async with world(certificates) as subject:
        await subject.get()
        subject.server.silent = True
        with pytest.raises(http1.RequestTimeout):
            await subject.get(timeout=0.1)
        subject.server.silent = False
        assert await subject.get() == "2.1"


async def test_the_status_alone(certificates: Certificates) -> None:
    async with world(certificates) as subject:
        assert [await subject.status() for _ in range(3)] == [200, 200, 200]
        assert await subject.get() == "1.4"


@pytest.mark.parametrize("server", [Server(requests=1), Server(extra="connection: close\r\n")], ids=["quits", "closes"])
async def test_the_status_of_a_server_that_hangs_up(server: Server, certificates: Certificates) -> None:
    async with world(certificates, server) as subject:
        assert [await subject.status() for _ in range(3)] == [200, 200, 200]


async def test_a_silent_kept_connection_says_nothing_about_the_server(certificates: Certificates) -> None:
    async with world(certificates) as subject:
        await subject.get()
        subject.server.silent_on = 1
        assert await subject.status(timeout=0.4) == 200
        assert await subject.get() == "2.2"


async def test_the_status_of_a_dead_server(certificates: Certificates) -> None:
    async with world(certificates) as subject:
        await subject.get()
        subject.server.silent = True
        with pytest.raises(http1.RequestTimeout):
            await subject.status(timeout=0.2)
        subject.close()
        with pytest.raises(http1.ConnectError):
            await subject.status(timeout=0.2)


async def test_running_it_closes_everything_in_the_end(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_TIDY_SECONDS", 0.01)
    async with world(certificates) as subject:
        task = asyncio.create_task(subject.subject.run(), name="tidy")
        assert await subject.get() == "1.1"
        await asyncio.sleep(0.05)
        assert await subject.get() == "1.2"
        subject.clock[0] += kept.IDLE_SECONDS
        await asyncio.sleep(0.05)
        subject.clock[0] -= kept.IDLE_SECONDS
        assert await subject.get() == "2.1"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await subject.get() == "3.1"
