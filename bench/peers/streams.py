"""A backend for what nginx cannot play: watches that stay open, answers after ten seconds, uploads that are read.

On one port it speaks HTTP/1.1 only, on another one it prefers HTTP/2, as Go's servers do.
"""

import asyncio
import re
import ssl
import sys
from pathlib import Path
from typing import cast

import uvloop

from bench.measure import raise_file_limit
from bench.peers.streams_asked import ANSWER, EVENT, SLOW_SECONDS, Asked, asked
from bench.peers.streams_http2 import Http2Connection
from bench.ports import STREAMS, STREAMS_HTTP2

WATCHING = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)


class _Connection(asyncio.Protocol):
    __slots__ = ("body", "head", "transport")

    def __init__(self) -> None:
        self.head = b""
        self.body = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transports do not derive from the interfaces of asyncio.
        self.transport = cast(asyncio.WriteTransport, transport)
        handshake: ssl.SSLObject = transport.get_extra_info("ssl_object")
        if handshake.selected_alpn_protocol() == "h2":
            other = Http2Connection()
            self.transport.set_protocol(other)
            other.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self.body:
            self._take(len(data))
            return
        self.head += data
        head, found, rest = self.head.partition(b"\r\n\r\n")
        if not found:
            return
        self.head = b""
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if length is not None and int(length[1]):
            self.body = int(length[1])
            self._take(len(rest))
            return
        kind = asked(head.partition(b"\r\n")[0])
        if kind is Asked.WATCH:
            self._write(WATCHING)
        elif kind is Asked.SLOW:
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._write, _ANSWER)
        else:
            self._write(_ANSWER)

    def _take(self, count: int) -> None:
        self.body -= count
        if self.body == 0:
            self._write(_ANSWER)

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)


def _context(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "backend.crt", directory / "backend.key")
    # As every aggregated API server does.
    context.load_verify_locations(directory / "ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def _run(directory: Path) -> None:
    raise_file_limit()
    either = _context(directory)
    either.set_alpn_protocols(["h2", "http/1.1"])
    loop = asyncio.get_running_loop()
    for port, context in ((STREAMS_HTTP2, either), (STREAMS, _context(directory))):
        await loop.create_server(_Connection, "127.0.0.1", port, ssl=context, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_run(Path(sys.argv[1])))
