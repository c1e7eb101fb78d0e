"""What the exchanges on one HTTP/2 connection to a backend share: room, windows, and how the connection ends."""

import time
from typing import TYPE_CHECKING

from aggregator.proxy import http2_frames as frames
from aggregator.proxy.failures import UpstreamFailure
from aggregator.proxy.http2_frames import ConnectionFault
from aggregator.proxy.http2_framing import Framing
from aggregator.proxy.shared_stream import NOWHERE, SharedStream

if TYPE_CHECKING:
    from aggregator.proxy.sharing import Sharing

_SILENT_SECONDS = 5.0
"""A backend that says nothing for so long while it has requests is asked whether it is there; as long it may take."""
_UNREAD_SECONDS = 30.0
"""How long a backend may leave unread what waits for it. It is read nevertheless: both waiting for the other to read
would be for ever."""
_LAST_IDENT = frames.LARGEST_WINDOW - 2
_PING = b"there?\0\0"


class SharedLink(Framing):
    """The writing half of a connection. `shared_connection` adds the reading half."""

    __slots__ = (
        "_blocked_at",
        "_last_words",
        "_most",
        "_next",
        "_pinged_at",
        "_read_at",
        "_reserved",
        "_sharing",
        "_touched",
        "answered_tick",
        "due",
        "endpoint",
        "idle_tick",
        "initial_window",
        "leaving",
        "limit",
        "proven",
        "streams",
        "waiting",
        "window",
        "write_blocked",
    )

    def __init__(self, sharing: "Sharing", most: int) -> None:
        """`most` requests at a time, if the backend allows as many."""
        super().__init__()
        self.endpoint = endpoint = sharing.endpoint
        self.streams: dict[int, SharedStream] = {}
        self.waiting: dict[SharedStream, None] = {}
        """Streams whose own window is open and whose data still has to wait, in order."""
        self.limit = most
        self.window = frames.DEFAULT_WINDOW
        """What the backend takes of all bodies."""
        self.initial_window = frames.DEFAULT_WINDOW
        self.write_blocked = False
        self.leaving = False
        """Takes no more requests."""
        self.proven = False
        """An answer has come over it."""
        self.idle_tick = self.answered_tick = endpoint.owner.tick
        self.due = 0
        """What the backend may say in small frames because of what we have sent: Go's servers up to 1.19 give back both
        windows with each read of a body, however little it was."""
        self._sharing = sharing
        self._most = most
        self._next = 1
        self._reserved = 0
        """Streams that have been promised and have no request yet."""
        self._touched: dict[SharedStream, None] = {}
        """Streams that the current read has brought something for."""
        self._read_at = time.monotonic()
        self._pinged_at = 0.0
        self._blocked_at = 0.0
        self._last_words: UpstreamFailure | None = None
        """Why the backend goes away."""

    # For the endpoint

    @property
    def busy(self) -> int:
        """Requests in progress, and those that are about to be."""
        return len(self.streams) + self._reserved

    @property
    def room(self) -> bool:
        return not self.leaving and not self.closed and len(self.streams) + self._reserved < self.limit

    def reserve(self) -> SharedStream:
        """A stream for one exchange."""
        self._reserved += 1
        return SharedStream(self)

    def leave(self) -> None:
        """Take no more requests; close after the last one."""
        self.leaving = True
        self._close_if_done()

    def look(self, now: float, idle_since_tick: int) -> None:
        """Once per sweep: close when unused since before that tick, and find out whether a silent backend is there."""
        if self.closed:
            return
        if not self.busy:
            if self.idle_tick < idle_since_tick:
                self.leave()
        elif self.write_blocked and now - self._blocked_at >= _UNREAD_SECONDS:
            self._end(UpstreamFailure("http2: the backend does not read"))
        elif self._pinged_at:
            if now - self._pinged_at >= _SILENT_SECONDS:
                self._end(UpstreamFailure("http2: client connection lost"))
        elif now - self._read_at >= _SILENT_SECONDS:
            self._pinged_at = now
            self.write(frames.frame(frames.PING, 0, 0, _PING))

    def abort(self) -> None:
        self._end(None)

    # For the streams

    def start(self, stream: SharedStream, block: bytes, *, end: bool) -> None:
        """Send a request's head."""
        self._reserved -= 1
        if self.closed or self.leaving:
            # Between the reservation and now the backend has said that it goes.
            stream.ident = NOWHERE
            self._loop.call_soon(self._too_late, stream)
            return
        if not self.streams:
            self._read_at = time.monotonic()
        stream.ident = ident = self._next
        stream.window = self.initial_window
        self.streams[ident] = stream
        self._next = ident + 2
        if ident >= _LAST_IDENT:
            self.leaving = True
        self.due += 1
        self.headers(ident, block, end=end)

    def pass_over(self, stream: SharedStream) -> None:
        """Do not send a request that could do harm to the others here."""
        self._reserved -= 1
        stream.ident = NOWHERE
        self._loop.call_soon(self._too_large, stream)

    def _too_large(self, stream: SharedStream) -> None:
        if not stream.over:
            stream.unshared()

    def _too_late(self, stream: SharedStream) -> None:
        if not stream.over:
            stream.unprocessed("http2: the connection was closed before the request was sent")

    def left(self, stream: SharedStream, code: int) -> None:
        """A stream is over; the backend is told with this code, unless it is ENDED."""
        ident = stream.ident
        if not ident:
            self._reserved -= 1
        elif self.streams.get(ident) is stream:
            del self.streams[ident]
            self.waiting.pop(stream, None)
            if code != frames.ENDED:
                self.write(frames.rst_stream(ident, code))
        self.idle_tick = self.endpoint.owner.tick
        if self.leaving:
            self._close_if_done()
        self._sharing.left(self, stream)

    # Windows

    def _due(self, amount: int) -> bool:
        left = self.due - amount
        self.due = max(left, 0)
        return left >= 0

    def _initial_window(self, value: int) -> None:
        change = value - self.initial_window
        self.initial_window = value
        for stream in list(self.streams.values()):
            self._widen(stream, change)

    def _widen(self, stream: SharedStream, increment: int) -> None:
        stream.window += increment
        if stream.window > frames.LARGEST_WINDOW:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "a window above its maximum")
        if increment > 0 and stream.waits:
            stream.push()

    def pause_writing(self) -> None:
        self.write_blocked = True
        self._blocked_at = time.monotonic()

    def resume_writing(self) -> None:
        self.write_blocked = False
        self._pump()

    def _pump(self) -> None:
        """Give every stream that waits for the connection its turn."""
        waiting = self.waiting
        for stream in list(waiting):
            if self.window <= 0 or self.write_blocked:
                return
            if stream in waiting:
                del waiting[stream]
                stream.push()

    # Ends

    def _close_if_done(self) -> None:
        if self.leaving and not self.busy and not self.closed:
            self.write(frames.goaway(0, frames.NO_ERROR))
            self._flush()
            self.closed = True
            self.transport.close()

    def _fail(self, code: int, words: str) -> None:
        """The backend does not keep to the protocol: tell it, and do without."""
        self._sharing.decline(words)
        self.write(frames.goaway(0, code, words))
        self._flush()
        self.closed = self.leaving = True
        self.transport.close()
        self._drop(UpstreamFailure(f"malformed HTTP response: {words}"))

    def _end(self, error: BaseException | None) -> None:
        """The connection is of no more use."""
        if not self.closed:
            self.closed = True
            self.transport.abort()
        self.leaving = True
        self._drop(error or self._last_words)

    def _drop(self, error: BaseException | None) -> None:
        self._touched.clear()
        for stream in list(self.streams.values()):
            stream.lost(error)
