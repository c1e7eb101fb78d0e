"""The metrics of availability; names and meaning as aggregator.md 3.4 has them, plus what single checks cost."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_UNAVAILABLE_TOTAL = "aggregator_unavailable_apiservice_total"
_UNAVAILABLE_TOTAL_HELP = (
    "[ALPHA] Counter of APIServices which are marked as unavailable broken down by APIService name and reason."
)
_UNAVAILABLE = "aggregator_unavailable_apiservice"
_UNAVAILABLE_HELP = "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name."
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 6.0)


class _Unavailable(Collector):
    """Gauge and counter in one collector: the library refuses a counter whose name is a gauge's plus `_total`."""

    def __init__(self) -> None:
        self.gauge: dict[str, float] = {}
        self.counts: dict[tuple[str, str], float] = {}

    def collect(self) -> Iterator[Metric]:
        counter = CounterMetricFamily(_UNAVAILABLE_TOTAL, _UNAVAILABLE_TOTAL_HELP, labels=("name", "reason"))
        for key, count in sorted(self.counts.items()):
            counter.add_metric(key, count)
        gauge = GaugeMetricFamily(_UNAVAILABLE, _UNAVAILABLE_HELP, labels=("name",))
        for name, value in sorted(self.gauge.items()):
            gauge.add_metric((name,), value)
        yield gauge
        yield counter


class AvailabilityMetrics:
    """What the availability controllers count; one instance per registry, shared by the local and the remote one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._unavailable = _Unavailable()
        registry.register(self._unavailable)
        self._latency = Histogram(
            "aggregator_apiservice_probe_duration_seconds",
            "Duration of availability checks of APIServices, from the first request to the verdict.",
            ("name",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._results = PrometheusCounter(
            "aggregator_apiservice_probes",
            "Availability checks of APIServices broken down by APIService name and resulting reason.",
            ("name", "reason"),
            registry=registry,
        )
        self._reasons: dict[str, set[str]] = {}

    def set_available(self, name: str, available: bool) -> None:
        self._unavailable.gauge[name] = 0.0 if available else 1.0

    def count_unavailable(self, name: str, reason: str) -> None:
        """Count a transition from available to anything else."""
        key = (name, reason)
        self._unavailable.counts[key] = self._unavailable.counts.get(key, 0.0) + 1

    def observe_probe(self, name: str, reason: str, seconds: float) -> None:
        self._latency.labels(name).observe(seconds)
        self._results.labels(name, reason).inc()
        self._reasons.setdefault(name, set()).add(reason)

    def forget(self, name: str) -> None:
        """Drop the series of a deleted APIService; the counter of transitions stays, as history."""
        self._unavailable.gauge.pop(name, None)
        reasons = self._reasons.pop(name, None)
        if reasons is None:
            return
        self._latency.remove(name)
        for reason in reasons:
            self._results.remove(name, reason)
