"""How often, why and how long the merged OpenAPI v2 document is made anew, under the originals' names."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

ADDED: Final = "add"
UPDATED: Final = "update"
DELETED: Final = "delete"


class RegenerationMetrics:
    """One per registry. The exposition format adds `_total` to the name of the counter."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Counter(
            "aggregator_openapi_v2_regeneration_count",
            "[ALPHA] Counter of OpenAPI v2 spec regeneration count broken down by causing APIService name and reason.",
            ("apiservice", "reason"),
            registry=registry,
        )
        self._duration = Gauge(
            "aggregator_openapi_v2_regeneration_duration",
            "[ALPHA] Gauge of OpenAPI v2 spec regeneration duration in seconds.",
            ("reason",),
            registry=registry,
        )

    def merged(self, before: Mapping[str, bytes], after: Mapping[str, bytes], seconds: float) -> None:
        """Count a merge that took so long; the documents that went into it and into the one before, by APIService."""
        for name, reason in changes(before, after):
            self._count.labels(name, reason).inc()
            self._duration.labels(reason).set(seconds)


def changes(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """What made a merge necessary: each APIService whose document came, changed or went, and which of these."""
    for name, body in after.items():
        if name not in before:
            yield name, ADDED
        elif before[name] is not body:
            # Documents are replaced, never changed, and too large to compare.
            yield name, UPDATED
    for name in before.keys() - after.keys():
        yield name, DELETED
