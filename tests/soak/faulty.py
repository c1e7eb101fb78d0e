"""Backends of the soak: one that answers well, and one that fails in every way it knows, at random.

What a path asks for decides the answer, so a client can tell a right answer from a wrong one.
"""

import asyncio
import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import h11

_SIZE = re.compile(r"/size-(\d+)")
_BLOCK = bytes(range(256)) * 256


def content(size: int) -> bytes:
    """The body that belongs to a path with this size in it."""
    return (_BLOCK * (size // len(_BLOCK) + 1))[:size]


class Requests:
    """Reads the requests of one connection; a request that is not HTTP is an error of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * 1024 * 1024)

    async def event(self) -> Any:
        while True:
            event = self.protocol.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionError("the proxy has left")
            self.protocol.receive_data(data)

    async def head(self) -> h11.Request:
        """The next request; ConnectionError at the end of the connection."""
        if self.protocol.their_state is h11.DONE:
            self.protocol.start_next_cycle()
        event = await self.event()
        assert isinstance(event, h11.Request), event
        return event

    async def body(self) -> bytes:
        pieces = []
        while not isinstance(event := await self.event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            pieces.append(bytes(event.data))
        return b"".join(pieces)

    async def send(self, *events: Any) -> None:
        self.writer.write(b"".join(self.protocol.send(event) or b"" for event in events))
        await self.writer.drain()

    async def answer(self, request: h11.Request, body: bytes) -> None:
        await self.send(h11.Response(status_code=200, headers=[("Content-Length", str(len(body)))]))
        if request.method != b"HEAD":
            await self.send(h11.Data(data=body))
        await self.send(h11.EndOfMessage())


async def _well(requests: Requests, request: h11.Request) -> None:
    """The right answer: what was uploaded as a digest, a watch, or so many bytes."""
    target = request.target.decode()
    uploaded = await requests.body()
    if "watch=1" in target:
        await requests.send(h11.Response(status_code=200, headers=[("Content-Type", "application/json")]))
        while True:
            await requests.send(h11.Data(data=b'{"type":"BOOKMARK"}\n'))
            await asyncio.sleep(0.02)
    size = _SIZE.search(target)
    body = content(int(size[1])) if size else hashlib.sha256(uploaded).hexdigest().encode()
    await requests.answer(request, body)


async def serve_well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    requests = Requests(reader, writer)
    while True:
        await _well(requests, await requests.head())


class Faults:
    """A backend that fails about every other request, seldom in the same way."""

    def __init__(self, seed: int, reset: Callable[[asyncio.StreamWriter], None]) -> None:
        self._random = random.Random(seed)
        self._reset = reset
        self.counted: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = Requests(reader, writer)
        ways: list[Callable[[Requests, h11.Request], Coroutine[Any, Any, None]]] = [
            self._close_before,
            self._reset_before,
            self._half_head,
            self._half_body,
            self._reset_in_body,
            self._garbage,
            self._stall,
            self._slow,
            self._busy,
            self._last,
        ]
        while True:
            request = await requests.head()
            if self._random.random() < 0.5:
                await _well(requests, request)
                continue
            way = self._random.choice(ways)
            self.counted[way.__name__] += 1
            await way(requests, request)

    async def _close_before(self, requests: Requests, request: h11.Request) -> None:
        raise ConnectionError

    async def _reset_before(self, requests: Requests, request: h11.Request) -> None:
        if not requests.writer.is_closing():
            self._reset(requests.writer)
        raise ConnectionError

    async def _half_head(self, requests: Requests, request: h11.Request) -> None:
        await self._last_words(requests, b"HTTP/1.1 200 OK\r\nContent-Le")

    async def _half_body(self, requests: Requests, request: h11.Request) -> None:
        await self._last_words(requests, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")

    async def _reset_in_body(self, requests: Requests, request: h11.Request) -> None:
        requests.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await asyncio.sleep(0.01)
        await self._reset_before(requests, request)

    async def _garbage(self, requests: Requests, request: h11.Request) -> None:
        await self._last_words(requests, self._random.randbytes(200) + b"\r\n\r\n")

    async def _stall(self, requests: Requests, request: h11.Request) -> None:
        await asyncio.sleep(1.5)
        raise ConnectionError

    async def _slow(self, requests: Requests, request: h11.Request) -> None:
        await asyncio.sleep(0.2)
        await _well(requests, request)

    async def _busy(self, requests: Requests, request: h11.Request) -> None:
        await requests.body()
        fields = [("Content-Length", "0"), ("Retry-After", "1")]
        await requests.send(h11.Response(status_code=503, headers=fields), h11.EndOfMessage())

    async def _last(self, requests: Requests, request: h11.Request) -> None:
        uploaded = await requests.body()
        size = _SIZE.search(request.target.decode())
        body = content(int(size[1])) if size else hashlib.sha256(uploaded).hexdigest().encode()
        fields = [("Content-Length", str(len(body))), ("Connection", "close")]
        await requests.send(h11.Response(status_code=200, headers=fields), h11.Data(data=body), h11.EndOfMessage())
        raise ConnectionError

    async def _last_words(self, requests: Requests, data: bytes) -> None:
        requests.writer.write(data)
        await requests.writer.drain()
        await asyncio.sleep(0.01)
        raise ConnectionError
