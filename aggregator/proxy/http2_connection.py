"""One HTTP/2 connection of a client: frames in, frames out (RFC 9113). What a request is, `http2_stream` knows.

No task, no future and no queue per request. What one turn of the event loop brings, from the client and from all
upstreams, leaves with one write. A head that looks like an earlier one costs one dictionary lookup as long as the
dynamic table of the header compression is the same.
"""

import asyncio
import time
from math import inf
from typing import cast

from aggregator.proxy import http2_frames as frames
from aggregator.proxy.http2_frames import ConnectionFault
from aggregator.proxy.http2_heads import Http2Heads
from aggregator.proxy.http2_link import LEAVING_PING
from aggregator.proxy.http2_stream import STREAM_WINDOW
from aggregator.proxy.plane import Plane
from apiserver.peer import peer_certificate

_WRITE_BUFFER = 256 * 1024


class Http2Connection(Http2Heads, asyncio.Protocol):
    """Serves one client."""

    __slots__ = ("_opening", "_rest")

    receive_window = 1024 * 1024

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane)
        self._rest = b""
        self._opening = frames.PREFACE
        """What of the preface has not come yet."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        plane = self.plane
        plane.connections.add(self)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0].encode() if isinstance(peer, tuple) else b"127.0.0.1"
        self.forwarded_for = b"X-Forwarded-For: %b\r\n" % self.peer
        self.certificate = peer_certificate(transport.get_extra_info("ssl_object"))
        self.per_request_identity = plane.authenticator.reads_headers(self.certificate)
        self._idle_since = self._partial_since = time.monotonic()
        self.deadline = self._idle_since + plane.limits.head_seconds
        self.transport.set_write_buffer_limits(_WRITE_BUFFER)
        announced = {
            frames.MAX_CONCURRENT_STREAMS: plane.limits.streams,
            frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            frames.MAX_HEADER_LIST_SIZE: plane.limits.head_bytes,
        }
        self.write(frames.settings(announced))
        self._widen_connection()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._drop_streams()
        self.plane.forget(self)

    def eof_received(self) -> None:
        """The client sends no more: nor can it be answered over TLS."""

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        if self._rest:
            data = self._rest + data
            self._rest = b""
        try:
            position = self._open(data) if self._opening else 0
            position = self._read(data, position)
        except ConnectionFault as fault:
            self._fail(fault.code, str(fault))
            return
        self._keep(data, position)
        touched = self._touched
        if touched:
            for stream in touched:
                stream.send_upstream()
            touched.clear()

    def _keep(self, data: bytes, position: int) -> None:
        """Keep what is not a whole frame yet. A head has to be complete in time; a body has its request's time."""
        if position < len(data):
            self._rest = rest = data[position:]
            if self._head is None:
                if rest[3:4] == b"\0":
                    self._partial_since = 0.0
                elif position or not self._partial_since:
                    self._begin_partial()
        elif self._head is None and self._greeted:
            self._partial_since = 0.0

    def _open(self, data: bytes) -> int:
        wanted = self._opening
        got = data[: len(wanted)]
        if not wanted.startswith(got):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "no HTTP/2 preface")
        self._opening = wanted[len(got) :]
        return len(got)

    # Other frames

    def _on_data(self, ident: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        payload = self._content(flags, payload)
        stream = self.streams.get(ident)
        if stream is None:
            self._check_opened(ident)
            if ident not in self._resets:
                self._refuse(ident, frames.STREAM_CLOSED)
        elif stream.remote_closed:
            self._fault(stream, frames.STREAM_CLOSED)
        else:
            code = stream.data(payload, size, end=bool(flags & frames.END_STREAM))
            if code:
                self._fault(stream, code)
            else:
                self._touched[stream] = None

    def _on_rst_stream(self, ident: int, flags: int, payload: bytes) -> None:
        self._reset_code(payload)
        self._check_opened(ident)
        stream = self.streams.get(ident)
        if stream is None:
            self._calm.trifle()
            return
        self._calm.fault()
        stream.client_gone()
        self._forget(stream)

    def _on_settings(self, ident: int, flags: int, payload: bytes) -> None:
        values = self._settings(ident, flags, payload)
        if values is None:
            return
        if not self._greeted:
            self._greeted = True
            self._partial_since = 0.0
        # In front of what they allow: a peer may take it as allowed from the acknowledgement on (RFC 9113 6.5.3).
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        for name, value in values:
            if name == frames.INITIAL_WINDOW_SIZE:
                self._initial_window(value)

    def _initial_window(self, value: int) -> None:
        change = value - self.initial_window
        self.initial_window = value
        for stream in list(self.streams.values()):
            stream.window += change
            if stream.window > frames.LARGEST_WINDOW:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "a window above its maximum")
            if change > 0:
                stream.window_opened()

    def _on_push_promise(self, ident: int, flags: int, payload: bytes) -> None:
        raise ConnectionFault(frames.PROTOCOL_ERROR, "PUSH_PROMISE of a client")

    def _pong(self, payload: bytes) -> None:
        if payload == LEAVING_PING:
            self._leave()

    def _on_goaway(self, ident: int, flags: int, payload: bytes) -> None:
        # It forbids us to open streams, which we never do; the client closes when it has its answers.
        self._goaway(ident, payload)

    def _on_window_update(self, ident: int, flags: int, payload: bytes) -> None:
        increment = self._increment(ident, payload)
        if not ident:
            self.window += increment
            if self.window > frames.LARGEST_WINDOW:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "a window above its maximum")
            if self.waiting:
                self._pump()
            return
        stream = self.streams.get(ident)
        if stream is None:
            self._check_opened(ident)
        elif not increment:
            self._fault(stream, frames.PROTOCOL_ERROR)
        elif stream.window + increment > frames.LARGEST_WINDOW:
            self._fault(stream, frames.FLOW_CONTROL_ERROR)
        else:
            stream.window += increment
            stream.window_opened()

    def expired(self) -> None:
        """Some deadline has passed, of the connection or of a stream."""
        if self.closed:
            self.transport.abort()
            return
        now = time.monotonic()
        limits = self.plane.limits
        if self._partial_since and now >= self._partial_since + limits.head_seconds:
            self._fail(frames.ENHANCE_YOUR_CALM, "the rest of a head did not come in time")
            return
        if now >= self._leaving_at:
            self._leave()
        for stream in list(self.streams.values()):
            if stream.deadline <= now:
                stream.expired()
        if self.transport.is_closing():
            return
        if not self.streams and now >= self._idle_since + limits.idle_seconds:
            self._fail(frames.NO_ERROR, "")
            return
        self.deadline = min((stream.deadline for stream in self.streams.values()), default=inf)
        if not self.streams:
            self.deadline = self._idle_since + limits.idle_seconds
        if self._partial_since:
            self.deadline = min(self.deadline, self._partial_since + limits.head_seconds)
        self.deadline = min(self.deadline, self._leaving_at)


Http2Connection.handlers = (
    Http2Connection._on_data,
    Http2Connection._on_headers,
    Http2Connection._on_priority,
    Http2Connection._on_rst_stream,
    Http2Connection._on_settings,
    Http2Connection._on_push_promise,
    Http2Connection._on_ping,
    Http2Connection._on_goaway,
    Http2Connection._on_window_update,
    Http2Connection._on_continuation,
)
