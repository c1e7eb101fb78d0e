"""Spans of proxied requests for OpenTelemetry: one for the request, one for its way to the upstream.

Sampling is decided here, before the SDK is asked: a request that is not sampled costs a look at its traceparent. Who
sends a valid traceparent has decided already; for others a ratio counts. Export runs in the SDK's own thread.
"""

import random
import threading
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from aggregator.observe import render
from aggregator.proxy.observer import Record
from aggregator.proxy.plane import Plan, Plane
from apimachinery.request_info import RequestInfo

_TRACES_PATH = "/v1/traces"
_EXPORT_SECONDS = 5.0
_STOP_SECONDS = 3.0
_SAMPLED = 1
_NANOSECONDS = 1_000_000_000


class Tracer:
    """A sink of the observer. `endpoint` is the collector's base URL, or its whole URL if that has a path."""

    def __init__(self, endpoint: str, *, ratio: float, version: str) -> None:
        url = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _TRACES_PATH
        resource = Resource.create({SERVICE_NAME: "api-aggregator", SERVICE_VERSION: version})
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=url, timeout=_EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("aggregator.proxy", version)
        self._ratio = ratio

    def stop(self) -> None:
        """Send what is waiting; a collector that does not answer is given up after seconds."""
        # The SDK's own limits do not hold together: retries and the timeouts of requests add up.
        ending = threading.Thread(target=self._provider.shutdown, name="tracing-stop", daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)

    # Sink

    def decided(self, record: Record, plane: Plane) -> None:
        self._begin(record, b"\r\n")

    def planned(self, record: Record, plan: Plan, plane: Plane) -> None:
        self._begin(record, b"")

    def started(self, record: Record) -> None: ...

    def finished(self, record: Record) -> None:
        spans = record.trace
        if not isinstance(spans, _Spans):
            return
        end = int((record.received + record.seconds) * _NANOSECONDS)
        if spans.client is not None and record.where:
            spans.client.set_attributes(_upstream_attributes(record))
            _outcome(spans.client, record, 400)
            spans.client.end(end)
        spans.server.set_attributes(_request_attributes(record))
        _outcome(spans.server, record, 500)
        spans.server.end(end)

    def _begin(self, record: Record, line_end: bytes) -> None:
        """Begin the spans, if the request is sampled, and tell the upstream of the second one."""
        found = render.traceparent(record.lines)
        if found is None:
            if random.random() >= self._ratio:
                return
            context = None
        else:
            _, trace_id, parent_id, flags = found
            if not flags & _SAMPLED:
                return
            parent = SpanContext(
                int(trace_id, 16), int(parent_id, 16), is_remote=True, trace_flags=TraceFlags(_SAMPLED)
            )
            context = trace.set_span_in_context(NonRecordingSpan(parent))
        began = int(record.received * _NANOSECONDS)
        route = _route(record.target.info) if record.target is not None else ""
        name = f"{_method(record)} {route}" if route else _method(record)
        server = self._tracer.start_span(name, context, SpanKind.SERVER, start_time=began)
        client: Span | None = None
        if record.reply is None:
            inner = trace.set_span_in_context(server)
            client = self._tracer.start_span(name, inner, SpanKind.CLIENT, start_time=began)
            told = client.get_span_context()
            line = f"traceparent: 00-{told.trace_id:032x}-{told.span_id:016x}-01".encode() + line_end
            # A traceparent that is not valid must not travel on beside ours.
            record.lines[:] = [item for item in record.lines if item[:12].lower() != b"traceparent:"]
            record.lines.append(line)
        record.trace = _Spans(server, client)


class _Spans:
    __slots__ = ("client", "server")

    def __init__(self, server: Span, client: Span | None) -> None:
        self.server = server
        self.client = client


def _method(record: Record) -> str:
    return record.method.decode("latin-1")


def _route(info: RequestInfo) -> str:
    """A pattern that requests of one kind share; empty for what is no resource."""
    if not info.is_resource:
        return ""
    parts = ["", "apis", info.group, info.version] if info.group else ["", "api", info.version]
    if info.namespace and info.resource != "namespaces":
        parts += ["namespaces", "{namespace}"]
    parts.append(info.resource)
    if info.name:
        parts.append("{name}")
    if info.subresource:
        parts.append(info.subresource)
    return "/".join(parts)


def _request_attributes(record: Record) -> dict[str, Any]:
    path, _, query = render.uri(record.raw_target).partition("?")
    found: dict[str, Any] = {
        "http.request.method": _method(record),
        "url.scheme": "https",
        "url.path": path,
        "network.protocol.name": "http",
        "network.protocol.version": record.http_version,
        "network.peer.address": record.peer.decode("latin-1"),
        "client.address": render.addresses(record.forwarded_for, record.peer)[0],
        "http.response.body.size": record.sent,
        "aggregator.audit_id": record.audit_id.decode(),
        "aggregator.apiservice": record.route,
    }
    if query:
        found["url.query"] = query
    agent = render.field(record.lines, b"user-agent:")
    if agent:
        found["user_agent.original"] = agent
    if record.target is not None and record.target.info.is_resource:
        found["http.route"] = _route(record.target.info)
    return found


def _upstream_attributes(record: Record) -> dict[str, Any]:
    authority = record.authority.decode("latin-1")
    host, _, port = authority.rpartition(":")
    found: dict[str, Any] = {
        "http.request.method": _method(record),
        "url.full": f"https://{authority}{render.uri(record.raw_target)}",
        "server.address": host or authority,
        "network.peer.address": record.where,
        "aggregator.apiservice": record.route,
    }
    if port.isdecimal():
        found["server.port"] = int(port)
    if record.resent:
        found["http.request.resend_count"] = record.resent
    return found


def _outcome(span: Span, record: Record, error_from: int) -> None:
    span.set_attribute("http.response.status_code", record.code)
    if record.code >= error_from:
        span.set_attribute("error.type", str(record.code))
        span.set_status(Status(StatusCode.ERROR))
    elif not record.ended:
        span.set_attribute("error.type", "broken")
        span.set_status(Status(StatusCode.ERROR, "the response was broken off"))
