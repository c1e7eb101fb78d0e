"""One client for either protocol, for what has to be the same over both: an answer, or a response that breaks off."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import h2.events
import h11

from aggregator.proxy.server import Proxy
from tests.unit.aggregator.h2_kit import Http2Client
from tests.unit.aggregator.proxy_kit import PKI, request

PROTOCOLS = ("http/1.1", "h2")


@dataclass(slots=True)
class Outcome:
    """What came of a request. `whole`: the response ended as it should; `status` is 0 without a response.

    Equality is that of these and the body.
    """

    status: int = 0
    body: bytes = b""
    whole: bool = False
    fields: list[tuple[str, str]] = field(default_factory=list, compare=False)
    """Of the final response, with names as they came."""
    trailers: list[tuple[str, str]] = field(default_factory=list, compare=False)
    informational: list[int] = field(default_factory=list, compare=False)
    garbled: str = field(default="", compare=False)
    """What is wrong with what came, if it is no HTTP at all."""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name]


class Caller(Protocol):
    protocol: str

    async def ask(self, method: str, path: str, body: bytes = b"", fields: Sequence[tuple[str, str]] = ()) -> Outcome:
        """Send a request, and see it through. An answer before the body's end is an answer."""

    async def begin(self, path: str, *, head: bool) -> None:
        """Send a GET that nobody waits for; with `head`, take the head of its response."""


class Http1Caller:
    protocol = "http/1.1"

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, method: str, path: str, body: bytes = b"", fields: Sequence[tuple[str, str]] = ()) -> Outcome:
        lines = [f"{name}: {value}" for name, value in fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write(request(method, path, *lines, body=body))
        return await self.answer(method)

    async def answer(self, method: str) -> Outcome:
        """What comes of a request that has been sent."""
        judge = h11.Connection(h11.CLIENT)
        judge.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        judge.send(h11.EndOfMessage())
        found = Outcome()
        while not found.whole:
            try:
                event = judge.next_event()
                if event is h11.NEED_DATA:
                    judge.receive_data(await self.reader.read(65536))
            except (h11.RemoteProtocolError, ConnectionError) as error:
                if not self.reader.at_eof() and not isinstance(error, ConnectionError):
                    found.garbled = str(error)
                return found
            if isinstance(event, h11.InformationalResponse):
                found.informational.append(event.status_code)
            elif isinstance(event, h11.Response):
                found.status = event.status_code
                found.fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers.raw_items()]
            elif isinstance(event, h11.Data):
                found.body += bytes(event.data)
            elif isinstance(event, h11.ConnectionClosed):
                return found
            elif isinstance(event, h11.EndOfMessage):
                found.whole = True
                found.trailers = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
        return found

    async def begin(self, path: str, *, head: bool) -> None:
        self.writer.write(request("GET", path))
        if head:
            await self.reader.readuntil(b"\r\n\r\n")


def _texts(fields: Iterable[Any] | None) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in fields or ()]


class Http2Caller:
    protocol = "h2"

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client = Http2Client(reader, writer)
        self._begun = 0

    async def ask(self, method: str, path: str, body: bytes = b"", fields: Sequence[tuple[str, str]] = ()) -> Outcome:
        client = self.client
        length = [("content-length", str(len(body)))] if body else []
        stream = client.start(method, path, *((name.lower(), value) for name, value in fields), *length, end=not body)
        while self._end(stream) is None:
            room = min(client.connection.local_flow_control_window(stream), 16384) if body else 0
            if room > 0:
                client.data(stream, body[:room], end=room >= len(body))
                body = body[room:]
                # What has been answered meanwhile is seen before the next frame goes.
                await asyncio.sleep(0)
            else:
                await client.receive()
        return await self.answer(stream)

    async def answer(self, stream: int) -> Outcome:
        """What comes of a request that has been sent."""
        client = self.client
        while self._end(stream) is None:
            await client.receive()
        found = Outcome(body=client.received(stream), whole=isinstance(self._end(stream), h2.events.StreamEnded))
        for event in client.events:
            if getattr(event, "stream_id", None) != stream:
                continue
            if isinstance(event, h2.events.InformationalResponseReceived):
                found.informational.append(int(dict(_texts(event.headers))[":status"]))
            elif isinstance(event, h2.events.ResponseReceived):
                (_, status), *found.fields = _texts(event.headers)
                found.status = int(status)
            elif isinstance(event, h2.events.TrailersReceived):
                found.trailers = _texts(event.headers)
        return found

    def _end(self, stream: int) -> h2.events.StreamEnded | h2.events.StreamReset | None:
        """What the stream ended with; a reset behind the response's end asks for no more of the request."""
        for item in self.client.events:
            if isinstance(item, h2.events.StreamEnded | h2.events.StreamReset) and item.stream_id == stream:
                return item
        return None

    async def begin(self, path: str, *, head: bool) -> None:
        self._begun = self.client.start("GET", path)
        if head:
            await self.client.head(self._begun)

    def leave(self) -> None:
        """Break off what was begun; the connection stays."""
        self.client.connection.reset_stream(self._begun)
        self.client.flush()


@contextlib.asynccontextmanager
async def calling(pki: PKI, front: Proxy, protocol: str, name: str = "client") -> AsyncIterator[Caller]:
    """A client that speaks `protocol`, one of PROTOCOLS, and has the certificate `name`."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", front.port, ssl=pki.client_context(name, [protocol]), server_hostname="localhost"
    )
    try:
        yield Http2Caller(reader, writer) if protocol == "h2" else Http1Caller(reader, writer)
    finally:
        writer.transport.abort()
