"""Metrics of several processes as those of one. Pure, but for reading a registry."""

import math
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from apiserver import metrics

Sample = tuple[str, dict[str, str], float | None]
Family = tuple[str, str, str, list[Sample]]
"""Name, type, text and samples, as they travel between processes: JSON knows no NaN, None stands for it."""
Snapshot = list[Family]

_LASTING: Final = frozenset(("counter", "histogram", "summary"))
_ONE_FOR_ALL: Final = {
    "process_start_time_seconds": min,
    "workqueue_longest_running_processor_seconds": max,
}
"""Gauges whose sum would mean nothing."""


def snapshot(registry: CollectorRegistry) -> Snapshot:
    """Everything a registry holds, ready to be sent."""
    return [
        (
            family.name,
            family.type,
            family.documentation,
            [(sample.name, dict(sample.labels), _sent(sample.value)) for sample in family.samples],
        )
        for family in registry.collect()
    ]


def lasting(families: Snapshot) -> Snapshot:
    """What still counts when its process is gone: counters would fall otherwise, gauges tell of the living."""
    return [family for family in families if family[1] in _LASTING]


def total(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Added up, series by series."""
    families: dict[str, tuple[str, str, str, dict[tuple[str, tuple[tuple[str, str], ...]], float | None]]] = {}
    for families_of_one in snapshots:
        for name, kind, text, samples in families_of_one:
            merged = families.setdefault(name, (name, kind, text, {}))[3]
            for sample_name, labels, value in samples:
                key = (sample_name, tuple(labels.items()))
                merged[key] = _combined(name, kind, merged[key], value) if key in merged else value
    return [
        (name, kind, text, [(key[0], dict(key[1]), value) for key, value in merged.items()])
        for name, kind, text, merged in families.values()
    ]


def _combined(name: str, kind: str, one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    if kind not in _LASTING:
        if name.endswith("_timestamp_seconds"):
            return min(one, other)
        if name.endswith("_info"):
            return max(one, other)
        if name in _ONE_FOR_ALL:
            return _ONE_FOR_ALL[name](one, other)
    return one + other


def _sent(value: float) -> float | None:
    return value if math.isfinite(value) else None


def render(families: Snapshot) -> tuple[bytes, str]:
    """Body and content type of the metrics that a snapshot holds."""
    registry = CollectorRegistry()
    registry.register(_Summed(families))
    return metrics.render(registry)


class _Summed(Collector):
    def __init__(self, families: Snapshot) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, kind, text, samples in self._families:
            family = Metric(name, text, kind)
            for sample_name, labels, value in samples:
                family.add_sample(sample_name, labels, math.nan if value is None else value)
            yield family
