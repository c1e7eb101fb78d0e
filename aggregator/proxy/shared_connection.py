"""One HTTP/2 connection to a backend, shared by many exchanges: frames in, frames out (RFC 9113).

What an exchange is, `shared_stream` knows.
"""

import asyncio
import time
from typing import TYPE_CHECKING, cast

from aggregator.proxy import http2_frames as frames
from aggregator.proxy.failures import UpstreamFailure
from aggregator.proxy.http2_frames import ConnectionFault
from aggregator.proxy.http2_framing import FRAGMENTS
from aggregator.proxy.http2_hpack import PATIENCE, Decoder, HpackError, TooLarge
from aggregator.proxy.shared_link import SharedLink
from aggregator.proxy.shared_messages import MalformedResponse
from aggregator.proxy.shared_stream import STREAM_WINDOW, SharedStream

if TYPE_CHECKING:
    from aggregator.proxy.sharing import Sharing

_WRITE_BUFFER = 256 * 1024
_AT_FAULT = frozenset(
    (
        frames.PROTOCOL_ERROR,
        frames.FLOW_CONTROL_ERROR,
        frames.FRAME_SIZE_ERROR,
        frames.COMPRESSION_ERROR,
        frames.ENHANCE_YOUR_CALM,
        frames.INADEQUATE_SECURITY,
        frames.HTTP_1_1_REQUIRED,
    )
)
"""Codes of a backend that dislikes what it was sent: it would the next time, and all who share would pay again."""


