"""The client's half of an exchange over HTTP/1.1: how a response reaches the client, and how an exchange ends."""

import math
import time
from typing import Any

from aggregator.proxy import wire
from aggregator.proxy.answers import REDIRECT_REFUSED, SILENCE_SECONDS, UNREACHABLE, Overloaded
from aggregator.proxy.carrier import Carrier
from aggregator.proxy.decide import GATEWAY_TIMEOUT, Reply, text
from aggregator.proxy.exchange_state import ExchangeState
from aggregator.proxy.failures import CONTEXT_DEADLINE, NeverProcessed, Unshared, describe
from aggregator.proxy.headers import ResponseHead
from aggregator.proxy.plane import log
from aggregator.proxy.states import ACTIVE, CLOSED, DRAINING, IDLE, TUNNEL
from apiserver import http_date

_FLUSH_SECONDS = 60.0
"""How long a client may take to read what is left of its last response."""


class ClientSide(ExchangeState):
    """The response half of an exchange. `downstream` adds the request half."""

    __slots__ = ()

    # Exchange: called by the upstream connection

    def response_informational(self, code: int, head: ResponseHead) -> None:
        if not self.http10:
            self._out.append(wire.informational(code, head))

    def response_refused(self) -> bool:
        upstream = self.upstream
        if upstream is None or self._replay is None or not self._may_retry(upstream, reused=False):
            return False
        upstream.release()
        self.upstream = None
        self._retry(upstream, self._replay)
        return True

    def _may_retry(self, upstream: Carrier, *, reused: bool) -> bool:
        return not self.retried and upstream.endpoint.owner.may_retry(upstream.endpoint, reused=reused)

    def _retry(self, upstream: Carrier, again: bytes) -> None:
        """Send the request again, over another connection than the one that failed it; its rest is still to come."""
        self.retried = True
        self._to_upstream.insert(0, again)
        endpoint = upstream.endpoint
        self.dial = endpoint.owner.retry(self, endpoint, long_running=self.long_running)

    def _send_alone(self, upstream: Carrier, again: bytes) -> None:
        """Nothing has been sent: begin once more, with a connection of its own."""
        self._to_upstream.insert(0, again)
        self.dial = upstream.endpoint.owner.dial(self, long_running=self.long_running, alone=True)

    def response_head(self, code: int, head: ResponseHead, has_body: bool) -> bool:
        if self.upgrade and code < 400:
            self._give_up(text(503, f"invalid upgrade response: status code {code}", close=True))
            return False
        if self.remote and 300 <= code < 400 and head.location is not None and self.plane.limits.reject_redirects:
            self._give_up(text(502, REDIRECT_REFUSED))
            return False
        self.code = code
        self.head_sent = True
        self._replay = None
        self._write_head(code, head, has_body)
        return True

    def _write_head(self, code: int, head: ResponseHead, has_body: bool) -> None:
        if self.plane.draining or self.upgrade:
            self.keep_alive = False
        framing = b""
        self._chunk_out = False
        if not has_body or not (head.chunked or head.content_length < 0):
            if head.content_length >= 0 and code != 204:
                framing = b"Content-Length: %d\r\n" % head.content_length
        elif self.http10:
            self.keep_alive = False
        else:
            self._chunk_out = True
            framing = wire.CHUNKED
        if not self.keep_alive:
            framing += wire.CLOSE
        self._out.append(wire.response_head(code, head, audit_id=self.audit_id, framing=framing))

    def response_whole(self, code: int, lines: list[bytes], cache_control: bool, body: bytes) -> None:
        self._complete_lines(code, lines, cache_control)
        lines.append(b"")
        lines.append(body)
        if self._out:
            self.flush()
        self.transport.write(b"\r\n".join(lines))
        self.upstream = None
        self._finish()

    def response_lines(self, code: int, lines: list[bytes], cache_control: bool) -> None:
        self._complete_lines(code, lines, cache_control)
        lines.append(b"\r\n")
        self._out.append(b"\r\n".join(lines))

    def _complete_lines(self, code: int, lines: list[bytes], cache_control: bool) -> None:
        self.code = code
        self.head_sent = True
        self._replay = None
        self._chunk_out = False
        if self.plane.draining:
            self.keep_alive = False
        lines.append(b"Audit-Id: " + self.audit_id)
        if not cache_control:
            lines.append(b"Cache-Control: no-cache, private")
        if not self.keep_alive:
            lines.append(b"Connection: close")

    def response_body(self, data: bytes) -> None:
        if self._chunk_out:
            self._at_line_end = data[-1] == 10
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)

    def response_end(self, trailers: bytes) -> None:
        if self._chunk_out:
            self._out.append(b"0\r\n%b\r\n" % trailers)
        self.flush()
        self.upstream = None
        self._finish()

    def response_switched(self, head: ResponseHead, rest: bytes) -> None:
        self.code = 101
        self.head_sent = True
        self.deadline = math.inf
        self.state = TUNNEL
        self._out.append(wire.switched(head) + rest)
        self.flush()
        self._tunnel_opened()

    def tunnel_data(self, data: bytes) -> None:
        self.transport.write(data)

    def flush(self) -> None:
        out = self._out
        if out:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def upstream_lost(self, error: BaseException | None, answered: bool) -> None:
        upstream, self.upstream = self.upstream, None
        if self.state == TUNNEL:
            self._account()
            self.state = CLOSED
            self.transport.close()
            return
        if upstream is not None and not answered:
            # RFC 9110 9.2.2: the connection died under a safe request without a body.
            again, reused = self._replay, upstream.reused
            if isinstance(error, NeverProcessed):
                again, reused = error.sent, True
            if isinstance(error, Unshared) and again is not None:
                self._send_alone(upstream, again)
                return
            if not reused and self.remote:
                upstream.endpoint.failed(error)
            if again is not None and self._may_retry(upstream, reused=reused):
                self._retry(upstream, again)
                return
        cause = describe(error, upstream.endpoint.where if upstream is not None else "")
        if self.head_sent:
            self._log_failure("response broken off", cause)
            self.abort()
            return
        if self.remote:
            self.plane.on_unreachable(self.route_name)
        self.reply(text(503, UNREACHABLE + cause))

    # Waiter: called by the pool

    def upstream_connected(self, connection: Carrier) -> None:
        self.dial = None
        self.upstream = connection
        connection.begin(self if self.record is None else self.record.tap(self, connection))
        if self._write_blocked:
            connection.pause()
        self._upstream_open()

    def upstream_unreachable(self, error: BaseException) -> None:
        dial, self.dial = self.dial, None
        assert dial is not None
        if isinstance(error, Overloaded):
            self.reply(error.answer)
            return
        if self._counters is not None:
            self._counters.connect_errors += 1
        if self.remote:
            self.plane.on_unreachable(self.route_name)
        prefix = "error dialing backend: " if self.upgrade else UNREACHABLE
        self.reply(text(503, prefix + describe(error, dial.where)))

    # Ends

    def reply(self, answer: Reply) -> None:
        """Answer the current request ourselves."""
        self._drop_upstream()
        if self.record is not None:
            self.record.replied(answer)
        if answer.terminated and answer.target is not None:
            self.plane.metrics.terminated(answer.target, answer.code)
        if answer.close or self.plane.draining or not self.request_complete or self.upgrade:
            self.keep_alive = False
        self.code = answer.code
        self.head_sent = True
        if answer.code >= 500 and answer.logged:
            self._log_failure("request failed", answer.body.decode("utf-8", "replace").strip())
        self._write_reply(
            wire.reply(
                answer,
                audit_id=self.audit_id,
                date=http_date.now(),
                close=not self.keep_alive,
                head_request=self.head_request,
            )
        )
        self._finish()

    def _write_reply(self, answer: bytes) -> None:
        """A whole response in the form of HTTP/1.1."""
        self._out.append(answer)
        self.flush()

    def _give_up(self, answer: Reply) -> None:
        """Answer ourselves while the upstream's response is being read."""
        self._out.clear()
        self.reply(answer)

    def _finish(self) -> None:
        """The response is complete."""
        now = self._account()
        self._replay = None
        if self.request_complete:
            if self.keep_alive:
                self.state = IDLE
                self.deadline = now + self.plane.limits.idle_seconds
            else:
                self._close()
        else:
            self.state = DRAINING
            self.deadline = now + self.plane.limits.linger_seconds
        self._settled()

    def _account(self) -> float:
        """Count the exchange as over; the time."""
        now = time.monotonic()
        plane = self.plane
        counters = self._counters
        if counters is not None:
            self._counters = None
            plane.metrics.in_flight -= 1
            if self.long_running:
                plane.metrics.long_running -= 1
            flow = self.flow
            if flow is not None:
                self.flow = None
                flow.leave()
            counters.observe(self.method, self.code, now - self._began, not self.long_running)
            if plane.debug:
                log.debug("request", **self._facts(), seconds=round(now - self._began, 6))
            record = self.record
            if record is not None:
                self.record = None
                record.finish(self.code, now - self._began)
        return now

    def _close(self) -> None:
        """Close after everything written has been sent."""
        self.state = CLOSED
        self.deadline = time.monotonic() + _FLUSH_SECONDS
        self.transport.close()

    def abort(self) -> None:
        """Break the connection off, so that a client sees that the response is not complete."""
        if self.state in (ACTIVE, TUNNEL):
            self._account()
        self._drop_upstream()
        self.state = CLOSED
        self.transport.abort()

    def _drop_upstream(self) -> None:
        if self.dial is not None:
            self.dial.cancel()
            self.dial = None
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.release()

    def expired(self) -> None:
        """The deadline of the current state has passed."""
        if self.state == ACTIVE:
            if self.head_sent:
                self._log_failure("response broken off", CONTEXT_DEADLINE)
                self.abort()
                return
            if self.upstream is not None and self.remote:
                self._upstream_silent(self.upstream)
            if self.target is not None and self.target.discovery and self.remote:
                self.reply(text(503, UNREACHABLE + CONTEXT_DEADLINE))
            else:
                self.reply(GATEWAY_TIMEOUT)
        elif self.state == IDLE:
            self._idle_expired()
        else:
            self.state = CLOSED
            self.transport.abort()

    def _upstream_silent(self, upstream: Carrier) -> None:
        seconds = time.monotonic() - self._began
        if seconds >= SILENCE_SECONDS:
            endpoint = upstream.endpoint
            endpoint.timed_out(endpoint.owner.tick - int(seconds / self.plane.limits.sweep_seconds))

    def end_watch(self) -> bool:
        """End a streaming response between two of its lines, as if the server had; False if it is none."""
        if self.state != ACTIVE or not self.long_running:
            return False
        if not (self.head_sent and self._chunk_out and self._at_line_end):
            return False
        self._drop_upstream()
        self.keep_alive = False
        self.response_end(b"")
        return True

    def _log_failure(self, event: str, cause: str) -> None:
        log.warning(event, **self._facts(), error=cause)

    def _facts(self) -> dict[str, Any]:
        return {
            "audit_id": self.audit_id.decode(),
            "method": self.method.decode(),
            "path": self.target.info.path if self.target is not None else "",
            "apiservice": self.route_name,
            "code": self.code,
        }

    # Provided by the request half

    def upstream_ready(self) -> None:
        """Exchange: the upstream takes more of the request."""
        raise NotImplementedError

    def upstream_full(self) -> None:
        """Exchange: the upstream's buffer is full."""
        raise NotImplementedError

    def _settled(self) -> None:
        """The exchange is over: go on with what has been received meanwhile."""
        raise NotImplementedError

    def _tunnel_opened(self) -> None:
        raise NotImplementedError

    def _upstream_open(self) -> None:
        """A new upstream connection is there: send the request."""
        raise NotImplementedError

    def _idle_expired(self) -> None:
        raise NotImplementedError
