"""A backend for what nginx cannot play: watches that stay open, answers after ten seconds, uploads that are read."""

import asyncio
import re
import ssl
import sys
from pathlib import Path
from typing import cast

import uvloop

from bench.measure import raise_file_limit
from bench.ports import STREAMS

SLOW_SECONDS = 10.0
_EVENT = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}\n'
WATCHING = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n{}\n"


class _Connection(asyncio.Protocol):
    __slots__ = ("body", "head", "transport")

    def __init__(self) -> None:
        self.head = b""
        self.body = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transports do not derive from the interfaces of asyncio.
        self.transport = cast(asyncio.WriteTransport, transport)

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
        elif b"watch=1" in head:
            self._write(WATCHING)
        elif b"/slow" in head:
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


async def _run(directory: Path) -> None:
    raise_file_limit()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "backend.crt", directory / "backend.key")
    # As every aggregated API server does.
    context.load_verify_locations(directory / "ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", STREAMS, ssl=context, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_run(Path(sys.argv[1])))
