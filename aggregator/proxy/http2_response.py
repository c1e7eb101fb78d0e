"""The response of an HTTP/2 stream: the client's half of an exchange, as frames."""

import time
from typing import TYPE_CHECKING

from aggregator.proxy import http2_frames as frames
from aggregator.proxy.answers import CLIENT_CLOSED
from aggregator.proxy.headers import ResponseHead
from aggregator.proxy.http2_hpack import encode_line, encode_name, encode_status, encode_value
from aggregator.proxy.routed import RoutedRequest
from aggregator.proxy.states import ACTIVE, CLOSED, DRAINING

if TYPE_CHECKING:
    from aggregator.proxy.http2_link import Http2Link

_HELD_BYTES = 256 * 1024
"""What may wait for the client's windows before the upstream is no longer read."""
_LOW_BYTES = _HELD_BYTES // 4
_FLUSH_SECONDS = 60.0
"""How long a client may take to read what is left of a complete response."""

_AUDIT_ID = encode_name(b"audit-id")
_CACHE_CONTROL = encode_line(b"cache-control: no-cache, private")
_CONTENT_LENGTH = encode_name(b"content-length")


class Http2Response(RoutedRequest):
    """State of one stream, and its response half. `http2_stream` adds the request half.

    In state DRAINING only the rest of a complete response is left to be sent.
    """

    __slots__ = (
        "_ended",
        "_head",
        "_held",
        "_held_at",
        "_held_since",
        "_trailers",
        "connection",
        "ident",
        "remote_closed",
        "window",
    )

    def __init__(self, connection: "Http2Link", ident: int, *, end: bool) -> None:
        super().__init__(connection.plane)
        self.connection = connection
        self.ident = ident
        self.remote_closed = end
        """The client has ended its side."""
        self.window = connection.initial_window
        """What the client takes of the response's body."""
        self._head = b""
        """The response's head, encoded and not sent yet."""
        self._held = b""
        """What of the response's body waits for the client, from `_held_at` on."""
        self._held_at = 0
        self._held_since = 0.0
        """When the client took something last, while something waits for it."""
        self._ended = False
        self._trailers = b""

    # Exchange: called by the upstream connection

    def response_informational(self, code: int, head: ResponseHead) -> None:
        block = b"".join((encode_status(code), *(encode_line(line[:-2]) for line in head.lines)))
        self.connection.headers(self.ident, block, end=False)

    def _write_head(self, code: int, head: ResponseHead, has_body: bool) -> None:
        pieces = [encode_status(code), *(encode_line(line[:-2]) for line in head.lines)]
        if head.content_length >= 0 and code != 204:
            pieces.append(_CONTENT_LENGTH + encode_value(b"%d" % head.content_length))
        self._chunk_out = has_body and head.content_length < 0
        self._head = self._block(pieces, head.cache_control)

    def _block(self, pieces: list[bytes], cache_control: bool) -> bytes:
        pieces.append(_AUDIT_ID + encode_value(self.audit_id))
        if not cache_control:
            pieces.append(_CACHE_CONTROL)
        return b"".join(pieces)

    def _encode_lines(self, code: int, lines: list[bytes], cache_control: bool) -> bytes:
        self.code = code
        self.head_sent = True
        self._replay = None
        pieces = [encode_status(code), *map(encode_line, lines[1:])]
        return self._block(pieces, cache_control)

    def response_lines(self, code: int, lines: list[bytes], cache_control: bool) -> None:
        self._head = self._encode_lines(code, lines, cache_control)

    def response_whole(self, code: int, lines: list[bytes], cache_control: bool, body: bytes) -> None:
        self._head = self._encode_lines(code, lines, cache_control)
        if body:
            self._out.append(body)
        self.response_end(b"")

    def response_body(self, data: bytes) -> None:
        self._at_line_end = data[-1] == 10
        self._out.append(data)

    def response_end(self, trailers: bytes) -> None:
        self.upstream = None
        self._ended = True
        self._trailers = trailers
        self.push()
        self._finish()

    def flush(self) -> None:
        self.push()

    def push(self) -> None:
        """Send as much of the response as client and connection take."""
        connection = self.connection
        out = self._out
        held = self._held
        at = self._held_at
        if out:
            held = b"".join((memoryview(held)[at:], *out)) if held or len(out) > 1 else out[0]
            out.clear()
            at = 0
        size = len(held) - at
        last = self._ended and not self._trailers
        if self._head:
            block, self._head = self._head, b""
            connection.headers(self.ident, block, end=last and not size)
            if last and not size:
                return
        room = min(self.window, connection.window)
        if size and (size > room or connection.write_blocked):
            self._push_part(held, at, 0 if connection.write_blocked else max(room, 0))
            return
        self._held = b""
        self._held_at = 0
        if size or last:
            self.window -= size
            connection.window -= size
            connection.send(frames.data(self.ident, held[at:] if at else held, end=last))
        if self._ended:
            if self._trailers:
                lines = filter(None, self._trailers.split(b"\r\n"))
                connection.headers(self.ident, b"".join(map(encode_line, lines)), end=True)
        elif self.upstream is not None:
            self.upstream.resume()

    def _push_part(self, held: bytes, at: int, room: int) -> None:
        connection = self.connection
        if room or not self._held:
            self._held_since = time.monotonic()
            connection.plane.unread.add(connection)
        if room:
            self.window -= room
            connection.window -= room
            connection.send(frames.data(self.ident, held[at : at + room], end=False))
        self._held = held
        self._held_at = at = at + room
        if self.window > 0:
            connection.waiting[self] = None
        upstream = self.upstream
        if upstream is not None:
            left = len(held) - at
            if left > _HELD_BYTES:
                upstream.pause()
            elif left < _LOW_BYTES:
                upstream.resume()

    def window_opened(self) -> None:
        """The client takes more."""
        if self._held:
            self.push()
            if self.state == DRAINING and not self._held:
                self.connection.ended(self)

    def unread(self, now: float) -> bool:
        """Break the stream off if its client has taken nothing for too long; whether something waits for it."""
        if not self._held:
            return False
        if not self.long_running and 0 < self.plane.limits.write_seconds < now - self._held_since:
            self._log_failure("response broken off", "the client does not read")
            self.reset(frames.CANCEL)
            return False
        return True

    # Ends

    def _write_reply(self, answer: bytes) -> None:
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")[1:]
        # `encode_line` would remember the audit id, which never comes again, at the price of those that do.
        pieces = [encode_line(line) for line in lines if not line.startswith((b"Connection:", b"Audit-Id:"))]
        self._head = b"".join((encode_status(self.code), _AUDIT_ID, encode_value(self.audit_id), *pieces))
        if body:
            self._out.append(body)
        self._ended = True
        self._trailers = b""
        self.push()

    def _forget_request(self) -> None:
        """Nothing more of the request is of interest."""
        raise NotImplementedError

    def _expire_at(self, deadline: float) -> None:
        self.deadline = deadline
        if deadline < self.connection.deadline:
            self.connection.deadline = deadline

    def _finish(self) -> None:
        now = self._account()
        self._replay = None
        self._forget_request()
        if self._held:
            self.state = DRAINING
            self._expire_at(now + _FLUSH_SECONDS)
        else:
            self.state = CLOSED
            self.connection.ended(self)

    def abort(self) -> None:
        self.reset(frames.INTERNAL_ERROR)

    def reset(self, code: int) -> None:
        """Break the stream off, so that the client sees that the response is not complete."""
        self.gone()
        self.connection.reset(self, code)

    def gone(self) -> None:
        """The client has gone, or is sent away: give up what is still in progress."""
        if self.state == ACTIVE:
            self.code = self.code or CLIENT_CLOSED
            self._account()
        self.state = CLOSED
        self._held = b""
        self._out.clear()
        self._forget_request()
        self._drop_upstream()

    def client_gone(self) -> None:
        if self.state == ACTIVE:
            self.code = CLIENT_CLOSED
        self.gone()

    def expired(self) -> None:
        if self.state == ACTIVE:
            super().expired()
        else:
            self.reset(frames.CANCEL)

    def end_watch(self) -> bool:
        if self.state != ACTIVE or not self.long_running or self._held or self._out:
            return False
        if not (self.head_sent and self._chunk_out and self._at_line_end):
            return False
        self._drop_upstream()
        self.response_end(b"")
        return True