class SharedConnection(SharedLink, asyncio.Protocol):
    """Carries as many requests at a time as both sides allow."""

    __slots__ = ("_decoder", "_rest")

    receive_window = 16 * 1024 * 1024

    def __init__(self, sharing: "Sharing", most: int) -> None:
        """`most` requests at a time, if the backend allows as many."""
        super().__init__(sharing, most)
        self._rest = b""
        self._decoder = Decoder(self.endpoint.head_bytes)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(_WRITE_BUFFER)
        announced = {
            frames.ENABLE_PUSH: 0,
            frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            frames.MAX_HEADER_LIST_SIZE: self.endpoint.head_bytes,
        }
        self.write(frames.PREFACE + frames.settings(announced))
        self._widen_connection()

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        self._read_at = time.monotonic()
        self._pinged_at = 0.0
        if self._rest:
            data = self._rest + data
        try:
            position = self._read(data, 0)
        except ConnectionFault as fault:
            self._fail(fault.code, str(fault))
            return
        self._rest = data[position:] if position < len(data) else b""
        touched = self._touched
        if touched:
            for stream in list(touched):
                stream.flush()
            touched.clear()

    def eof_received(self) -> None:
        """The backend sends no more: asyncio closes the transport."""

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)
        self._sharing.lost(self)

    # Frames

    def _on_data(self, ident: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        payload = self._content(flags, payload)
        stream = self._stream(ident)
        if stream is not None:
            self._touched[stream] = None
            try:
                stream.data(payload, size, end=bool(flags & frames.END_STREAM))
            except MalformedResponse as error:
                stream.malformed(str(error))

    def _stream(self, ident: int) -> SharedStream | None:
        """The stream of a frame; None if it is over already."""
        stream = self.streams.get(ident)
        if stream is None and (not ident & 1 or ident >= self._next):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a frame on a stream that is not open")
        return stream

    def _on_headers(self, ident: int, flags: int, payload: bytes) -> None:
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            payload = frames.header_block(flags, payload)
        end = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._on_fields(ident, end, payload)
        else:
            self._head = (ident, end)
            self._fragments = [payload]

    def _on_continuation(self, ident: int, flags: int, payload: bytes) -> None:
        if self._head is None:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "CONTINUATION of nothing")
        fragments = self._fragments
        fragments.append(payload)
        # One that is merely too large is the fault of its stream: the decoder says so, once it is here.
        if len(fragments) > FRAGMENTS or sum(map(len, fragments)) > self.endpoint.head_bytes * PATIENCE:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "head too large")
        if flags & frames.END_HEADERS:
            ident, end = self._head
            self._head = None
            self._fragments = []
            self._on_fields(ident, end, b"".join(fragments))

    def _on_fields(self, ident: int, end: bool, block: bytes) -> None:
        stream = self._stream(ident)
        try:
            fields = self._decoder.decode(block)
        except TooLarge:
            fields = None
        except HpackError as error:
            raise ConnectionFault(frames.COMPRESSION_ERROR, str(error)) from None
        if stream is None:
            return
        self._touched[stream] = None
        self.answered_tick = self.endpoint.owner.tick
        if fields is None:
            words = f"server response headers exceeded {self.endpoint.head_bytes} bytes"
            stream.broken(words, frames.CANCEL)
            return
        try:
            stream.fields(fields, end=end)
        except MalformedResponse as error:
            stream.malformed(str(error))

    def _on_rst_stream(self, ident: int, flags: int, payload: bytes) -> None:
        code = self._reset_code(payload)
        stream = self._stream(ident)
        if code == frames.HTTP_1_1_REQUIRED:
            self._sharing.decline("the backend wants HTTP/1.1")
        if stream is not None:
            stream.reset(code)
        elif not self._due(1):
            self._calm.trifle()

    def _on_settings(self, ident: int, flags: int, payload: bytes) -> None:
        values = self._settings(ident, flags, payload)
        if values is None:
            return
        self._greeted = True
        # In front of what they allow: a peer may take it as allowed from the acknowledgement on (RFC 9113 6.5.3).
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        for name, value in values:
            if name == frames.INITIAL_WINDOW_SIZE:
                self._initial_window(value)
            elif name == frames.MAX_CONCURRENT_STREAMS:
                self.limit = min(value, self._most)
                self._sharing.usual = max(self.limit, 1)
                if not value and not self.proven:
                    # Later on it is a pause of this connection: RFC 9113 5.1.2 calls it short.
                    self._sharing.decline("the backend allows no streams")
            elif name == frames.ENABLE_PUSH and value:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "ENABLE_PUSH of a server")

    def _on_push_promise(self, ident: int, flags: int, payload: bytes) -> None:
        raise ConnectionFault(frames.PROTOCOL_ERROR, "PUSH_PROMISE, which was not asked for")

    def _pong(self, payload: bytes) -> None:
        """It has been read: that is all we wanted to know."""

    def _on_goaway(self, ident: int, flags: int, payload: bytes) -> None:
        last, code = self._goaway(ident, payload)
        words = f"http2: server sent GOAWAY; LastStreamID={last}, ErrCode={frames.error_name(code)}"
        self._last_words = UpstreamFailure(words)
        self.leaving = True
        if code in _AT_FAULT:
            self._sharing.decline(words)
        self._sharing.leaves()
        for stream in [item for item in self.streams.values() if item.ident > last]:
            stream.unprocessed(words)
        self._close_if_done()

    def _on_window_update(self, ident: int, flags: int, payload: bytes) -> None:
        increment = self._increment(ident, payload)
        if not ident:
            self.window += increment
            if self.window > frames.LARGEST_WINDOW:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "a window above its maximum")
            self._pump()
            return
        stream = self._stream(ident)
        if stream is None:
            return
        if not increment:
            stream.malformed("WINDOW_UPDATE of nothing")
        else:
            self._widen(stream, increment)


SharedConnection.handlers = (
    SharedConnection._on_data,
    SharedConnection._on_headers,
    SharedConnection._on_priority,
    SharedConnection._on_rst_stream,
    SharedConnection._on_settings,
    SharedConnection._on_push_promise,
    SharedConnection._on_ping,
    SharedConnection._on_goaway,
    SharedConnection._on_window_update,
    SharedConnection._on_continuation,
)
