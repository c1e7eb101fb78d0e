"""The request half of an exchange over HTTP/1.1: from a request's head to an upstream connection, and its body."""

import time

from aggregator.proxy import wire
from aggregator.proxy.answers import too_many_requests
from aggregator.proxy.balancer import Upstream
from aggregator.proxy.decide import Forward, Reply, text
from aggregator.proxy.headers import Headers, RequestHead, sane_audit_id
from aggregator.proxy.observer import Record
from aggregator.proxy.oversize import head_refusal
from aggregator.proxy.pending import Pending
from aggregator.proxy.plane import Plan
from aggregator.proxy.request_state import RequestState
from aggregator.proxy.states import ACTIVE, CLOSED, DRAINING, IDLE
from apimachinery.authorization import Undecided

METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
REPLAYABLE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
METHOD_REFUSED = text(405, "405 Method Not Allowed", close=True)


class RequestSide(RequestState):
    """Decides about requests and sends them on. `downstream` adds the parser."""

    __slots__ = ()

    def _begin_plain(self, plan: Plan, lines: list[bytes], now: float) -> None:
        """Forward a request that has neither body nor anything else special; `lines` are passed on as they are."""
        plane = self.plane
        self._began = now
        self.state = ACTIVE
        self.method = plan.method
        self.target = plan.target
        self.route_name = plan.route_name
        self.remote = self.keep_alive = self.request_complete = True
        self.head_request = plan.head_request
        self.http10 = self.head_sent = self.retried = self.upgrade = False
        self._counters = plan.counters
        plane.metrics.in_flight += 1
        self.long_running = plan.long_running
        if plan.long_running:
            plane.metrics.long_running += 1
        self.deadline = now + plan.seconds
        self.audit_id = audit_id = plane.audit_ids.next()
        if plane.observer is not None:
            self.record = plane.observer.plain(plane, plan, audit_id, self._peer, lines)
        flow = plan.flow
        if flow is not None:
            if not flow.take():
                self._answer(too_many_requests(plan.target, plan.route_name))
                return
            self.flow = flow
        block = b"\r\n".join((plan.prefix, self._forwarded_for, b"Audit-ID: " + audit_id, *lines, b"\r\n"))
        self._replay = block if plan.replayable else None
        upstream = plan.upstream.take(plan.replayable, plan.long_running)
        if upstream is None:
            self._to_upstream.append(block)
            self.dial = plan.upstream.dial(self, long_running=plan.long_running)
            return
        self.upstream = upstream
        upstream.begin(self if self.record is None else self.record.tap(self, upstream))
        if self._write_blocked:
            upstream.pause()
        upstream.transport.write(block)

    def _begin(
        self, method: bytes, raw_target: bytes, fields: Headers, version: str, keep_alive: bool, began: float = 0.0
    ) -> None:
        plane = self.plane
        now = time.monotonic()
        self._began = began or now
        self._start(method, keep_alive, version == "1.0")
        head = plane.rules.request(fields)
        self.request_complete = not (head.chunked or head.content_length > 0)
        self.audit_id = head.audit_id if head.audit_id and sane_audit_id(head.audit_id) else plane.audit_ids.next()
        record = self._observed(method, raw_target, version) if plane.observer is not None else None
        error = head.framing_error(version)
        if error is not None:
            self.reply(text(400, f"400 Bad Request: {error}", close=True))
            return
        refusal = head_refusal(plane.limits, raw_target, fields, head.content_length)
        if refusal is not None:
            self.reply(refusal)
            return
        if method not in METHODS:
            self.method = b"OTHER"
            self.reply(METHOD_REFUSED)
            return
        if self._per_request_identity:
            identity = plane.identity(self._certificate, fields)
        else:
            identity = self._identity_at(now)
        verdict = plane.verdict(identity, head, method, raw_target)
        if record is not None and isinstance(verdict, Forward | Reply):
            record.decided(plane, identity, head, verdict)
        if isinstance(verdict, Forward):
            found = plane.upstream(verdict.route)
            if isinstance(found, Reply):
                self._answer(found)
            elif self._take_seat(verdict, head):
                self._forward(method, raw_target, head, verdict, found)
        elif isinstance(verdict, Reply):
            self._answer(verdict)
        else:
            pending = Pending(method, raw_target, fields, version, keep_alive)
            pending.began = self._began
            self._wait(pending, verdict)

    def _observed(self, method: bytes, raw_target: bytes, version: str) -> Record | None:
        """The record of the request whose head is here; one that had to wait for its decision has it already."""
        if self.record is None and self.plane.observer is not None:
            self.record = self.plane.observer.begin(self.audit_id, self._peer, method, raw_target, version)
        if self.record is not None:
            self.record.audit_id = self.audit_id
        return self.record

    # A decision that needs an answer from elsewhere

    def _wait(self, pending: Pending, undecided: Undecided) -> None:
        """Keep the request until it can be decided; what comes after it waits as behind any other request."""
        self._queue.appendleft(pending)
        self._undecided = undecided
        undecided.when_known(lambda: self._decided(undecided))
        self._update_reading()

    def _decided(self, undecided: Undecided) -> None:
        if self._undecided is not undecided or self.state != ACTIVE:
            return
        self._forget_undecided()
        self.state = IDLE
        self._settled()
        if self._undecided_upgrade:
            self._settle_upgrade()

    def _settle_upgrade(self) -> None:
        """Go on with the bytes behind a request that asks for an upgrade, unless it still waits."""
        if self._undecided is None:
            self._undecided_upgrade = False
            if not self.upgrade:
                self._resume_parsing()

    def _forget_undecided(self) -> None:
        """The request no longer waits for a decision. It is counted anew if it goes on."""
        self._undecided = None
        self.plane.metrics.in_flight -= 1
        self._counters = None

    def expired(self) -> None:
        if self.state == ACTIVE and self._undecided is not None:
            self._undecided = None
            self._end = self.deadline
            self.request_complete = self._queue.popleft().complete
            self.keep_alive = self.keep_alive and not self._undecided_upgrade
        super().expired()

    def _held_back(self) -> bool:
        return self._read_paused

    def _start(self, method: bytes, keep_alive: bool, http10: bool) -> None:
        self.state = ACTIVE
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
        self.deadline = self._end = self._began + 60.0
        self._received = 0
        self._chunk_in = False
        self._chunk_out = False
        self._drained = 0
        self.plane.metrics.in_flight += 1
        self._counters = self.plane.metrics.route("local")

    def _forward(
        self, method: bytes, raw_target: bytes, head: RequestHead, forward: Forward, backend: Upstream
    ) -> None:
        self._routed(forward)
        if not self.request_complete:
            self._pace_from(time.monotonic())
        self._chunk_in = head.chunked
        upgrade = self.upgrade = head.wants_upgrade if head.upgrade else False
        make = wire.upgrade_head if upgrade else wire.request_head
        block = make(
            method,
            raw_target,
            head,
            forward,
            authority=head.host if backend.local else backend.authority,
            audit_id=self.audit_id,
            client=self._peer,
        )
        replayable = self.request_complete and method in REPLAYABLE
        upstream = None if upgrade else backend.take(replayable, self.long_running)
        self._to_upstream.append(block)
        self._replay = block if replayable and not upgrade else None
        if upstream is None:
            self.dial = backend.dial(self, dedicated=upgrade, long_running=self.long_running)
        else:
            self.upstream = upstream
            upstream.begin(self if self.record is None else self.record.tap(self, upstream))
            if self._write_blocked:
                upstream.pause()

    def _request_body(self, data: bytes) -> None:
        if self.state == ACTIVE:
            self._received += len(data)
            if 0 < self.plane.limits.body_bytes < self._received:
                self._body_too_large()
                return
            if self.record is not None and self.record.request_body is not None:
                self.record.request_body.add(data)
            if self._chunk_in:
                self._to_upstream += (b"%x\r\n" % len(data), data, b"\r\n")
            else:
                self._to_upstream.append(data)
        else:
            self._drained += len(data)
            if self._drained > self.plane.limits.linger_bytes and self.state == DRAINING:
                self._close()

    def _body_dropped(self) -> None:
        """The rest of a request whose response is complete has been read."""
        self.request_complete = True
        if self.keep_alive:
            self.state = IDLE
            self.deadline = time.monotonic() + self.plane.limits.idle_seconds
        else:
            self._close()

    def _end_request(self, trailers: Headers) -> None:
        if self._chunk_in:
            lines = self.plane.rules.trailers(trailers) if trailers else b""
            self._to_upstream.append(b"0\r\n%b\r\n" % lines)
        self.request_complete = True
        self.deadline = self._end

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
        # One that has failed the request may have been full, and will not say that it is no longer.
        self._upstream_full = False
        self._send_upstream()
        self._update_reading()
        self._pace_anew()

    # Exchange: backpressure from the upstream

    def upstream_full(self) -> None:
        self._upstream_full = True
        self._update_reading()

    def upstream_ready(self) -> None:
        self._upstream_full = False
        self._update_reading()
        self._pace_anew()

    def _update_reading(self) -> None:
        """Read from the client exactly when what it sends has somewhere to go."""
        waiting = self.state == ACTIVE and (
            (bool(self._to_upstream) and not self.request_complete) or bool(self._early)
        )
        pause = self._upstream_full or bool(self._queue) or waiting
        if pause != self._read_paused and self.state != CLOSED:
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
        if self.state != ACTIVE:
            self._upstream_full = False
            self._to_upstream.clear()
        while queue and self.state == IDLE:
            pending = queue.popleft()
            if pending.refusal is not None:
                self._refuse(pending.refusal)
                break
            self._begin(
                pending.method, pending.target, pending.headers, pending.version, pending.keep_alive, pending.began
            )
            self._resume(pending)
            if self._to_upstream:
                self._send_upstream()
        if self._read_paused or queue:
            self._update_reading()

    def _resume(self, pending: Pending) -> None:
        """Deliver what has been received of a request whose head was just dealt with."""
        if self._undecided is not None:
            again = self._queue[0]
            again.body, again.complete, again.trailers = pending.body, pending.complete, pending.trailers
        elif self.state == ACTIVE:
            for piece in pending.body:
                self._request_body(piece)
            if pending.complete:
                self._end_request(pending.trailers)
        elif self.state == DRAINING and pending.complete:
            self._body_dropped()

    def _refuse(self, answer: Reply) -> None:
        raise NotImplementedError

    def _resume_parsing(self) -> None:
        raise NotImplementedError
