"""One HTTP/1.1 connection of a client: parses requests, decides, and links each to an upstream connection.

No task, no future and no queue per request: parser callbacks fill lists that one write empties when the read that caused
them has been digested. Requests that a client pipelines wait until the one before them is answered, and while any waits
nothing more is read.
"""

import asyncio
import time
from collections import deque
from typing import cast

import httptools

from aggregator.proxy import wire
from aggregator.proxy.client_side import CLIENT_CLOSED, ClientSide, State
from aggregator.proxy.decide import NOBODY, Forward, Identity, Reply, decide, refuse_impersonation, text
from aggregator.proxy.headers import Headers, RequestHead, sane_audit_id
from aggregator.proxy.plane import Plane
from aggregator.proxy.pool import Endpoint

_IDLE, _ACTIVE, _DRAINING = State.IDLE, State.ACTIVE, State.DRAINING
_TUNNEL, _CLOSED = State.TUNNEL, State.CLOSED

METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
REPLAYABLE = frozenset((b"GET", b"HEAD", b"OPTIONS"))

HEAD_TOO_LARGE = text(431, "431 Request Header Fields Too Large", close=True)
HEAD_TIMEOUT = text(408, "408 Request Timeout", close=True)
METHOD_REFUSED = text(405, "405 Method Not Allowed", close=True)


class Pending:
    """A pipelined request that waits for its turn; `refusal` stands for one that cannot be served."""

    __slots__ = ("body", "complete", "headers", "keep_alive", "method", "refusal", "target", "trailers", "version")

    def __init__(self, method: bytes, target: bytes, headers: Headers, version: str, keep_alive: bool) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.version = version
        self.keep_alive = keep_alive
        self.body: list[bytes] = []
        self.trailers: Headers = []
        self.complete = False
        self.refusal: Reply | None = None


