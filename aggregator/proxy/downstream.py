"""One HTTP/1.1 connection of a client: parses requests, decides, and links each to an upstream connection.

No task, no future and no queue per request: what one read brings is digested and sent on with one write. A request that
arrives whole and holds nothing special is read line by line (see `lines`); anything else goes through the full parser.
Requests that a client pipelines wait until the one before them is answered, and while any waits nothing more is read.
"""

import asyncio
import time
from typing import cast

import httptools

from aggregator.proxy.answers import CLIENT_CLOSED
from aggregator.proxy.decide import Identity, Reply, text
from aggregator.proxy.headers import Headers
from aggregator.proxy.lines import CREDENTIALS, is_field, plain_request
from aggregator.proxy.oversize import HEAD_TOO_LARGE
from aggregator.proxy.pending import Pending
from aggregator.proxy.plane import Plane
from aggregator.proxy.request_side import RequestSide
from aggregator.proxy.states import ACTIVE, CLOSED, DRAINING, IDLE, TUNNEL
from apiserver.http1_connection import FRESH_SECONDS
from apiserver.peer import peer_certificate

_PLAIN_BYTES = 16 * 1024
"""Larger heads are unusual enough for the parser."""

HEAD_TIMEOUT = text(408, "408 Request Timeout", close=True)
_GONE = httptools.HttpRequestParser(object())
"""Of a connection that is lost: its own would hold it, and the TLS session, until a garbage collection."""


