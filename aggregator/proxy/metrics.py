"""Metrics of the data plane: plain integers on the hot path, turned into Prometheus families when scraped."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from aggregator.proxy.admission import Seats
from aggregator.proxy.target import Target

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds."""

_TERMINATION_LABELS = ("verb", "group", "version", "resource", "subresource", "scope", "component", "code")
_TERMINATION_SERIES = 500


class RouteCounters:
    """What is counted for one APIService."""

    __slots__ = ("buckets", "codes", "connect_errors", "seconds")

    def __init__(self) -> None:
        self.codes: dict[tuple[bytes, int], int] = {}
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.connect_errors = 0

    def observe(self, method: bytes, code: int, seconds: float, timed: bool) -> None:
        """Count a finished request; `timed` is False for long-running ones, whose duration says nothing."""
        key = (method, code)
        codes = self.codes
        codes[key] = codes.get(key, 0) + 1
        if timed:
            self.buckets[bisect_left(BUCKETS, seconds)] += 1
            self.seconds += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamState:
    """What stands behind one APIService, at one moment."""

    endpoints: tuple[int, int, int]
    """How many are healthy, leaving and ejected."""
    ejections: int
    retries: int
    refused_retries: int
    rejected: int


class ProxyMetrics(Collector):
    """Register it on the process's registry; one writer, the event loop."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.long_running = 0
        self.routes: dict[str, RouteCounters] = {}
        self.refused_connections = {"total": 0, "address": 0}
        """Connections of clients that were closed at once, by the limit that was reached."""
        self.downstream_connections: Callable[[], int] = int
        self.upstream_connections: Callable[[], int] = int
        self.seats: tuple[tuple[str, Seats], ...] = ()
        """The limits of requests in progress, by kind."""
        self.upstream_states: Callable[[], Iterable[tuple[str, UpstreamState]]] = tuple
        self._terminations: dict[tuple[str, ...], int] = {}

    def route(self, name: str) -> RouteCounters:
        found = self.routes.get(name)
        if found is None:
            found = self.routes[name] = RouteCounters()
        return found

    def forget(self, names: Iterable[str]) -> None:
        """Drop the series of APIServices that are gone."""
        for name in names:
            self.routes.pop(name, None)
            version, _, group = name.partition(".")
            path = f"/apis/{group}/{version}"
            for key in [key for key in self._terminations if key[1:3] == (group, version) or key[4] == path]:
                del self._terminations[key]

    def terminated(self, target: Target, code: int) -> None:
        """Count a request that was ended here before any upstream saw it.

        Resources of an unavailable service are what clients call them: beyond some hundreds of series only the verb
        and the code tell requests apart.
        """
        info = target.info
        if info.is_resource:
            scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
            attributes = (info.verb, info.group, info.version, info.resource, info.subresource, scope)
        else:
            # The path itself would be an unbounded label; its first three segments name the API.
            attributes = (info.verb, "", "", "", "/".join(info.path.split("/", 4)[:4]), "")
        key = (*attributes, "aggregator", str(code))
        if key not in self._terminations and len(self._terminations) >= _TERMINATION_SERIES:
            key = (info.verb, "", "", "", "", "", "aggregator", str(code))
        self._terminations[key] = self._terminations.get(key, 0) + 1

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "aggregator_proxy_requests",
            "Requests answered through the proxy, by APIService, method and status code.",
            labels=("apiservice", "method", "code"),
        )
        duration = HistogramMetricFamily(
            "aggregator_proxy_request_duration_seconds",
            "Time from a request's head to the end of its response; long-running requests are left out.",
            labels=("apiservice",),
        )
        errors = CounterMetricFamily(
            "aggregator_proxy_upstream_connect_errors",
            "Connections to upstreams that could not be made.",
            labels=("apiservice",),
        )
        for name, counters in self.routes.items():
            for (method, code), count in counters.codes.items():
                requests.add_metric((name, method.decode("latin-1"), str(code)), count)
            totals = accumulate(counters.buckets)
            bounds = [*map(str, BUCKETS), "+Inf"]
            duration.add_metric((name,), list(zip(bounds, totals, strict=True)), counters.seconds)
            errors.add_metric((name,), counters.connect_errors)
        yield requests
        yield duration
        yield errors
        in_flight = GaugeMetricFamily(
            "aggregator_proxy_in_flight_requests", "Requests being served by the proxy.", labels=("kind",)
        )
        in_flight.add_metric(("long-running",), self.long_running)
        in_flight.add_metric(("normal",), self.in_flight - self.long_running)
        yield in_flight
        yield from self._limited()
        connections = GaugeMetricFamily(
            "aggregator_proxy_connections", "Open connections of the proxy.", labels=("side",)
        )
        connections.add_metric(("downstream",), self.downstream_connections())
        connections.add_metric(("upstream",), self.upstream_connections())
        yield connections
        refused = CounterMetricFamily(
            "aggregator_proxy_refused_connections",
            "Connections of clients that were closed at once, by the limit that was reached.",
            labels=("reason",),
        )
        for reason, count in self.refused_connections.items():
            refused.add_metric((reason,), count)
        yield refused
        yield from self._upstreams()
        terminations = CounterMetricFamily(
            "apiserver_request_terminations",
            "Number of requests which apiserver terminated in self-defense.",
            labels=_TERMINATION_LABELS,
        )
        for key, count in self._terminations.items():
            terminations.add_metric(key, count)
        yield terminations

    def _limited(self) -> Iterator[Metric]:
        """Named as the originals name them."""
        current = GaugeMetricFamily(
            "aggregator_proxy_current_inflight_requests",
            "Requests in progress that count against a limit, by kind.",
            labels=("request_kind",),
        )
        dropped = CounterMetricFamily(
            "apiserver_dropped_requests",
            "Requests answered 429 because a limit was reached, by kind.",
            labels=("request_kind",),
        )
        for kind, seats in self.seats:
            current.add_metric((kind,), seats.taken)
            dropped.add_metric((kind,), seats.dropped)
        yield from (current, dropped)

    def _upstreams(self) -> Iterator[Metric]:
        endpoints = GaugeMetricFamily(
            "aggregator_proxy_endpoints", "Endpoints of an APIService by state.", labels=("apiservice", "state")
        )
        ejections = CounterMetricFamily(
            "aggregator_proxy_endpoint_ejections",
            "Times an endpoint in use was ejected because it failed.",
            labels=("apiservice",),
        )
        retries = CounterMetricFamily(
            "aggregator_proxy_retries",
            "Requests sent again and connections tried elsewhere; `refused` ones were over the budget.",
            labels=("apiservice", "outcome"),
        )
        rejected = CounterMetricFamily(
            "aggregator_proxy_rejected_requests",
            "Requests refused because too many were in progress and waiting.",
            labels=("apiservice",),
        )
        for name, state in self.upstream_states():
            for label, count in zip(("healthy", "leaving", "ejected"), state.endpoints, strict=True):
                endpoints.add_metric((name, label), count)
            ejections.add_metric((name,), state.ejections)
            retries.add_metric((name, "made"), state.retries)
            retries.add_metric((name, "refused"), state.refused_retries)
            rejected.add_metric((name,), state.rejected)
        yield from (endpoints, ejections, retries, rejected)
