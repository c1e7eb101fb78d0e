"""What is told of requests while they pass, for audit, access log and traces. Without an observer nothing of it runs.

A `Record` collects references while its request is served; what is made of them is made later and elsewhere. Responses
are watched by a `Tap` that stands between the upstream connection and the exchange.
"""

import time
from collections.abc import Sequence
from typing import Protocol

from aggregator.proxy.carrier import Carrier
from aggregator.proxy.decide import Forward, Identity, Reply
from aggregator.proxy.exchange import Exchange
from aggregator.proxy.headers import RequestHead, ResponseHead
from aggregator.proxy.plane import Plan, Plane
from aggregator.proxy.target import Target, read_target
from apimachinery import authorization, impersonation
from apimachinery.authorization import ANONYMOUS_USER, Decision
from apimachinery.identity import User
from apimachinery.status import APIError

_ALLOWED = {400: None, 401: None, 403: False, 500: None}
"""What a reply's code tells about authorization; with any other, the request had been allowed."""


class Body:
    """A body, or the fact that it was larger than `limit` bytes."""

    __slots__ = ("_pieces", "limit", "size", "truncated")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        """Bytes held."""
        self.truncated = False
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> None:
        if self.truncated:
            return
        if self.size + len(data) > self.limit:
            self.truncated = True
            self._pieces.clear()
            self.size = 0
        else:
            self._pieces.append(data)
            self.size += len(data)

    @property
    def data(self) -> bytes:
        return b"".join(self._pieces)


class Record:
    """One request. Written on the event loop until `finish`, read anywhere after that."""

    __slots__ = (
        "allowed",
        "audit_id",
        "authority",
        "code",
        "ended",
        "forwarded_for",
        "http_version",
        "impersonated",
        "lines",
        "method",
        "note",
        "observer",
        "peer",
        "raw_target",
        "reason",
        "received",
        "reply",
        "request_body",
        "resent",
        "response_body",
        "route",
        "seconds",
        "sent",
        "target",
        "trace",
        "user",
        "where",
    )

    def __init__(
        self, observer: "Observer", audit_id: bytes, peer: bytes, method: bytes, raw_target: bytes, version: str
    ) -> None:
        self.observer = observer
        self.audit_id = audit_id
        self.peer = peer
        self.method = method
        self.raw_target = raw_target
        self.http_version = version
        self.received = time.time()
        """Wall clock time of the head's arrival."""
        self.lines: list[bytes] = []
        """Fields of the request that travel on, with or without line ends: nothing secret is among them by name."""
        self.forwarded_for = b""
        self.target: Target | None = None
        self.user: User | None = None
        """The caller; None without credentials that count."""
        self.impersonated: User | None = None
        self.allowed: bool | None = None
        """What authorization said; None when it was not asked."""
        self.reason = ""
        """Why; filled in by whoever needs it."""
        self.route = "local"
        self.where = ""
        """Address of the endpoint that was asked last; empty when none was."""
        self.authority = b""
        self.code = 0
        self.seconds = 0.0
        self.sent = 0
        """Bytes of the response's body."""
        self.ended = False
        """The response is complete; otherwise it was broken off."""
        self.resent = 0
        self.reply: Reply | None = None
        """The proxy's own answer."""
        self.request_body: Body | None = None
        self.response_body: Body | None = None
        self.note: object = None
        """The audit's."""
        self.trace: object = None
        """The tracer's."""

    def decided(self, plane: Plane, identity: Identity, head: RequestHead, verdict: Forward | Reply) -> None:
        """It is known what happens with the request; `identity` is what its connection says.

        May change `head.lines`.
        """
        self.lines = head.lines
        self.forwarded_for = head.forwarded_for
        target = verdict.target or read_target(self.method, self.raw_target)
        self.target = target if isinstance(target, Target) else None
        if isinstance(verdict, Forward):
            self.route = verdict.route.name
            self.allowed = True
        else:
            self.reply = verdict
            self.route = verdict.route
            self.allowed = _ALLOWED.get(verdict.code, True)
        caller = plane.caller(identity, head)
        self.user = caller.user if isinstance(caller, Identity) else None
        if self.user is None and not (isinstance(verdict, Reply) and verdict.code == 401):
            self.user = ANONYMOUS_USER
        if head.impersonation:
            self.impersonated = _acts_as(plane, self.user, head.impersonation)
        for sink in self.observer.sinks:
            sink.decided(self, plane)

    def tap(self, exchange: Exchange, connection: Carrier) -> Exchange:
        """What stands in for the exchange towards this connection."""
        if self.where:
            self.resent += 1
        self.where = connection.endpoint.where
        self.authority = connection.endpoint.authority
        return Tap(self, exchange)

    def replied(self, answer: Reply) -> None:
        """The proxy answers itself."""
        self.reply = answer
        self.sent = 0 if self.method == b"HEAD" else len(answer.body)
        self.ended = True

    def started(self, code: int) -> None:
        """The head of a long-running response is here."""
        self.code = code
        for sink in self.observer.sinks:
            sink.started(self)

    def finish(self, code: int, seconds: float) -> None:
        self.code = code
        self.seconds = seconds
        for sink in self.observer.sinks:
            sink.finished(self)