class DownstreamConnection(RequestSide, asyncio.Protocol):
    """Serves one client."""

    __slots__ = ("_between", "_blocked_at", "_fields", "_head_bytes", "_measure", "_parser", "_raw_target")

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane)
        self._parser = httptools.HttpRequestParser(self)
        self._fields: Headers = []
        self._raw_target = b""
        self._head_bytes = 0
        self._measure = False
        self._blocked_at = 0.0
        self._between = True
        """The parser has seen no byte of a message that it has not seen the end of."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        plane = self.plane
        plane.connections.add(self)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0].encode() if isinstance(peer, tuple) else b"127.0.0.1"
        self._certificate = peer_certificate(transport.get_extra_info("ssl_object"))
        self._forwarded_for = b"X-Forwarded-For: " + self._peer
        self._per_request_identity = plane.authenticator.reads_headers(self._certificate)
        self.deadline = time.monotonic() + plane.limits.idle_seconds

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state == IDLE and self._between and data[-4:] == b"\r\n\r\n" and self._plain(data):
            return
        if state == TUNNEL:
            upstream = self.upstream
            if upstream is not None:
                upstream.transport.write(data)
            return
        if state == CLOSED:
            return
        if (self.upgrade or self._undecided_upgrade) and state == ACTIVE:
            self._early.append(data)
            self._update_reading()
            return
        if len(data) + self._head_bytes > self.plane.limits.head_bytes:
            self._measure = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            self._after_upgrade_request(data[switch.args[0] :])
        except httptools.HttpParserError as error:
            self._malformed(error)
        if self._to_upstream:
            self._send_upstream()
        if self._raw_target and not self._queue:
            self._partial_head(len(data))
        elif self._queue:
            self._settled()

    def _plain(self, data: bytes) -> bool:
        """Start a request that is here as a whole and holds nothing special; False leaves everything to the parser."""
        if self._per_request_identity or len(data) > _PLAIN_BYTES:
            return False
        plane = self.plane
        now = time.monotonic()
        lines = data[:-4].split(b"\r\n")
        line = lines.pop(0)
        if 0 < plane.limits.head_fields < len(lines):
            return False
        plain = plain_request(plane.lines, lines)
        if plain is None:
            return False
        kept, authorization = plain
        identity = self._identity if now < self._identity_until else self._identity_at(now)
        if authorization or (plane.reads_tokens and identity.user is None):
            caller = self._caller(identity, authorization)
            if caller is None:
                return False
            identity = caller
        plan = plane.plans.get((identity, line)) or plane.plan(identity, line)
        if plan is None:
            return False
        self._begin_plain(plan, kept, now)
        return True

    def _caller(self, identity: Identity, authorization: bytes) -> Identity | None:
        """Who makes a plain request with this line on a connection of this identity; None leaves it to the parser."""
        plane = self.plane
        if identity.user is None and plane.reads_tokens:
            return plane.bearers.known(plane.bearers.digest(authorization[CREDENTIALS:]))
        return identity if is_field(authorization) else None

    def connection_lost(self, error: Exception | None) -> None:
        if self.state in (ACTIVE, TUNNEL):
            if self.state == ACTIVE:
                self.code = CLIENT_CLOSED
            self._account()
        tunnel = self.upstream if self.state == TUNNEL else None
        if tunnel is not None:
            # What the client sent before it left still reaches the upstream.
            self.upstream = None
            tunnel.exchange = None
            tunnel.close()
        self.state = CLOSED
        self._drop_upstream()
        self._queue.clear()
        self._parser = _GONE
        self.plane.forget(self)

    def pause_writing(self) -> None:
        self._write_blocked = True
        self._blocked_at = time.monotonic()
        self.plane.unread.add(self)
        if self.upstream is not None:
            self.upstream.pause()

    def resume_writing(self) -> None:
        self._write_blocked = False
        self.plane.unread.discard(self)
        if self.upstream is not None:
            self.upstream.resume()

    def unread(self, now: float) -> None:
        may_wait = self.state == TUNNEL or (self.state == ACTIVE and self.long_running)
        if not may_wait and 0 < self.plane.limits.write_seconds < now - self._blocked_at:
            self._log_failure("response broken off", "the client does not read")
            self.abort()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._between = False

    def on_url(self, url: bytes) -> None:
        self._raw_target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        fields, self._fields = self._fields, []
        target, self._raw_target = self._raw_target, b""
        method = parser.get_method()
        if self.state == IDLE and not self._queue:
            if self._measure and self._too_large(target, fields):
                self._refuse(HEAD_TOO_LARGE)
                return
            self._begin(method, target, fields, parser.get_http_version(), parser.should_keep_alive())
        else:
            pending = Pending(method, target, fields, parser.get_http_version(), parser.should_keep_alive())
            if self._measure and self._too_large(target, fields):
                pending.refusal = HEAD_TOO_LARGE
            self._queue.append(pending)
        self._head_bytes = 0
        self._measure = False

    def on_body(self, data: bytes) -> None:
        if self._queue:
            self._queue[-1].body.append(data)
        else:
            self._request_body(data)

    def on_message_complete(self) -> None:
        self._between = True
        if self._queue:
            self._queue[-1].complete = True
            self._queue[-1].trailers = self._fields
            self._fields = []
        elif self.state == ACTIVE:
            trailers, self._fields = self._fields, []
            self._end_request(trailers)
        elif self.state == DRAINING:
            self._fields = []
            self._body_dropped()

    # The request half of an exchange

    def _after_upgrade_request(self, rest: bytes) -> None:
        """The parser stopped behind a request for an upgrade."""
        if self._undecided is not None and len(self._queue) == 1:
            self._undecided_upgrade = True
            if rest:
                self._early.append(rest)
        elif self._queue:
            # Bytes of unknown meaning behind a request that has to wait: there is no safe way to keep them apart.
            self._queue[-1].refusal = text(400, "400 Bad Request: pipelined upgrade", close=True)
        elif self.upgrade and self.state == ACTIVE:
            if rest:
                self._early.append(rest)
        elif self.state in (IDLE, ACTIVE):
            self._parser = httptools.HttpRequestParser(self)
            if self._to_upstream:
                self._send_upstream()
            if rest:
                self.data_received(rest)

    def _malformed(self, error: Exception) -> None:
        """Not HTTP/1.1, or a form of it that two parsers could read differently: refuse and close."""
        if isinstance(error.__context__, Exception) and not isinstance(error.__context__, httptools.HttpParserError):
            self._broken(error.__context__)
            return
        refusal = text(400, f"400 Bad Request: {error}", close=True)
        if self.state == ACTIVE or self._queue:
            if not self.request_complete and self.state == ACTIVE:
                # The body of the request in progress is what is malformed: nothing more can be sent upstream.
                if self.head_sent:
                    self.abort()
                else:
                    self.reply(refusal)
                    self._close()
                return
            pending = Pending(b"GET", b"", [], "1.1", False)
            pending.refusal = refusal
            self._queue.append(pending)
            self._update_reading()
        elif self.state == IDLE:
            self._refuse(refusal)
        else:
            self._close()

    def _resume_parsing(self) -> None:
        """What looked like an upgrade is none: the bytes behind it are the next request."""
        self._parser = httptools.HttpRequestParser(self)
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)

    def _broken(self, error: Exception) -> None:
        """A defect of our own: the one place that keeps it from taking more than this connection along."""
        self._log_failure("request failed", repr(error))
        self.abort()

    def _refuse(self, answer: Reply) -> None:
        """Answer something that did not become a request."""
        self._raw_target = b""
        self._fields = []
        self._queue.clear()
        self._began = time.monotonic()
        self._start(b"GET", False, False)
        self.audit_id = self.plane.audit_ids.next()
        self.request_complete = True
        self._observed(b"-", b"-", "1.1")
        self.reply(answer)

    def _too_large(self, target: bytes, fields: Headers) -> bool:
        size = len(target) + sum(len(name) + len(value) + 4 for name, value in fields)
        return size > self.plane.limits.head_bytes

    def _partial_head(self, size: int) -> None:
        if self.state != IDLE:
            return
        if self._head_bytes == 0:
            self.deadline = time.monotonic() + self.plane.limits.head_seconds
        self._head_bytes += size
        if self._head_bytes > self.plane.limits.head_bytes:
            self._refuse(HEAD_TOO_LARGE)

    def _idle_expired(self) -> None:
        if self._raw_target:
            self._refuse(HEAD_TIMEOUT)
        else:
            self._close()

    def drain(self) -> None:
        """Shutting down: close at once when idle, after the current response otherwise.

        One that has only just been made may still ask once: its first request may be on its way, and a client that
        loses it cannot know whether it was carried out.
        """
        self.keep_alive = False
        if self.state != IDLE or self._raw_target:
            return
        fresh_until = self.deadline - self.plane.limits.idle_seconds + FRESH_SECONDS
        if not self.audit_id and time.monotonic() < fresh_until:
            self.deadline = fresh_until
        else:
            self._close()
