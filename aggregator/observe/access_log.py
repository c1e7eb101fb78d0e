"""The access log: one line for each finished request."""

from collections.abc import Iterator

import orjson
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from aggregator.observe import render
from aggregator.observe.writer import LineWriter, Output
from aggregator.proxy.observer import Record
from aggregator.proxy.plane import Plan, Plane
from apiserver import logs

_QUEUE = 16384


class AccessLog(Collector):
    """A sink of the observer, and the collector of its own metric."""

    def __init__(self, output: Output, format: logs.Format) -> None:
        def text_of(record: Record) -> bytes:
            return line(record, format)

        self._writer = LineWriter(output, text_of, name="access", items=_QUEUE)

    def stop(self) -> None:
        self._writer.stop()

    def decided(self, record: Record, plane: Plane) -> None:
        """There is nothing to note before the end."""

    def planned(self, record: Record, plan: Plan, plane: Plane) -> None: ...

    def started(self, record: Record) -> None: ...

    def finished(self, record: Record) -> None:
        self._writer.put(record)

    def collect(self) -> Iterator[Metric]:
        lost = CounterMetricFamily(
            "aggregator_access_log_lost_lines", "Lines of the access log that could not be queued or written."
        )
        lost.add_metric((), self._writer.dropped + self._writer.failed)
        yield lost


def line(record: Record, format: logs.Format) -> bytes:
    """The line of a finished request; the time is that of its end."""
    user = record.impersonated or record.user
    found: dict[str, str | int | float | bool | None] = {
        "ts": logs.timestamp(record.received + record.seconds),
        "msg": "access",
        "audit_id": record.audit_id.decode(),
        "client": record.peer.decode("latin-1"),
        "user": user.name if user is not None else "",
        "method": record.method.decode("latin-1"),
        "path": render.uri(record.raw_target),
        "protocol": f"HTTP/{record.http_version}",
        "status": record.code,
        "bytes": record.sent,
        "seconds": round(record.seconds, 6),
        "apiservice": record.route,
        "upstream": record.where,
        "trace_id": trace_id(record),
        "agent": render.field(record.lines, b"user-agent:"),
    }
    if record.impersonated is not None and record.user is not None:
        found["impersonator"] = record.user.name
    if not record.ended:
        found["broken"] = True
    # Bytes that are not UTF-8 were escaped above, so both forms can be encoded.
    text = orjson.dumps(found) if format == "json" else logs.line(found, format).encode()
    return text + b"\n"


def trace_id(record: Record) -> str:
    """The trace that the request belongs to: the caller's, or the one that was begun here; empty for none."""
    found = render.traceparent(record.lines)
    return found[1].decode() if found is not None else ""