class DownstreamConnection(ClientSide, asyncio.Protocol):
    """Serves one client."""

    __slots__ = (
        "_block",
        "_certificate",
        "_chunk_in",
        "_drained",
        "_early",
        "_fields",
        "_head_bytes",
        "_identity",
        "_identity_until",
        "_measure",
        "_parser",
        "_peer",
        "_per_request_identity",
        "_queue",
        "_raw_target",
        "_read_paused",
        "_to_upstream",
        "_upstream_full",
    )

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane)
        self._parser = httptools.HttpRequestParser(self)
        self._fields: Headers = []
        self._raw_target = b""
        self._queue: deque[Pending] = deque()
        self._to_upstream: list[bytes] = []
        self._early: list[bytes] = []
        self._block = b""
        self._chunk_in = False
        self._drained = 0
        self._head_bytes = 0
        self._measure = False
        self._read_paused = False
        self._upstream_full = False
        self._peer = b""
        self._certificate: bytes | None = None
        self._identity: Identity = NOBODY
        self._identity_until = 0.0
        self._per_request_identity = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        plane = self.plane
        plane.connections.add(self)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0].encode() if isinstance(peer, tuple) else b"127.0.0.1"
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._certificate = tls.getpeercert(binary_form=True)
        self._per_request_identity = plane.authenticator.reads_headers(self._certificate)
        self.deadline = time.monotonic() + plane.limits.idle_seconds

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state == _TUNNEL:
            upstream = self.upstream
            if upstream is not None:
                upstream.transport.write(data)
            return
        if state == _CLOSED:
            return
        if self.upgrade and state == _ACTIVE:
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

    def connection_lost(self, error: Exception | None) -> None:
        if self.state in (_ACTIVE, _TUNNEL):
            if self.state == _ACTIVE:
                self.code = CLIENT_CLOSED
            self._account()
        tunnel = self.upstream if self.state == _TUNNEL else None
        if tunnel is not None:
            # What the client sent before it left still reaches the upstream.
            self.upstream = None
            tunnel.exchange = None
            tunnel.close()
        self.state = _CLOSED
        self._drop_upstream()
        self._queue.clear()
        self.plane.forget(self)

    def pause_writing(self) -> None:
        self._write_blocked = True
        if self.upstream is not None:
            self.upstream.pause()

    def resume_writing(self) -> None:
        self._write_blocked = False
        if self.upstream is not None:
            self.upstream.resume()

    # httptools callbacks

    def on_url(self, url: bytes) -> None:
        self._raw_target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        fields, self._fields = self._fields, []
        target, self._raw_target = self._raw_target, b""
        method = parser.get_method()
        if self.state == _IDLE and not self._queue:
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
        if self._queue:
            self._queue[-1].complete = True
            self._queue[-1].trailers = self._fields
            self._fields = []
        elif self.state == _ACTIVE:
            self._end_request(self._fields)
        elif self.state == _DRAINING:
            self._fields = []
            self._body_dropped()

    # The request half of an exchange

    def _begin(self, method: bytes, raw_target: bytes, fields: Headers, version: str, keep_alive: bool) -> None:
        plane = self.plane
        now = self._began = time.monotonic()
        self._start(method, keep_alive, version == "1.0")
        head = plane.rules.request(fields)
        self.request_complete = not (head.chunked or head.content_length > 0)
        self.audit_id = head.audit_id if head.audit_id and sane_audit_id(head.audit_id) else plane.audit_ids.next()
        error = head.framing_error(version)
        if error is not None:
            self.reply(text(400, f"400 Bad Request: {error}", close=True))
            return
        if method not in METHODS:
            self.reply(METHOD_REFUSED)
            return
        if self._per_request_identity:
            identity = plane.identity(self._certificate, fields)
        elif now < self._identity_until:
            identity = self._identity
        else:
            identity = self._identity = plane.identity(self._certificate, fields)
            self._identity_until = now + plane.limits.identity_seconds
        verdict = decide(plane.table, plane.policy, identity, method, raw_target)
        if type(verdict) is not Forward:
            assert isinstance(verdict, Reply)
            self._answer(verdict)
        elif head.impersonate is not None:
            self._answer(refuse_impersonation(identity, head.impersonate))
        else:
            endpoint = plane.endpoint(verdict.route)
            if isinstance(endpoint, Reply):
                self._answer(endpoint)
            else:
                self._forward(method, raw_target, head, verdict, endpoint)

    def _start(self, method: bytes, keep_alive: bool, http10: bool) -> None:
        self.state = _ACTIVE
        self.method = method
        self.keep_alive = keep_alive and not http10
        self.http10 = http10
        self.head_request = method == b"HEAD"
        self.request_complete = False
        self.head_sent = False
        self.retried = False
        self.upgrade = False
        self.long_running = False
        self.remote = False
        self.target = None
        self.route_name = "local"
        self.deadline = self._began + 60.0
        self._chunk_in = False
        self._chunk_out = False
        self._drained = 0
        self.plane.metrics.in_flight += 1
        self._counters = self.plane.metrics.route("local")

    def _answer(self, answer: Reply) -> None:
        self.target = answer.target
        self.route_name = answer.route
        self._counters = self.plane.metrics.route(answer.route)
        self.reply(answer)

    def _forward(
        self, method: bytes, raw_target: bytes, head: RequestHead, forward: Forward, endpoint: Endpoint
    ) -> None:
        route, target = forward.route, forward.target
        plane = self.plane
        self.target = target
        self.route_name = route.name
        self.remote = not route.local
        self._counters = plane.metrics.route(route.name)
        if target.long_running:
            self.long_running = True
            plane.metrics.long_running += 1
            self.deadline = _NEVER
        else:
            self.deadline = self._began + target.seconds
        self._chunk_in = head.chunked
        upgrade = self.upgrade = head.wants_upgrade if head.upgrade else False
        make = wire.upgrade_head if upgrade else wire.request_head
        block = make(
            method,
            raw_target,
            head,
            forward,
            authority=head.host if endpoint.local else endpoint.authority,
            audit_id=self.audit_id,
            client=self._peer,
        )
        replayable = self.request_complete and method in REPLAYABLE
        upstream = None if upgrade else endpoint.take(replayable)
        self._to_upstream.append(block)
        if upstream is None:
            self._block = block
            self.dial = endpoint.dial(self, dedicated=upgrade)
        else:
            self._block = block
            self._replay = block if replayable else None
            self.upstream = upstream
            upstream.begin(self)
            if self._write_blocked:
                upstream.pause()

    def _request_body(self, data: bytes) -> None:
        if self.state == _ACTIVE:
            if self._chunk_in:
                self._to_upstream += (b"%x\r\n" % len(data), data, b"\r\n")
            else:
                self._to_upstream.append(data)
        else:
            self._drained += len(data)
            if self._drained > self.plane.limits.linger_bytes and self.state == _DRAINING:
                self._close()

    def _body_dropped(self) -> None:
        """The rest of a request whose response is complete has been read."""
        self.request_complete = True
        if self.keep_alive:
            self.state = _IDLE
            self.deadline = time.monotonic() + self.plane.limits.idle_seconds
        else:
            self._close()

    def _end_request(self, trailers: Headers) -> None:
        if self._chunk_in:
            lines = self.plane.rules.trailers(trailers) if trailers else b""
            self._to_upstream.append(b"0\r\n%b\r\n" % lines)
        if trailers:
            self._fields = []
        self.request_complete = True

    def _send_upstream(self) -> None:
        upstream = self.upstream
        if upstream is not None:
            waiting = self._to_upstream
            upstream.transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))
            waiting.clear()
        elif self.dial is None:
            self._to_upstream.clear()
        elif not self.request_complete:
            self._update_reading()

    def _upstream_open(self) -> None:
        if self.retried:
            self._to_upstream = [self._block]
        self._send_upstream()
        self._update_reading()

    # Exchange: backpressure from the upstream

    def upstream_full(self) -> None:
        self._upstream_full = True
        self._update_reading()

    def upstream_ready(self) -> None:
        self._upstream_full = False
        self._update_reading()

    def _update_reading(self) -> None:
        """Read from the client exactly when what it sends has somewhere to go."""
        waiting = self.state == _ACTIVE and (
            (bool(self._to_upstream) and not self.request_complete) or bool(self._early)
        )
        pause = self._upstream_full or bool(self._queue) or waiting
        if pause != self._read_paused and self.state != _CLOSED:
            self._read_paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _tunnel_opened(self) -> None:
        upstream = self.upstream
        if upstream is not None and self._early:
            upstream.transport.write(b"".join(self._early))
        self._early.clear()
        self._update_reading()

    # What follows an exchange

    def _settled(self) -> None:
        """Start the next pipelined request, if there is one and its turn has come."""
        queue = self._queue
        if self.state != _ACTIVE:
            self._upstream_full = False
            self._to_upstream.clear()
        while queue and self.state == _IDLE:
            pending = queue.popleft()
            if pending.refusal is not None:
                self._refuse(pending.refusal)
                break
            self._begin(pending.method, pending.target, pending.headers, pending.version, pending.keep_alive)
            self._resume(pending)
            if self._to_upstream:
                self._send_upstream()
        if self._read_paused or queue:
            self._update_reading()

    def _resume(self, pending: Pending) -> None:
        """Deliver what has been received of a request whose head was just dealt with."""
        if self.state == _ACTIVE:
            for piece in pending.body:
                self._request_body(piece)
            if pending.complete:
                self._end_request(pending.trailers)
        elif self.state == _DRAINING and pending.complete:
            self._body_dropped()

    def _after_upgrade_request(self, rest: bytes) -> None:
        """The parser stopped behind a request for an upgrade."""
        if self._queue:
            # Bytes of unknown meaning behind a request that has to wait: there is no safe way to keep them apart.
            self._queue[-1].refusal = text(400, "400 Bad Request: pipelined upgrade", close=True)
        elif self.upgrade and self.state == _ACTIVE:
            if rest:
                self._early.append(rest)
        elif self.state in (_IDLE, _ACTIVE):
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
        if self.state == _ACTIVE or self._queue:
            if not self.request_complete and self.state == _ACTIVE:
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
        elif self.state == _IDLE:
            self._refuse(refusal)
        else:
            self._close()

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
        self.reply(answer)

    def _too_large(self, target: bytes, fields: Headers) -> bool:
        size = len(target) + sum(len(name) + len(value) + 4 for name, value in fields)
        return size > self.plane.limits.head_bytes

    def _partial_head(self, size: int) -> None:
        if self.state != _IDLE:
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
        """Shutting down: close at once when idle, after the current response otherwise."""
        self.keep_alive = False
        if self.state == _IDLE:
            self._close()


_NEVER = float("inf")
