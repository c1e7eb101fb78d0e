"""What made a merge of OpenAPI documents necessary."""

import pytest
from prometheus_client import CollectorRegistry

from aggregator.api.openapi_metrics import RegenerationMetrics, changes

A, OTHER_A, B = b"a", b"other a", b"b"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, []),
        ({}, {"v1.a": A}, [("v1.a", "add")]),
        ({"v1.a": A}, {"v1.a": A}, []),
        ({"v1.a": A}, {"v1.a": OTHER_A}, [("v1.a", "update")]),
        ({"v1.a": A}, {}, [("v1.a", "delete")]),
        ({"v1.a": A}, {"v1.b": B}, [("v1.b", "add"), ("v1.a", "delete")]),
    ],
    ids=["nothing", "add", "same", "update", "delete", "exchange"],
)
def test_changes(before: dict[str, bytes], after: dict[str, bytes], expected: list[tuple[str, str]]) -> None:
    assert list(changes(before, after)) == expected
    registry = CollectorRegistry()
    RegenerationMetrics(registry).merged(before, after, 1.5)
    for name, reason in expected:
        labels = {"apiservice": name, "reason": reason}
        assert registry.get_sample_value("aggregator_openapi_v2_regeneration_count_total", labels) == 1
        assert registry.get_sample_value("aggregator_openapi_v2_regeneration_duration", {"reason": reason}) == 1.5
