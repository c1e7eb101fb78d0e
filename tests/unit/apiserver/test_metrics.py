import pytest
from prometheus_client import CollectorRegistry

from apimachinery.request_info import RequestInfo
from apiserver.metrics import ServerMetrics, render

LABELS = {
    "verb": "get",
    "group": "g",
    "version": "v1",
    "resource": "foos",
    "subresource": "",
    "scope": "resource",
    "component": "apiserver",
}
INFO = RequestInfo(
    verb="get", path="/x", is_resource=True, group="g", version="v1", namespace="n", resource="foos", name="a"
)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_requests_are_counted_and_timed(registry: CollectorRegistry) -> None:
    metrics = ServerMetrics(registry)
    metrics.observe(INFO, 200, 0.5)
    metrics.observe(INFO, 404, 1.5)
    assert registry.get_sample_value("apiserver_request_total", {**LABELS, "code": "404"}) == 1
    assert registry.get_sample_value("apiserver_request_duration_seconds_sum", LABELS) == 2.0


@pytest.mark.parametrize(
    ("info", "scope"),
    [
        (RequestInfo(verb="list", path="/", is_resource=True, resource="r"), "cluster"),
        (RequestInfo(verb="list", path="/", is_resource=True, resource="r", namespace="n"), "namespace"),
        (RequestInfo(verb="get", path="/", is_resource=True, resource="r", namespace="n", name="x"), "resource"),
        (RequestInfo(verb="get", path="/healthz"), ""),
    ],
    ids=["cluster", "namespace", "resource", "none"],
)
def test_scope(registry: CollectorRegistry, info: RequestInfo, scope: str) -> None:
    ServerMetrics(registry).observe(info, 200, 0.1)
    scopes = {
        sample.labels["scope"]
        for family in registry.collect()
        if family.name == "apiserver_request"
        for sample in family.samples
    }
    assert scopes == {scope}


@pytest.mark.parametrize(
    ("path", "subresource"),
    [
        ("/openapi/v3", "openapi/v3"),
        ("/openapi/v3/", "openapi/v3/"),
        ("/openapi/v3/apis/g/v1", "openapi/v3/"),
        ("/openapi/v3x", ""),
        ("/openapi/v2", ""),
        ("/healthz", ""),
    ],
)
def test_documents_of_openapi_v3_count_as_subresources(
    registry: CollectorRegistry, path: str, subresource: str
) -> None:
    ServerMetrics(registry).observe(RequestInfo(verb="get", path=path), 200, 0.1)
    labels = {**dict.fromkeys(LABELS, ""), "verb": "get", "component": "apiserver", "subresource": subresource}
    assert registry.get_sample_value("apiserver_request_total", {**labels, "code": "200"}) == 1


def test_what_is_not_served_is_counted_without_the_names_that_clients_choose(registry: CollectorRegistry) -> None:
    metrics = ServerMetrics(registry)
    for name in ("a", "b"):
        info = RequestInfo(verb="list", path="/", is_resource=True, group=name, version=name, resource=name)
        metrics.observe(info, 404, 0.1, served=False)
    labels = {**dict.fromkeys(LABELS, ""), "verb": "list", "component": "apiserver", "code": "404"}
    assert registry.get_sample_value("apiserver_request_total", labels) == 2


def test_watches_are_counted_but_not_timed(registry: CollectorRegistry) -> None:
    metrics = ServerMetrics(registry)
    metrics.observe(RequestInfo(verb="watch", path="/", is_resource=True, resource="r"), 200, 900)
    names = {sample.name for family in registry.collect() for sample in family.samples}
    assert "apiserver_request_total" in names
    assert "apiserver_request_duration_seconds_sum" not in names


def test_in_flight_goes_up_and_down(registry: CollectorRegistry) -> None:
    metrics = ServerMetrics(registry)
    for mutating, change in ((True, 1), (True, 1), (False, 1), (True, -1)):
        metrics.in_flight(mutating, change)
    values = [
        registry.get_sample_value("apiserver_current_inflight_requests", {"request_kind": kind})
        for kind in ("mutating", "readOnly")
    ]
    assert values == [1, 1]


def test_the_format_is_the_classic_one_which_allows_the_names_of_the_originals(registry: CollectorRegistry) -> None:
    ServerMetrics(registry).observe(INFO, 200, 0.1)
    body, media_type = render(registry)
    assert media_type.startswith("text/plain")
    assert b"# EOF" not in body


def test_text_has_process_metrics_help_and_no_creation_times(registry: CollectorRegistry) -> None:
    metrics = ServerMetrics(registry)
    metrics.observe(INFO, 200, 0.1)
    metrics.queue("q").adds.inc()
    text = render(registry)[0].decode()
    for name in ("process_cpu_seconds_total", "process_open_fds", "python_info", "python_gc_objects_collected_total"):
        assert f"\n{name}" in text
    assert "_created" not in text
    helped = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP") and len(line.split()) > 3}
    typed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert typed <= helped


def test_two_servers_do_not_share_metrics() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    ServerMetrics(first).observe(INFO, 200, 0.1)
    ServerMetrics(second)
    assert second.get_sample_value("apiserver_request_total", {**LABELS, "code": "200"}) is None
