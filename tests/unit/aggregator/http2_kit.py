"""A client of HTTP/2 that sends any frame, well formed or not; what comes back is judged by hyperframe and hpack."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

import hpack
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

from aggregator.proxy.limits import Limits
from aggregator.proxy.server import Proxy
from tests.unit.aggregator.proxy_kit import PKI, Handler, apiservice, backend, proxy, read_until_broken

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS, PADDED, HAS_PRIORITY = 4, 8, 32
NO_ERROR, PROTOCOL, INTERNAL, FLOW, TIMEOUT, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION = range(10)
CALM = 11
"""Error codes."""
PATH = "/apis/test/v1/things"
GET = ((":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", PATH))
POST = ((":method", "POST"), *GET[1:])
WATCH = (*GET[:3], (":path", PATH + "?watch=1"))
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that does not answer."""
    await read_until_broken(reader)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def block(*fields: tuple[str, str]) -> bytes:
    """A header block of literals that leave the dynamic table alone."""
    out = b""
    for name, value in fields:
        out += b"\0"
        for text in (name.encode("latin-1"), value.encode("latin-1")):
            out += bytes((len(text),)) if len(text) < 127 else b"\x7f" + _long(len(text) - 127)
            out += text
    return out


def _long(value: int) -> bytes:
    out = b""
    while value >= 128:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


def head(stream: int, *fields: tuple[str, str], end: bool = True) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(*fields))


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def setting(*items: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *item) for item in items))


class RawClient:
    """One connection; frames that came are in `frames`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.frames: list[Frame] = []
        self.closed = False
        self.answers_pings = True
        self._decoder = hpack.Decoder(1 << 20)
        self._buffer = b""
        self._fields: dict[int, list[list[tuple[str, str]]]] = {}

    def send(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    async def read(self) -> None:
        """Take one read's worth of frames."""
        try:
            data = await self.reader.read(65536)
        except ConnectionError:
            data = b""
        self.closed = not data
        self._buffer += data
        while len(self._buffer) >= 9:
            found, length = Frame.parse_frame_header(memoryview(self._buffer[:9]))
            if len(self._buffer) < 9 + length:
                return
            found.parse_body(memoryview(self._buffer[9 : 9 + length]))
            self._buffer = self._buffer[9 + length :]
            self.frames.append(found)
            if isinstance(found, HeadersFrame):
                assert "END_HEADERS" in found.flags
                fields = [(str(name), str(value)) for name, value in self._decoder.decode(found.data)]
                self._fields.setdefault(found.stream_id, []).append(fields)
            elif isinstance(found, PingFrame) and "ACK" not in found.flags and self.answers_pings:
                self.send(frame(PING, ACK, 0, found.opaque_data))

    async def heads(self, stream: int, count: int = 1) -> list[dict[str, str]]:
        """The first heads of a stream, trailers included."""
        while len(self._fields.get(stream, ())) < count:
            assert not self.closed, self.frames
            await self.read()
        return [dict(fields) for fields in self._fields[stream]]

    async def status(self, stream: int) -> str:
        return (await self.heads(stream))[0][":status"]

    def body(self, stream: int) -> bytes:
        return b"".join(item.data for item in self.frames if isinstance(item, DataFrame) and item.stream_id == stream)

    def ended(self, stream: int) -> bool:
        return any("END_STREAM" in item.flags for item in self.frames if item.stream_id == stream)

    async def until_end(self, stream: int) -> bytes:
        while not self.ended(stream):
            assert not self.closed, self.frames
            assert stream not in self.resets(), self.frames
            await self.read()
        return self.body(stream)

    def resets(self) -> dict[int, int]:
        return {item.stream_id: item.error_code for item in self.frames if isinstance(item, RstStreamFrame)}

    async def reset_code(self, stream: int) -> int:
        while stream not in self.resets():
            assert not self.closed, self.frames
            await self.read()
        return self.resets()[stream]

    async def goaway(self) -> GoAwayFrame:
        """The GOAWAY behind which the connection is closed."""
        while not self.closed:
            await self.read()
        found = [item for item in self.frames if isinstance(item, GoAwayFrame)]
        assert found, self.frames
        return found[-1]

    async def ping(self) -> None:
        """Everything sent before has been dealt with."""
        self.send(frame(PING, 0, 0, b"in order"))
        while not any(
            isinstance(item, PingFrame) and "ACK" in item.flags and item.opaque_data == b"in order"
            for item in self.frames
        ):
            assert not self.closed, self.frames
            await self.read()
        self.frames = [item for item in self.frames if not isinstance(item, PingFrame)]

    def settings(self) -> dict[int, int]:
        found = [item for item in self.frames if isinstance(item, SettingsFrame) and "ACK" not in item.flags]
        return {int(name): value for name, value in found[0].settings.items()}


@contextlib.asynccontextmanager
async def connected(pki: PKI, front: Proxy, name: str | None = "client") -> AsyncIterator[RawClient]:
    """A connection on which nothing has been sent."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", front.port, ssl=pki.client_context(name, ["h2"]), server_hostname="localhost"
    )
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def served(
    pki: PKI, handler: Handler, *, limits: Limits | None = None, name: str | None = "client"
) -> AsyncIterator[tuple[Proxy, RawClient]]:
    """A backend, a proxy before it, and a client that has said hello."""
    async with (
        backend(handler, pki.server_context("backend")) as behind,
        proxy(pki, [apiservice(behind.port, pki.ca.pem)], limits=limits) as front,
        connected(pki, front, name) as caller,
    ):
        caller.send(PREFACE, setting())
        yield front, caller
