"""Traces: what passes untouched, and what a collector gets. The collector is a real OTLP/HTTP receiver on loopback."""

import contextlib
import gzip
import http.server
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from aggregator.observe.render import traceparent
from aggregator.observe.tracing import Tracer
from aggregator.proxy.observer import Observer
from tests.unit.aggregator.observe_kit import Recorder, observed
from tests.unit.aggregator.proxy_kit import PKI, answer, answering, client, fields_of, on_uvloop, request

THING = "/apis/test/v1/namespaces/a/things/one"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


class Collector:
    """Decodes what is exported to it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[Any] = []
        self.paths: list[str] = []
        self.url = ""

    def take(self, path: str, body: bytes) -> None:
        self.paths.append(path)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(_attributes(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)

    def named(self) -> dict[str, Any]:
        """The server and the client span."""
        return {{2: "server", 3: "client"}[span.kind]: span for span in self.spans}


def _attributes(pairs: Sequence[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            found.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def tracing(collector: Collector, ratio: float = 0.0) -> Iterator[Tracer]:
    tracer = Tracer(collector.url, ratio=ratio, version="v1")
    try:
        yield tracer
    finally:
        tracer.stop()


_PASS = ("traceparent: " + SAMPLED, "tracestate: a=1,b=2", "Baggage: x=y")


@pytest.mark.parametrize("headers", [(), ("Audit-ID: mine",)], ids=["plain", "parsed"])
@on_uvloop
async def test_trace_context_passes_untouched(pki: PKI, tmp_path: Path, headers: tuple[str, ...]) -> None:
    seen: list[bytes] = []
    recorder = Recorder(tmp_path, "- level: Metadata\n")
    async with (
        observed(pki, answering(answer(b"ok"), seen), recorder.sinks) as (served, _),
        client(pki, served) as caller,
    ):
        await caller.get(THING, *_PASS, *headers)
        served.plane.observer = None
        await caller.get(THING, *_PASS, *headers)
    for head in seen:
        assert [fields_of(head, name) for name in ("traceparent", "tracestate", "baggage")] == [
            [SAMPLED],
            ["a=1,b=2"],
            ["x=y"],
        ]
    _, (line,) = recorder.stop()
    assert line["trace_id"] == TRACE


@pytest.mark.parametrize("headers", [(), ("Audit-ID: mine",)], ids=["plain", "parsed"])
@on_uvloop
async def test_a_sampled_request_has_two_spans(pki: PKI, collector: Collector, headers: tuple[str, ...]) -> None:
    seen: list[bytes] = []
    with tracing(collector) as tracer:
        async with (
            observed(pki, answering(answer(b"hello"), seen), [tracer]) as (served, upstream),
            client(pki, served) as caller,
        ):
            got = await caller.get(f"{THING}?a=1&token=hidden", *_PASS, "User-Agent: test/1", *headers)
    spans = collector.named()
    server, inner = spans["server"], spans["client"]
    assert len(collector.spans) == 2
    assert collector.paths == ["/v1/traces"]
    assert collector.resources[0]["service.name"] == "api-aggregator"
    assert {server.trace_id.hex(), inner.trace_id.hex()} == {TRACE}
    assert server.parent_span_id.hex() == PARENT
    assert inner.parent_span_id == server.span_id
    assert fields_of(seen[0], "traceparent") == [f"00-{TRACE}-{inner.span_id.hex()}-01"]
    assert fields_of(seen[0], "tracestate") == ["a=1,b=2"]
    assert server.name == "GET /apis/test/v1/namespaces/{namespace}/things/{name}"
    told = _attributes(server.attributes)
    assert told == {
        "http.request.method": "GET",
        "http.route": "/apis/test/v1/namespaces/{namespace}/things/{name}",
        "http.response.status_code": 200,
        "http.response.body.size": 5,
        "url.scheme": "https",
        "url.path": THING,
        "url.query": "a=1&token=***",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "network.peer.address": "127.0.0.1",
        "client.address": "127.0.0.1",
        "user_agent.original": "test/1",
        "aggregator.audit_id": got.all("audit-id")[0],
        "aggregator.apiservice": "v1.test",
    }
    inside = _attributes(inner.attributes)
    assert inside["server.port"] == upstream.port
    assert inside["url.full"] == f"https://127.0.0.1:{upstream.port}{THING}?a=1&token=***"
    assert server.end_time_unix_nano >= server.start_time_unix_nano > 1_000_000_000
    assert server.status.code == inner.status.code == 0


@pytest.mark.parametrize(
    ("ratio", "headers", "traced"),
    [
        pytest.param(1.0, (), True, id="all"),
        pytest.param(0.0, (), False, id="none"),
        pytest.param(1.0, (f"traceparent: {UNSAMPLED}",), False, id="parent-says-no"),
        pytest.param(0.0, (f"traceparent: {SAMPLED}",), True, id="parent-says-yes"),
        pytest.param(0.0, ("traceparent: nonsense",), False, id="bad-parent"),
        pytest.param(1.0, ("traceparent: nonsense",), True, id="bad-parent-replaced"),
    ],
)
@on_uvloop
async def test_who_decides(
    pki: PKI, collector: Collector, ratio: float, headers: tuple[str, ...], traced: bool
) -> None:
    seen: list[bytes] = []
    with tracing(collector, ratio) as tracer:
        async with (
            observed(pki, answering(answer(b"ok"), seen), [tracer]) as (served, _),
            client(pki, served) as caller,
        ):
            assert (await caller.get(THING, *headers)).status == 200
    sent = fields_of(seen[0], "traceparent")
    if traced:
        assert sent == [f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01" for span in [collector.named()["client"]]]
    else:
        assert collector.spans == []
        assert sent == [header.partition(": ")[2] for header in headers]


@on_uvloop
async def test_failures_are_errors_of_the_right_side(pki: PKI, collector: Collector) -> None:
    with tracing(collector, 1.0) as tracer:
        async with (
            observed(pki, answering(answer(b"no", status="404 Not Found")), [tracer]) as (served, _),
            client(pki, served) as caller,
        ):
            assert (await caller.get(THING)).status == 404
            await caller.send(request("GET", "/apis/other.group/v1/things"))
            assert (await caller.response()).status == 503
    first, second = (
        [span for span in collector.spans if _attributes(span.attributes)["http.response.status_code"] == code]
        for code in (404, 503)
    )
    assert {span.kind: span.status.code for span in first} == {2: 0, 3: 2}
    assert {span.kind: (span.status.code, _attributes(span.attributes)["error.type"]) for span in second} == {
        2: (2, "503")
    }


def test_a_silent_collector_does_not_hold_up_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracer = Tracer(f"http://127.0.0.1:{silent.getsockname()[1]}", ratio=1.0, version="v1")
        record = Observer([tracer]).begin(b"id", b"127.0.0.1", b"GET", b"/x")
        tracer.decided(record, None)  # type: ignore[arg-type]
        record.finish(200, 0.1)
        began = time.monotonic()
        tracer.stop()
        assert 1 < time.monotonic() - began < 4.5


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        pytest.param(SAMPLED, True, id="valid"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01-more", True, id="later-version"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01more", False, id="later-version-without-dash"),
        pytest.param(f"{SAMPLED}-more", False, id="version-00-is-complete"),
        pytest.param(f"ff-{TRACE}-{PARENT}-01", False, id="no-version"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", False, id="no-trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", False, id="no-parent"),
        pytest.param(SAMPLED.upper(), False, id="upper-case"),
        pytest.param("", False, id="empty"),
    ],
)
@pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["bare", "with-end"])
def test_reading_a_traceparent(value: str, valid: bool, end: bytes) -> None:
    found = traceparent([b"Accept: x" + end, f"TraceParent: {value}".encode() + end])
    assert (found is not None) is valid
    if found is not None:
        assert found == (1, TRACE.encode(), PARENT.encode(), 1)
