"""What both ends of an HTTP/2 connection have in common: bytes into frames, frames into bytes (RFC 9113 4, 6)."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

from aggregator.proxy import http2_frames as frames
from aggregator.proxy.http2_calm import Calm
from aggregator.proxy.http2_frames import ConnectionFault
from aggregator.proxy.http2_hpack import NO_TABLE

FRAGMENTS = 128
"""CONTINUATION frames of one head, at most; a megabyte takes half of it."""


class Framing:
    """Collects what is to be sent until the turn of the event loop ends; takes apart what has come.

    `handlers` are called for the kinds of frames, in the order of their numbers, with (self, stream, flags, payload).
    """

    __slots__ = (
        "_calm",
        "_fragments",
        "_greeted",
        "_head",
        "_loop",
        "_no_table_said",
        "_out",
        "_owed",
        "_receivable",
        "closed",
        "transport",
    )

    receive_window: ClassVar[int]
    """What the peer may send on all streams before it hears that more is welcome."""
    handlers: ClassVar[tuple[Callable[[Any, int, int, bytes], None], ...]] = ()

    def __init__(self) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._no_table_said = False
        self._greeted = False
        """The peer's first SETTINGS have come."""
        self._receivable = self.receive_window
        self._owed = 0
        self._calm = Calm()
        self._head: tuple[int, bool] | None = None
        """Stream and END_STREAM of a head of which more has to come."""
        self._fragments: list[bytes] = []

    # Out

    def write(self, data: bytes) -> None:
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        out.append(data)

    def send(self, pieces: list[bytes]) -> None:
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        out += pieces

    def headers(self, ident: int, block: bytes, *, end: bool) -> None:
        if not self._no_table_said:
            self._no_table_said = True
            block = NO_TABLE + block
        self.send(frames.headers(ident, block, end=end))

    def _flush(self) -> None:
        out = self._out
        if out:
            if not self.closed:
                self.transport.write(b"".join(out))
            out.clear()

    def _widen_connection(self) -> None:
        """Allow the peer what it is to be allowed of all streams, at the start."""
        self.write(frames.window_update(0, self.receive_window - frames.DEFAULT_WINDOW))

    # In

    def _read(self, data: bytes, position: int) -> int:
        """Take all whole frames; where the rest begins. ConnectionFault."""
        size = len(data)
        handlers = self.handlers
        while size - position >= 9:
            word, flags, ident = frames.unpack_head(data, position)
            length = word >> 8
            if length > frames.FRAME_BYTES:
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "frame larger than announced")
            start = position + 9
            if size - start < length:
                break
            position = start + length
            kind = word & 0xFF
            ident &= 0x7FFFFFFF
            if self._head is not None and (kind != frames.CONTINUATION or ident != self._head[0]):
                raise ConnectionFault(frames.PROTOCOL_ERROR, "a frame between those of one head")
            if not self._greeted and kind != frames.SETTINGS:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "no SETTINGS at the start")
            if kind < frames.KINDS:
                handlers[kind](self, ident, flags, data[start:position])
            else:
                self._calm.trifle()
            if self.closed:
                return size
        return position

    def _content(self, flags: int, payload: bytes) -> bytes:
        """What a DATA frame carries, padding apart, with all of it counted against the connection's window."""
        size = len(payload)
        self._receivable -= size
        self._owed += size
        if self._receivable < 0:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "more than the connection's window")
        if self._owed >= self.receive_window // 2:
            # Given back at once: only a stream's own window holds its peer back, so that no stream delays another.
            self._receivable += self._owed
            self.write(frames.window_update(0, self._owed))
            self._owed = 0
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        if not payload and not flags & frames.END_STREAM:
            self._calm.trifle()
        return payload

    def _settings(self, ident: int, flags: int, payload: bytes) -> list[tuple[int, int]] | None:
        """The settings of a frame, with what is common to all of them checked; None for an acknowledgement."""
        if ident:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "an acknowledgement with content")
            if not self._greeted:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "no SETTINGS at the start")
            self._calm.trifle()
            return None
        if len(payload) % 6:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        self._calm.trifle(1 + len(payload) // 6)
        values = list(frames.read_settings(payload))
        for name, value in values:
            if name == frames.INITIAL_WINDOW_SIZE and value > frames.LARGEST_WINDOW:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE out of range")
            if name == frames.ENABLE_PUSH and value > 1:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
            if name == frames.MAX_FRAME_SIZE and not frames.FRAME_BYTES <= value < 1 << 24:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range")
        return values

    def _on_priority(self, ident: int, flags: int, payload: bytes) -> None:
        if not ident:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "PRIORITY of the connection")
        self._calm.trifle()
        if len(payload) != 5:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "PRIORITY of a wrong size")

    def _on_ping(self, ident: int, flags: int, payload: bytes) -> None:
        if ident:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "PING of a wrong size")
        self._calm.trifle()
        if flags & frames.ACK:
            self._pong(payload)
        else:
            self.write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _pong(self, payload: bytes) -> None:
        """An answer to a PING of ours."""
        raise NotImplementedError

    def _due(self, amount: int) -> bool:
        """Whether a frame of the peer, however small, is only the answer to what we have sent."""
        return False

    def _goaway(self, ident: int, payload: bytes) -> tuple[int, int]:
        """The last stream that the peer has looked at or will, and why it goes."""
        if ident:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "GOAWAY of a wrong size")
        self._calm.trifle()
        return frames.number(payload[:4]), int.from_bytes(payload[4:8], "big")

    def _reset_code(self, payload: bytes) -> int:
        """Why the peer breaks a stream off."""
        if len(payload) != 4:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        return int.from_bytes(payload, "big")

    def _increment(self, ident: int, payload: bytes) -> int:
        """What a WINDOW_UPDATE adds."""
        if len(payload) != 4:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        increment = frames.number(payload)
        if not self._due(increment) and increment < 256:
            self._calm.trifle()
        if not ident and not increment:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        return increment
