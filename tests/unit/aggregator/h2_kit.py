"""A client of HTTP/2 by the h2 library, and the proxy between it and a backend."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events

from aggregator.proxy.server import Proxy
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Backend,
    Handler,
    apiservice,
    backend,
    proxy,
)


class Http2Client:
    """Just enough of an HTTP/2 client: events of all streams in one list."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.connection.data_to_send())

    def start(self, method: str, path: str, *headers: tuple[str, str], end: bool = True) -> int:
        stream = self.connection.get_next_available_stream_id()
        fields = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "localhost"), *headers]
        self.connection.send_headers(stream, fields, end_stream=end)
        self.flush()
        return stream

    def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.connection.send_data(stream, data, end_stream=end)
        self.flush()

    async def until(self, kind: type[h2.events.Event], stream: int) -> h2.events.Event:
        """The first event of a kind on a stream, arrived already or not."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and getattr(event, "stream_id", None) == stream:
                    return event
            await self.receive()

    async def receive(self) -> None:
        """Take one read's worth of events."""
        data = await self.reader.read(65536)
        assert data, f"connection closed after {self.events[-3:]}"
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            self.events.append(event)
        self.flush()

    async def head(self, stream: int) -> dict[str, str]:
        event = await self.until(h2.events.ResponseReceived, stream)
        assert isinstance(event, h2.events.ResponseReceived)
        return {str(name): str(value) for name, value in event.headers or []}

    def received(self, stream: int) -> bytes:
        pieces = [item for item in self.events if isinstance(item, h2.events.DataReceived) and item.stream_id == stream]
        return b"".join(item.data or b"" for item in pieces)

    async def body(self, stream: int) -> bytes:
        await self.until(h2.events.StreamEnded, stream)
        return self.received(stream)


@asynccontextmanager
async def stack(
    pki: PKI, handler: Handler, name: str | None = "client"
) -> AsyncIterator[tuple[Backend, Proxy, Http2Client]]:
    async with (
        backend(handler, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
    ):
        context = pki.client_context(name, ["h2"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", front.port, ssl=context, server_hostname="localhost"
        )
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        try:
            yield served, front, Http2Client(reader, writer)
        finally:
            writer.transport.abort()
