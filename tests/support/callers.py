"""A small constant load by callers that come with the kubeconfig of the moment; whatever fails is kept."""

import asyncio
import base64
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml
from cryptography import x509

from apiserver import http1

MAX_BODY = 1024 * 1024


class Answer(NamedTuple):
    status: int
    body: str


class Identity(NamedTuple):
    """A TLS context, and what tells whether it is still the one to use."""

    source: bytes
    context: ssl.SSLContext


class Kubeconfig:
    """The identity that a kubeconfig holds. Everything is in the one file, so it is consistent at every moment."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last: Identity | None = None

    def __call__(self) -> Identity:
        source = self._file.read_bytes()
        if self._last is None or self._last.source != source:
            self._last = Identity(source, _context(source))
        return self._last


def _context(source: bytes) -> ssl.SSLContext:
    document = yaml.safe_load(source)
    user = document["users"][0]["user"]
    authorities = base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authorities)
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        pair.flush()
        context.load_cert_chain(pair.name)
    return context


class Callers:
    """Callers of one path. `expected` judges an answer; `answers` counts the good ones."""

    def __init__(
        self, *, port: int, path: str, identity: Callable[[], Identity], expected: Callable[[Answer], bool]
    ) -> None:
        self._port = port
        self._path = path
        self._identity = identity
        self._expected = expected
        self.answers = 0
        self.failures: list[str] = []
        self.last_served = 0
        """Serial number of the certificate that the server showed last."""
        self._stopped = False

    def stop(self) -> None:
        """Let each caller finish what it is doing, then end; may be called from another thread.

        Cancelling instead can hit a connection in the making, whose socket nobody closes then.
        """
        self._stopped = True

    async def run(self, *, fresh: int = 2, lasting: int = 2, pause: float = 0.02) -> None:
        """Ask until stopped: `fresh` callers by a new connection each time, `lasting` ones by kept connections."""
        async with asyncio.TaskGroup() as group:
            for number in range(fresh):
                group.create_task(self.keep_connecting(pause), name=f"fresh-{number}")
            for number in range(lasting):
                group.create_task(self.keep_asking(pause), name=f"lasting-{number}")

    async def keep_connecting(self, pause: float, headers: http1.Headers = ()) -> None:
        """A connection for each request, as kubectl has it."""
        while not self._stopped:
            target = http1.Target(host="localhost", port=self._port, ssl=self._identity().context)
            try:
                response = await http1.request(target, "GET", self._path, headers, timeout=10, max_body=MAX_BODY)
            except http1.HTTPClientError as error:
                self.failures.append(repr(error))
            else:
                self.count(Answer(response.status, response.body.decode()))
            await asyncio.sleep(pause)

    async def keep_asking(self, pause: float) -> None:
        """One connection for as long as the identity stays the same and the server does not ask to leave."""
        while not self._stopped:
            source, context = self._identity()
            connection = await Connection.open(self._port, context)
            self.last_served = connection.served_serial
            try:
                while self._identity().source == source and not self._stopped and not connection.leaving:
                    self.count(await connection.ask(self._path))
                    await asyncio.sleep(pause)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self.failures.append(repr(error))
            finally:
                connection.close()

    def count(self, answer: Answer) -> None:
        if self._expected(answer):
            self.answers += 1
        else:
            self.failures.append(f"{answer.status} {answer.body[:200]}")


class Connection:
    """A kept connection that reads answers of a known length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.leaving = False
        """The server has said that it answers no more on this connection."""
        served = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.served_serial = x509.load_der_x509_certificate(served).serial_number

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext) -> "Connection":
        return cls(*await asyncio.open_connection("localhost", port, ssl=context))

    async def ask(self, path: str) -> Answer:
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        self.leaving = b"\r\nconnection: close\r\n" in head.lower()
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return Answer(int(head.split()[1]), (await self._reader.readexactly(length)).decode())

    def close(self) -> None:
        self._writer.transport.abort()
