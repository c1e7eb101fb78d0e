"""One HTTP/1.1 request and its response: what an ASGI application receives and sends."""

import asyncio
from collections import deque
from typing import Final, Protocol

from apiserver.asgi import AbortResponse, Message, Scope
from apiserver.http1_heads import Framing, chunk, response_head

MAX_BUFFERED: Final = 64 * 1024
"""Bytes of a request body that wait for the application before no more is read from the client."""
_MAX_DROPPED: Final = 1000
"""Messages an application may send to a client that has left before it is ended."""
_JOINED: Final = 16 * 1024
"""Larger bodies are written apart from their head: copying them costs more than a second write."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Wire(Protocol):
    """The connection as its exchanges see it."""

    def write(self, data: bytes) -> None: ...

    async def writable(self) -> None:
        """Return once the client has taken enough of what was written, or is gone."""
        ...

    def body_taken(self) -> None:
        """The application has taken what was buffered."""
        ...

    @property
    def closes(self) -> bool:
        """Whether the connection is to end after this response."""
        ...

    @property
    def date(self) -> bytes: ...


class Exchange:
    """Fed by the connection, used by the application."""

    __slots__ = (
        "_changed",
        "_chunks",
        "_delivered",
        "_dropped",
        "_framing",
        "_start",
        "_wire",
        "buffered",
        "complete",
        "ended",
        "expects_continue",
        "gone",
        "keep_alive",
        "left",
        "scope",
        "sent",
    )

    def __init__(self, wire: Wire, scope: Scope, *, keep_alive: bool, expects_continue: bool) -> None:
        self._wire = wire
        self.scope = scope
        self.keep_alive = keep_alive
        """The client will use its connection again, and so may we. The response's head can still end that."""
        self.expects_continue = expects_continue
        """The client waits for a word before it sends the body."""
        self.buffered = 0
        self.complete = False
        """The request has arrived whole."""
        self.left = False
        """The client sends no more, and is taken to have left."""
        self.gone = False
        """Nothing can be sent any more."""
        self.ended = False
        """The response is complete."""
        self.sent = 0
        """Bytes of the response's body."""
        self._chunks: deque[bytes] = deque()
        self._delivered = False
        self._dropped = 0
        self._start: Message | None = None
        self._framing: Framing | None = None
        self._changed: asyncio.Event | None = None

    # What the connection tells

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self.buffered += len(data)
        self._wake()

    def finish_request(self) -> None:
        self.complete = True
        self._wake()

    def leave(self, *, gone: bool) -> None:
        """The client has left; `gone` if nothing can be sent to it either."""
        self.left = True
        self.gone = self.gone or gone
        self._wake()

    def discard(self) -> None:
        """The application has ended: nothing more will be read."""
        self._chunks.clear()
        self.buffered = 0

    @property
    def head_sent(self) -> bool:
        return self._framing is not None

    @property
    def cut_short(self) -> bool:
        """The client cannot know from the framing that a response that ended here is not whole."""
        framing = self._framing
        return framing is not None and not framing.chunked and framing.length < 0

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    # What the application calls

    async def receive(self) -> Message:
        if not self._delivered:
            if self.expects_continue and not (self.head_sent or self.complete or self._chunks or self.left):
                self._wire.write(_CONTINUE)
                self.expects_continue = False
            while not (self._chunks or self.complete or self.left):
                await self._change()
            if self._chunks or self.complete:
                return self._body()
        while not (self.left or self.ended):
            await self._change()
        return {"type": "http.disconnect"}

    def _body(self) -> Message:
        body = b"".join(self._chunks)
        self._chunks.clear()
        self.buffered = 0
        self._delivered = self.complete
        self._wire.body_taken()
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        self._changed.clear()
        await self._changed.wait()

    async def send(self, message: Message) -> None:
        """As ASGI says. ValueError and RuntimeError for what cannot be sent; AbortResponse when nobody listens."""
        if self.gone or self.ended:
            await self._drop()
            return
        kind = message["type"]
        if kind == "http.response.body":
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
            await self._wire.writable()
        elif kind == "http.response.start":
            if self._start is not None:
                raise RuntimeError("the response has begun already")
            self._start = message
        else:
            raise RuntimeError(f"unexpected message {kind!r}")

    def _send_body(self, body: bytes, *, more: bool) -> None:
        head = b""
        if self._framing is None:
            self._framing = self._begin(-1 if more else len(body))
            head = self._framing.head
        framing = self._framing
        if framing.bodiless:
            body = b""
        self.sent += len(body)
        if framing.length >= 0 and not framing.bodiless:
            if self.sent > framing.length:
                raise RuntimeError(f"the body is longer than its Content-Length of {framing.length}")
            if not more and self.sent < framing.length:
                raise RuntimeError(f"the body is shorter than its Content-Length of {framing.length}")
        self._write(head, body, framing, more=more)
        if not more:
            self.ended = True
            self._wake()

    def _begin(self, whole: int) -> Framing:
        if self._start is None:
            raise RuntimeError("a body was sent before its response began")
        # An unread body that the client holds back may or may not follow: only an end of the connection is clear.
        unclear = self.expects_continue and not self.complete
        framing = response_head(
            self._start["status"],
            self._start.get("headers", ()),
            method=self.scope["method"],
            version=self.scope["http_version"],
            whole=whole,
            close=unclear or self._wire.closes or not self.keep_alive,
            date=self._wire.date,
        )
        self.keep_alive = not framing.close
        return framing

    def _write(self, head: bytes, body: bytes, framing: Framing, *, more: bool) -> None:
        write = self._wire.write
        if framing.chunked:
            pieces = [head, *(chunk(body) if body else ()), b"" if more else b"0\r\n\r\n"]
            write(b"".join(pieces))
        elif head and len(body) <= _JOINED:
            write(head + body)
        else:
            if head:
                write(head)
            if body:
                write(body)

    async def _drop(self) -> None:
        self._dropped += 1
        if self._dropped > _MAX_DROPPED:
            raise AbortResponse
        # Without this an application that only sends would never let the loop run again.
        await asyncio.sleep(0)
