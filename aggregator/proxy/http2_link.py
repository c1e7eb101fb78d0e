"""What the streams of one HTTP/2 connection share: who the client is, what it takes, and how the connection ends."""

import time
from math import inf
from typing import TYPE_CHECKING

from aggregator.proxy import http2_frames as frames
from aggregator.proxy.decide import NOBODY, Identity
from aggregator.proxy.http2_framing import Framing
from aggregator.proxy.plane import Plane

if TYPE_CHECKING:
    from aggregator.proxy.http2_response import Http2Response
    from aggregator.proxy.http2_stream import Http2Stream

_REMEMBERED_RESETS = 1000
_LAST_WORDS_SECONDS = 5.0
"""How long a client may take to read why its connection is closed."""
_LEAVING_SECONDS = 1.0
"""How long requests that were on their way when the client was asked to leave are still taken, at most."""
LEAVING_PING = b"leaving\0"


class Http2Link(Framing):
    """The writing half of a connection. `http2_connection` adds the reading half."""

    __slots__ = (
        "_blocked_at",
        "_final",
        "_identity",
        "_identity_until",
        "_idle_since",
        "_last",
        "_leaving_at",
        "_resets",
        "_touched",
        "certificate",
        "deadline",
        "forwarded_for",
        "initial_window",
        "peer",
        "per_request_identity",
        "plane",
        "streams",
        "waiting",
        "window",
        "write_blocked",
    )

    def __init__(self, plane: Plane) -> None:
        super().__init__()
        self.plane = plane
        self.streams: dict[int, Http2Stream] = {}
        self.waiting: dict[Http2Response, None] = {}
        """Streams whose own window is open and whose data still has to wait, in order."""
        self.deadline = inf
        self.certificate: bytes | None = None
        self.peer = b""
        self.forwarded_for = b""
        """The line that tells a backend who the client is."""
        self.per_request_identity = False
        self.window = frames.DEFAULT_WINDOW
        """What the client takes of all bodies."""
        self.initial_window = frames.DEFAULT_WINDOW
        self.write_blocked = False
        self._identity: Identity = NOBODY
        self._identity_until = 0.0
        self._last = 0
        """The highest stream that the client has opened."""
        self._resets: dict[int, None] = {}
        """Streams that we have reset: what the client sent before it knew is ignored."""
        self._touched: dict[Http2Stream, None] = {}
        """Streams with something for their upstreams."""
        self._idle_since = 0.0
        self._blocked_at = 0.0
        self._leaving_at = inf
        self._final = False
        """The client has been told the last stream that is served."""

    def identity_at(self, now: float) -> Identity:
        """Who the connection's certificate says it is; looked at again now and then, since certificates expire."""
        if now >= self._identity_until:
            self._identity = self.plane.connection_identity(self.certificate, now)
            self._identity_until = now + self.plane.limits.identity_seconds
        return self._identity

    def ended(self, stream: "Http2Response") -> None:
        """The response has been sent as a whole."""
        if not stream.remote_closed:
            # RFC 9113 8.1: the rest of the request is of no use. Said in a TLS record of its own: curl (7.88) finds a
            # stream closed that it wants to send on, and forgets the response that it has read with the reset.
            self._flush()
            self._send_reset(stream.ident, frames.NO_ERROR)
        self._forget(stream)

    def reset(self, stream: "Http2Response", code: int) -> None:
        self._send_reset(stream.ident, code)
        self._forget(stream)

    def _send_reset(self, ident: int, code: int) -> None:
        self._remember_reset(ident)
        self.write(frames.rst_stream(ident, code))

    def _remember_reset(self, ident: int) -> None:
        resets = self._resets
        if len(resets) >= _REMEMBERED_RESETS:
            del resets[next(iter(resets))]
        resets[ident] = None

    def _forget(self, stream: "Http2Response") -> None:
        streams = self.streams
        if streams.pop(stream.ident, None) is None:
            return
        self.waiting.pop(stream, None)
        if not streams:
            self._idle_since = now = time.monotonic()
            self.deadline = min(self.deadline, now + self.plane.limits.idle_seconds)
            if self._final:
                self._close()
        if self.plane.draining and not self._final:
            # Announced, not begun: a connection may serve its requests, but should bring no more.
            self.drain()

    def _pump(self) -> None:
        """Give every stream that waits for the connection its turn."""
        waiting = self.waiting
        for stream in list(waiting):
            if self.window <= 0 or self.write_blocked:
                return
            del waiting[stream]
            stream.window_opened()

    def pause_writing(self) -> None:
        # A client that does not read is not read either: else answers to its frames would pile up.
        self.write_blocked = True
        self._blocked_at = time.monotonic()
        self.plane.unread.add(self)
        if not self.closed:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.write_blocked = False
        if not self.closed:
            self.transport.resume_reading()
            self._pump()

    def unread(self, now: float) -> None:
        """The client does not read: no harm as long as nothing but watches waits for it."""
        if not self.write_blocked:
            waiting = [stream.unread(now) for stream in list(self.streams.values())]
            if not any(waiting):
                self.plane.unread.discard(self)
            return
        may_wait = all(stream.long_running for stream in self.streams.values())
        if not may_wait and 0 < self.plane.limits.write_seconds < now - self._blocked_at:
            self.abort()

    # Ends

    def _drop_streams(self) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        self.waiting.clear()
        self._touched.clear()
        for stream in streams:
            stream.client_gone()

    def _close(self) -> None:
        """Close after everything written has been sent."""
        if not self.closed:
            self._flush()
            self.closed = True
            self._drop_streams()
            self.deadline = time.monotonic() + _LAST_WORDS_SECONDS
            self.transport.close()

    def _fail(self, code: int, words: str) -> None:
        """Say why the connection ends, and end it."""
        self.write(frames.goaway(self._last, code, words))
        self._close()

    def expired(self) -> None:
        """Some deadline has passed; the reading half knows which."""
        raise NotImplementedError

    def drain(self) -> None:
        """Shutting down: ask the client to leave, and close once it has and its requests are answered.

        RFC 9113 6.8: first a GOAWAY that still takes every stream, since some may be on their way already, and when
        an answer to PING shows that the client has read it, one that says which was the last.
        """
        if self.closed or self._final or self._leaving_at < inf:
            return
        self._leaving_at = time.monotonic() + _LEAVING_SECONDS
        self.deadline = min(self.deadline, self._leaving_at)
        self.write(frames.goaway(frames.LARGEST_WINDOW, frames.NO_ERROR))
        self.write(frames.frame(frames.PING, 0, 0, LEAVING_PING))

    def _leave(self) -> None:
        """Take no further stream; close when there is none."""
        self._leaving_at = inf
        if self._final:
            return
        self._final = True
        self.write(frames.goaway(self._last, frames.NO_ERROR))
        if not self.streams:
            self._close()

    def end_watch(self) -> bool:
        """End streaming responses between two of their lines; whether there were any."""
        ended = [stream.end_watch() for stream in list(self.streams.values())]
        if self.plane.draining:
            self.drain()
        return any(ended)

    def abort(self) -> None:
        self.closed = True
        self._drop_streams()
        self.transport.abort()

    def forget_identity(self) -> None:
        """Judge the certificate anew with the next request."""
        self._identity_until = 0.0
