"""What the tests of serving share: small applications, and clients of both versions of HTTP."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2.connection
import h2.errors
import h2.events
import h2.settings

from apiserver import http1, serving
from tests.unit.apiserver.conftest import PKI


async def plain(send: serving.Send, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: serving.Receive) -> bytes:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    return body


async def describe(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
    state = scope["state"]
    seen = {
        "version": scope["http_version"],
        "scheme": scope["scheme"],
        "certificate": (state["peer_certificate"] or b"").hex(),
        "leftover": state.get("leftover"),
    }
    state["leftover"] = "mine"
    await plain(send, json.dumps(seen).encode())


async def echo(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
    await plain(send, await read_body(receive))


async def refuse(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
    """Answers without reading the body."""
    await plain(send, b"too large", 413)


def target(server: serving.Server, context: ssl.SSLContext | None = None) -> http1.Target:
    return http1.Target(host="127.0.0.1", port=server.port, ssl=context)


async def get(where: http1.Target, path: str = "/", **options: Any) -> http1.Response:
    return await http1.request(where, "GET", path, timeout=5, max_body=1 << 20, **options)


class HTTP2Client:
    """Just enough of an HTTP/2 client: the h2 engine on a stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.engine = h2.connection.H2Connection()
        self.engine.initiate_connection()
        self.seen: list[h2.events.Event] = []
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.engine.data_to_send())

    async def ask(self, path: str, *, method: str = "GET", end: bool = True) -> int:
        stream_id = self.engine.get_next_available_stream_id()
        headers = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "localhost")]
        self.engine.send_headers(stream_id, headers, end_stream=end)
        self.flush()
        return stream_id

    async def upload(self, stream_id: int, size: int) -> None:
        """Send a body within the flow control windows, waiting for them to open."""
        while size:
            window = min(self.engine.local_flow_control_window(stream_id), 16_384, size)
            if window == 0:
                await self._read()
                continue
            self.engine.send_data(stream_id, b"x" * window, end_stream=window == size)
            size -= window
            self.flush()
            await self.writer.drain()

    async def until(self, kind: type[h2.events.Event], stream_id: int | None = None) -> Any:
        async with asyncio.timeout(5):
            while True:
                for event in self.seen:
                    if isinstance(event, kind) and (stream_id is None or getattr(event, "stream_id", 0) == stream_id):
                        return event
                await self._read()

    async def body(self, stream_id: int) -> bytes:
        await self.until(h2.events.StreamEnded, stream_id)
        data = [e.data for e in self.seen if isinstance(e, h2.events.DataReceived) and e.stream_id == stream_id]
        return b"".join(part or b"" for part in data)

    async def _read(self) -> None:
        async with asyncio.timeout(5):
            data = await self.reader.read(65536)
        assert data, "connection closed"
        for event in self.engine.receive_data(data):
            self.seen.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.engine.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        self.flush()


@asynccontextmanager
async def http2(server: serving.Server, pki: PKI) -> AsyncIterator[HTTP2Client]:
    context = pki.client.client_context(pki.ca_file, pki.directory, ["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    try:
        yield HTTP2Client(reader, writer)
    finally:
        writer.transport.abort()
