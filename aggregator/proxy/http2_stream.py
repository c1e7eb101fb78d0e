"""One request over HTTP/2: from its fields to an upstream connection, and its body."""

import time
from typing import TYPE_CHECKING

from aggregator.proxy import http2_frames as frames
from aggregator.proxy import wire
from aggregator.proxy.answers import too_many_requests
from aggregator.proxy.balancer import Upstream
from aggregator.proxy.decide import Forward, Reply
from aggregator.proxy.headers import Headers, RequestHead, sane_audit_id
from aggregator.proxy.http2_request import Http2Request
from aggregator.proxy.http2_response import Http2Response
from aggregator.proxy.observer import Record
from aggregator.proxy.oversize import head_refusal
from aggregator.proxy.plane import Plan
from aggregator.proxy.request_side import METHOD_REFUSED, METHODS, REPLAYABLE
from aggregator.proxy.states import ACTIVE, CLOSED
from apimachinery.authorization import Undecided

if TYPE_CHECKING:
    from aggregator.proxy.http2_link import Http2Link

STREAM_WINDOW = 256 * 1024
"""What a client may send of a body before the upstream has taken it."""
_CREDIT_BYTES = STREAM_WINDOW // 2


class Http2Stream(Http2Response):
    """Serves one request."""

    __slots__ = (
        "_chunk_in",
        "_content_length",
        "_owed",
        "_receivable",
        "_request",
        "_undecided",
        "_upstream_full",
    )

    def __init__(self, connection: "Http2Link", ident: int, *, end: bool) -> None:
        """`end`: the client sends nothing after the head."""
        super().__init__(connection, ident, end=end)
        self._receivable = STREAM_WINDOW
        """What the client may send of the request's body."""
        self._owed = 0
        """What it has sent and may send again when there is room."""
        self._request: Http2Request | None = None
        """Set while the decision is waited for."""
        self._undecided: Undecided | None = None
        self._content_length = -1
        self._chunk_in = False
        self._upstream_full = False

    # The request's head

    def begin(self, request: Http2Request) -> None:
        connection = self.connection
        plane = self.plane
        now = time.monotonic()
        if request.tail is not None and self.remote_closed and not connection.per_request_identity:
            identity = connection.identity_at(now)
            by_token = identity.user is None and plane.reads_tokens
            caller = plane.bearers.known(request.bearer) if by_token else identity
            if caller is not None:
                plan = plane.plans.get((caller, request.line)) or plane.plan(caller, request.line)
                if plan is not None:
                    self._begin_plain(plan, request, request.tail, now)
                    return
        self._request = request
        self._start(request.method, now)
        self._judge(request)

    def refuse(self, answer: Reply) -> None:
        """Answer what did not become a request."""
        self._start(b"GET", time.monotonic())
        self.audit_id = self.plane.audit_ids.next()
        self._observed(b"-", b"-")
        self.reply(answer)

    def _begin_plain(self, plan: Plan, request: Http2Request, tail: bytes, now: float) -> None:
        """Forward a request that has neither body nor anything else special; `tail` is passed on as it is."""
        plane = self.plane
        self._began = now
        self.state = ACTIVE
        self.method = plan.method
        self.target = plan.target
        self.route_name = plan.route_name
        self.remote = self.request_complete = True
        self.head_request = plan.head_request
        self._counters = plan.counters
        plane.metrics.in_flight += 1
        if plan.long_running:
            self.long_running = True
            plane.metrics.long_running += 1
        self._expire_at(now + plan.seconds)
        self.audit_id = audit_id = plane.audit_ids.next()
        if plane.observer is not None:
            lines = list(request.plain)
            self.record = plane.observer.plain(plane, plan, audit_id, self.connection.peer, lines, "2")
            tail = b"\r\n".join((*lines, b"\r\n"))
        flow = plan.flow
        if flow is not None:
            if not flow.take():
                self._answer(too_many_requests(plan.target, plan.route_name))
                return
            self.flow = flow
        block = b"%b\r\n%bAudit-ID: %b\r\n%b" % (plan.prefix, self.connection.forwarded_for, audit_id, tail)
        self._replay = block if plan.replayable else None
        upstream = plan.upstream.take(plan.replayable, plan.long_running)
        if upstream is None:
            self._to_upstream.append(block)
            self.dial = plan.upstream.dial(self, long_running=plan.long_running)
            return
        self.upstream = upstream
        upstream.begin(self if self.record is None else self.record.tap(self, upstream))
        upstream.transport.write(block)

    def _start(self, method: bytes, now: float) -> None:
        self._began = now
        self.state = ACTIVE
        self.method = method
        self.head_request = method == b"HEAD"
        self.route_name = "local"
        self._end = now + 60.0
        self._expire_at(self._end)
        self.plane.metrics.in_flight += 1
        self._counters = self.plane.metrics.route("local")

    def _judge(self, request: Http2Request) -> None:
        """Decide about the request; once more when what that took to know is known."""
        plane = self.plane
        connection = self.connection
        head = plane.rules.request(request.fields)
        if not self.audit_id:
            self.audit_id = head.audit_id if sane_audit_id(head.audit_id) else plane.audit_ids.next()
        record = self._observed(request.method, request.target) if plane.observer is not None else None
        refusal = head_refusal(plane.limits, request.target, request.fields, request.content_length)
        if refusal is not None:
            self.reply(refusal)
            return
        if request.method not in METHODS:
            self.method = b"OTHER"
            self.reply(METHOD_REFUSED)
            return
        if connection.per_request_identity:
            identity = plane.identity(connection.certificate, request.fields)
        else:
            identity = connection.identity_at(time.monotonic())
        verdict = plane.verdict(identity, head, request.method, request.target)
        if record is not None and isinstance(verdict, Forward | Reply):
            record.decided(plane, identity, head, verdict)
        if isinstance(verdict, Forward):
            found = plane.upstream(verdict.route)
            if isinstance(found, Reply):
                self._answer(found)
            elif self._take_seat(verdict, head):
                self._forward(request, head, verdict, found)
        elif isinstance(verdict, Reply):
            self._answer(verdict)
        else:
            self._undecided = verdict
            verdict.when_known(lambda: self._decided(verdict))

    def _observed(self, method: bytes, raw_target: bytes) -> Record | None:
        """The record of the request; one that had to wait for its decision has it already."""
        observer = self.plane.observer
        if self.record is None and observer is not None:
            self.record = observer.begin(self.audit_id, self.connection.peer, method, raw_target, "2")
        return self.record

    def _decided(self, undecided: Undecided) -> None:
        if self._undecided is undecided and self.state == ACTIVE and self._request is not None:
            self._undecided = None
            self._judge(self._request)

    def _forward(self, request: Http2Request, head: RequestHead, forward: Forward, backend: Upstream) -> None:
        self._routed(forward)
        # A body that came while the decision was waited for is behind the head, framed below.
        early = b"".join(self._to_upstream)
        self._to_upstream.clear()
        bodyless = self.remote_closed and not self._received
        if not bodyless and head.content_length < 0:
            self._chunk_in = head.chunked = True
        self._content_length = head.content_length
        self.request_complete = bodyless or head.content_length == 0
        if not self.request_complete:
            self._pace_from(time.monotonic())
        block = wire.request_head(
            request.method,
            request.target,
            head,
            forward,
            authority=head.host if backend.local else backend.authority,
            audit_id=self.audit_id,
            client=self.connection.peer,
        )
        self._to_upstream.append(block)
        self._request = None
        if early:
            self._pass_on(early)
        if self.remote_closed and not bodyless:
            self._end_request(b"")
        replayable = bodyless and request.method in REPLAYABLE
        self._replay = block if replayable else None
        upstream = backend.take(replayable, self.long_running)
        if upstream is None:
            self.dial = backend.dial(self, long_running=self.long_running)
        else:
            self.upstream = upstream
            upstream.begin(self if self.record is None else self.record.tap(self, upstream))
            self.send_upstream()

    # The request's body

    def data(self, payload: bytes, size: int, *, end: bool) -> int:
        """A DATA frame with `size` bytes under flow control. The code of the error that it is, or 0."""
        self._receivable -= size
        self._owed += size
        if self._receivable < 0:
            return frames.FLOW_CONTROL_ERROR
        self._received += len(payload)
        self.remote_closed = end
        wanted = self.declared_length
        if wanted >= 0 and (self._received > wanted or (end and self._received < wanted)):
            return frames.PROTOCOL_ERROR
        if self.state == ACTIVE and not self.request_complete:
            if 0 < self.plane.limits.body_bytes < self._received:
                self._body_too_large()
                return 0
            if payload:
                self._pass_on(payload)
            if end and self._request is None:
                self._end_request(b"")
        return 0

    @property
    def declared_length(self) -> int:
        return self._request.content_length if self._request is not None else self._content_length

    def trailers(self, fields: Headers) -> int:
        """The end of the request. The code of the error that it is, or 0."""
        self.remote_closed = True
        if self._received < self.declared_length:
            return frames.PROTOCOL_ERROR
        if self.state == ACTIVE and not self.request_complete and self._request is None:
            self._end_request(self.plane.rules.trailers(fields))
        return 0

    def _pass_on(self, payload: bytes) -> None:
        record = self.record
        if record is not None and record.request_body is not None and self._request is None:
            record.request_body.add(payload)
        if self._chunk_in:
            self._to_upstream += (b"%x\r\n" % len(payload), payload, b"\r\n")
        else:
            self._to_upstream.append(payload)
            # The upstream may answer as soon as it has all that was declared, before the stream's end comes.
            if self._request is None and self._received == self._content_length:
                self._request_ended()

    def _end_request(self, trailers: bytes) -> None:
        if self._chunk_in:
            self._to_upstream.append(b"0\r\n%b\r\n" % trailers)
        self._request_ended()

    def _request_ended(self) -> None:
        self.request_complete = True
        self.deadline = self._end

    def _held_back(self) -> bool:
        return self._upstream_full or self.upstream is None or self._receivable <= 0 or self.connection.write_blocked

    def send_upstream(self) -> None:
        """Write what has been collected, and let the client send more."""
        upstream = self.upstream
        waiting = self._to_upstream
        if upstream is not None:
            if waiting:
                upstream.transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))
                waiting.clear()
        elif self.dial is not None or self._undecided is not None:
            return
        else:
            waiting.clear()
        self._credit()

    def _credit(self) -> None:
        if self._owed >= _CREDIT_BYTES and not self._upstream_full and not self.remote_closed and self.state != CLOSED:
            self._receivable += self._owed
            self.connection.write(frames.window_update(self.ident, self._owed))
            self._owed = 0

    def _upstream_open(self) -> None:
        self._upstream_full = False
        self.send_upstream()
        self._pace_anew()

    def upstream_full(self) -> None:
        self._upstream_full = True

    def upstream_ready(self) -> None:
        self._upstream_full = False
        self._credit()
        self._pace_anew()

    def _forget_request(self) -> None:
        self._request = None
        self._undecided = None
        self._to_upstream.clear()
