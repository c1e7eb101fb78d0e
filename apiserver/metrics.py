"""Metrics of a server: requests, work queues, process. One registry per server, no globals (aggregator.md 2.9)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    exposition,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.registry import Collector

from apimachinery.request_info import RequestInfo

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_QUEUE_SECONDS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_REQUEST_LABELS = ("verb", "group", "version", "resource", "subresource", "scope", "component", "code")
_MEMO_LIMIT = 1024
_OTHER = ("", "", "", "", "", "")

CONTENT_TYPE: Final = exposition.CONTENT_TYPE_PLAIN_0_0_4

# Series that tell when a counter began would double the size of every scrape.
disable_created_metrics()  # type: ignore[no-untyped-call]


_OPENAPI_V3 = "/openapi/v3"


def render(registry: CollectorRegistry) -> tuple[bytes, str]:
    """All metrics in the classic text format; returns body and content type.

    Never OpenMetrics: there a gauge `aggregator_unavailable_apiservice` beside a counter of that name plus `_total`, as
    the originals have them, is not allowed.
    """
    return exposition.generate_latest(registry), CONTENT_TYPE


def _openapi(path: str) -> str:
    """The label of a path of OpenAPI v3: its root or, whichever it is, one of its documents; empty for any other."""
    if path == _OPENAPI_V3:
        return "openapi/v3"
    return "openapi/v3/" if path.startswith(f"{_OPENAPI_V3}/") else ""


def _scope(info: RequestInfo) -> str:
    if not info.is_resource:
        return ""
    if info.name:
        return "resource"
    return "namespace" if info.namespace else "cluster"


class ServerMetrics:
    """What the API server counts; one instance per registry, which also gets the collectors of the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._requests = Counter(
            "apiserver_request_total",
            "Counter of apiserver requests broken out for each verb, resource and HTTP code.",
            _REQUEST_LABELS,
            registry=registry,
        )
        self._durations = Histogram(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, resource and scope.",
            _REQUEST_LABELS[:-1],
            buckets=_SECONDS,
            registry=registry,
        )
        in_flight = Gauge(
            "apiserver_current_inflight_requests",
            "Number of requests under way, by kind.",
            ("request_kind",),
            registry=registry,
        )
        self._in_flight = {True: in_flight.labels("mutating"), False: in_flight.labels("readOnly")}
        self._series: dict[tuple[str, ...], tuple[Counter, Histogram | None]] = {}
        self._queues = QueueMetrics(registry)

    def in_flight(self, mutating: bool, change: int) -> None:
        self._in_flight[mutating].inc(change)

    def observe(self, info: RequestInfo | None, code: int, seconds: float, *, served: bool = True) -> None:
        """Count an answered request; `served` tells whether what it asks for exists here.

        What clients choose freely is no label, or one of them could fill the memory: the paths of requests for no
        resource, and the group, the resource and the rest of a request for one that is not served. Those of OpenAPI v3
        count as subresources (aggregator.md 5.2).
        """
        labels = _OTHER
        if info is not None and not served:
            labels = (info.verb, *_OTHER[1:])
        elif info is not None:
            subresource = info.subresource if info.is_resource else _openapi(info.path)
            labels = (info.verb, info.group, info.version, info.resource, subresource, _scope(info))
        requests, durations = self._series_of((*labels, "apiserver", str(code)))
        requests.inc()
        if durations is not None:
            durations.observe(seconds)

    def _series_of(self, labels: tuple[str, ...]) -> tuple[Counter, Histogram | None]:
        """Looking a series up in the client library takes a tenth of a small request's time."""
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= _MEMO_LIMIT:
                self._series.clear()
            durations = None if labels[0] == "watch" else self._durations.labels(*labels[:-1])
            series = self._series[labels] = (self._requests.labels(*labels), durations)
        return series

    def queue(self, name: str) -> "QueueInstruments":
        """The instruments of one work queue."""
        return self._queues.of(name)


@dataclass(frozen=True, slots=True)
class QueueInstruments:
    """The `workqueue_*` metrics of one queue."""

    depth: Gauge
    adds: Counter
    waited: Histogram
    worked: Histogram
    retries: Counter
    watch_running: Callable[[Callable[[], list[float]]], None]
    """Takes a function that tells for how many seconds each running item has been worked on."""


class _Running(Collector):
    def __init__(self) -> None:
        self.sources: dict[str, Callable[[], list[float]]] = {}

    def collect(self) -> Iterator[Metric]:
        unfinished = GaugeMetricFamily(
            "workqueue_unfinished_work_seconds",
            "[ALPHA] Seconds of work in progress that work_duration has not observed yet.",
            labels=("name",),
        )
        longest = GaugeMetricFamily(
            "workqueue_longest_running_processor_seconds",
            "[ALPHA] Seconds that the longest running processor of the queue has been running.",
            labels=("name",),
        )
        for name, source in self.sources.items():
            running = source()
            unfinished.add_metric((name,), sum(running))
            longest.add_metric((name,), max(running, default=0.0))
        yield unfinished
        yield longest


class QueueMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        names = ("name",)
        self._depth = Gauge("workqueue_depth", "[ALPHA] Current depth of the queue.", names, registry=registry)
        self._adds = Counter(
            "workqueue_adds_total", "[ALPHA] Total number of adds handled by the queue.", names, registry=registry
        )
        self._waited = Histogram(
            "workqueue_queue_duration_seconds",
            "[ALPHA] Seconds an item stays in the queue before it is worked on.",
            names,
            buckets=_QUEUE_SECONDS,
            registry=registry,
        )
        self._worked = Histogram(
            "workqueue_work_duration_seconds",
            "[ALPHA] Seconds that working on an item takes.",
            names,
            buckets=_QUEUE_SECONDS,
            registry=registry,
        )
        self._retries = Counter(
            "workqueue_retries_total", "[ALPHA] Total number of retries of the queue.", names, registry=registry
        )
        self._running = _Running()
        registry.register(self._running)

    def of(self, name: str) -> QueueInstruments:
        def watch_running(source: Callable[[], list[float]]) -> None:
            self._running.sources[name] = source

        return QueueInstruments(
            depth=self._depth.labels(name),
            adds=self._adds.labels(name),
            waited=self._waited.labels(name),
            worked=self._worked.labels(name),
            retries=self._retries.labels(name),
            watch_running=watch_running,
        )