def _acts_as(plane: Plane, user: User | None, wanted: Sequence[tuple[str, str]]) -> User | None:
    """Whom the request was made as; None when the caller may not act so."""
    try:
        asked = impersonation.read(wanted)
    except APIError:
        return None
    if asked is None or user is None:
        return None
    if not authorization.privileged(plane.authorizer, user):
        for check in impersonation.required(asked):
            decision = plane.authorizer.authorize(user, check)
            if not isinstance(decision, Decision) or not decision.allowed:
                return None
    return impersonation.impersonated(asked)


class Sink(Protocol):
    """Called on the event loop: to keep the record and go away is all that it may do."""

    def decided(self, record: Record, plane: Plane) -> None:
        """Nothing has been sent to the upstream yet; `record.lines` may still be changed."""

    def planned(self, record: Record, plan: Plan, plane: Plane) -> None:
        """The same for a plain request whose decision is remembered in a plan."""

    def started(self, record: Record) -> None: ...

    def finished(self, record: Record) -> None: ...


class Observer:
    """Makes the records of a process."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = tuple(sinks)

    def begin(self, audit_id: bytes, peer: bytes, method: bytes, raw_target: bytes, version: str = "1.1") -> Record:
        """A request whose decision is to come: see `Record.decided`."""
        return Record(self, audit_id, peer, method, raw_target, version)

    def plain(
        self, plane: Plane, plan: Plan, audit_id: bytes, peer: bytes, lines: list[bytes], version: str = "1.1"
    ) -> Record:
        """A request of a plan; may change `lines`."""
        record = Record(self, audit_id, peer, plan.method, plan.raw_target, version)
        record.lines = lines
        record.target = plan.target
        record.route = plan.route_name
        record.user = plan.user
        record.allowed = True
        for sink in self.sinks:
            sink.planned(record, plan, plane)
        return record


class Tap:
    """An exchange that is watched: passes everything on, and counts."""

    __slots__ = ("_exchange", "_record")

    def __init__(self, record: Record, exchange: Exchange) -> None:
        self._record = record
        self._exchange = exchange

    @property
    def head_request(self) -> bool:
        return self._exchange.head_request

    @property
    def request_complete(self) -> bool:
        return self._exchange.request_complete

    @property
    def upgrade(self) -> bool:
        return self._exchange.upgrade

    @property
    def long_running(self) -> bool:
        return self._exchange.long_running

    def response_informational(self, code: int, head: ResponseHead) -> None:
        self._exchange.response_informational(code, head)

    def response_refused(self) -> bool:
        return self._exchange.response_refused()

    def response_head(self, code: int, head: ResponseHead, has_body: bool) -> bool:
        going_on = self._exchange.response_head(code, head, has_body)
        if going_on and self._exchange.long_running:
            self._record.started(code)
        return going_on

    def response_lines(self, code: int, lines: list[bytes], cache_control: bool) -> None:
        if self._exchange.long_running:
            self._record.started(code)
        self._exchange.response_lines(code, lines, cache_control)

    def response_whole(self, code: int, lines: list[bytes], cache_control: bool, body: bytes) -> None:
        record = self._record
        record.sent = len(body)
        record.ended = True
        if record.response_body is not None:
            record.response_body.add(body)
        if self._exchange.long_running:
            record.started(code)
        self._exchange.response_whole(code, lines, cache_control, body)

    def response_body(self, data: bytes) -> None:
        record = self._record
        record.sent += len(data)
        if record.response_body is not None:
            record.response_body.add(data)
        self._exchange.response_body(data)

    def response_end(self, trailers: bytes) -> None:
        self._record.ended = True
        self._exchange.response_end(trailers)

    def response_switched(self, head: ResponseHead, rest: bytes) -> None:
        self._record.ended = True
        self._record.started(101)
        self._exchange.response_switched(head, rest)

    def tunnel_data(self, data: bytes) -> None:
        self._record.sent += len(data)
        self._exchange.tunnel_data(data)

    def flush(self) -> None:
        self._exchange.flush()

    def upstream_lost(self, error: BaseException | None, answered: bool) -> None:
        self._exchange.upstream_lost(error, answered)

    def upstream_ready(self) -> None:
        self._exchange.upstream_ready()

    def upstream_full(self) -> None:
        self._exchange.upstream_full()
