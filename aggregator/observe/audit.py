"""The audit log: asks the policy about each request, and hands the events of its stages to the writer."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from aggregator.observe.audit_event import event
from aggregator.observe.audit_policy import LEVEL_NAMES, NOTHING, AuditPolicy, Level, Stage, Wanted
from aggregator.observe.writer import LineWriter, Output
from aggregator.proxy.observer import Body, Record
from aggregator.proxy.plane import Plan, Plane
from apimachinery import authorization
from apimachinery.authorization import Decision

_HELD_BODY_BYTES = 64 * 1024 * 1024
"""Bodies that wait to be written, all together."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event to be written."""

    record: Record
    wanted: Wanted
    stage: Stage
    code: int
    moment: float


def _render(entry: Entry) -> bytes:
    return event(entry.record, entry.wanted, entry.stage, entry.code, entry.moment)


class AuditLog(Collector):
    """A sink of the observer, and the collector of its own metrics. `policy` may be replaced at any time."""

    def __init__(
        self, policy: AuditPolicy, output: Output, *, body_bytes: int, queue: int, block: bool = False
    ) -> None:
        self.policy = policy
        self._body_bytes = body_bytes
        self._events = 0
        self._levels = dict.fromkeys(Level, 0)
        self._writer = LineWriter(output, _render, name="audit", items=queue, held_bytes=_HELD_BODY_BYTES, block=block)

    def stop(self) -> None:
        self._writer.stop()

    # Sink

    def decided(self, record: Record, plane: Plane) -> None:
        if record.target is not None:
            self._begin(record, self.policy.wanted(record.user, record.target.info), plane)

    def planned(self, record: Record, plan: Plan, plane: Plane) -> None:
        wanted = plan.wanted
        if not isinstance(wanted, Wanted):
            wanted = plan.wanted = self.policy.wanted(plan.user, plan.target.info)
        if wanted.level is not Level.NONE:
            self._begin(record, wanted, plane)
        else:
            self._levels[Level.NONE] += 1

    def started(self, record: Record) -> None:
        if isinstance(record.note, Wanted):
            self._put(record, record.note, Stage.RESPONSE_STARTED, record.code)

    def finished(self, record: Record) -> None:
        if isinstance(record.note, Wanted):
            # A refused caller is told at once, and that is all there is to say (as the originals do).
            failed = record.user is None and record.code == 401
            stage = Stage.RESPONSE_STARTED if failed else Stage.RESPONSE_COMPLETE
            self._put(record, record.note, stage, record.code)

    def _begin(self, record: Record, wanted: Wanted, plane: Plane) -> None:
        self._levels[wanted.level] += 1
        if wanted is NOTHING or wanted.level is Level.NONE:
            return
        record.note = wanted
        record.reason = _reason(record, plane)
        if wanted.level >= Level.REQUEST:
            record.request_body = Body(self._body_bytes)
        if wanted.level is Level.REQUEST_RESPONSE and record.target is not None and not record.target.long_running:
            record.response_body = Body(self._body_bytes)
        if record.user is not None:
            self._put(record, wanted, Stage.REQUEST_RECEIVED, 0, record.received)

    def _put(self, record: Record, wanted: Wanted, stage: Stage, code: int, moment: float = 0.0) -> None:
        if not wanted.at(stage):
            return
        weight = 0
        if wanted.level >= Level.REQUEST:
            weight = sum(body.size for body in (record.request_body, record.response_body) if body is not None)
        self._events += 1
        self._writer.put(Entry(record, wanted, stage, code, moment or time.time()), weight)

    # Collector

    def collect(self) -> Iterator[Metric]:
        events = CounterMetricFamily(
            "apiserver_audit_event", "Counter of audit events generated and sent to the audit backend."
        )
        events.add_metric((), self._events)
        yield events
        errors = CounterMetricFamily(
            "apiserver_audit_error",
            "Counter of audit events that failed to be audited properly, because the queue was full or the file could "
            "not be written.",
            labels=("plugin",),
        )
        errors.add_metric(("log",), self._writer.dropped + self._writer.failed)
        yield errors
        levels = CounterMetricFamily(
            "apiserver_audit_level", "Counter of policy levels for audit events (1 per request).", labels=("level",)
        )
        for level, count in self._levels.items():
            levels.add_metric((LEVEL_NAMES[level],), count)
        yield levels


def _reason(record: Record, plane: Plane) -> str:
    """The authorizer's words about the request. It has answered just before, so it still knows."""
    user = record.impersonated or record.user
    if record.allowed is None or user is None or record.target is None:
        return ""
    if authorization.privileged(plane.authorizer, user):
        return ""
    decision = plane.authorizer.authorize(user, record.target.info)
    return decision.reason if isinstance(decision, Decision) else ""
