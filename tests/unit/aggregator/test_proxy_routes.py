"""The route table."""

import base64
from typing import Any

import pytest

from aggregator.proxy.routes import RouteTable, names_group_version
from apimachinery.types import Object


def apiservice(name: str, *, service: Object | None = None, available: str | None = "True", **spec: Any) -> Object:
    version, _, group = name.partition(".")
    made: Object = {"metadata": {"name": name}, "spec": {"group": group, "version": version, **spec}}
    if service is not None:
        made["spec"]["service"] = service
    if available is not None:
        made["status"] = {"conditions": [{"type": "Available", "status": available}]}
    return made


REMOTE = {"namespace": "ns", "name": "svc", "port": 7443}
EXTERNAL = [{"metadata": {"namespace": "ns", "name": "svc"}, "spec": {"host": "backend"}}]
TABLE = RouteTable.build(
    [
        apiservice("v1.example.org", service=REMOTE),
        apiservice("v2.example.org", service=REMOTE),
        apiservice("v1.local.org"),
        apiservice("v1.down.org", service=REMOTE, available="False"),
    ],
    EXTERNAL,
)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/apis/example.org/v1", "v1.example.org"),
        ("/apis/example.org/v1/", "v1.example.org"),
        ("/apis/example.org/v1/things", "v1.example.org"),
        ("/apis/example.org/v1/namespaces/a/things/b/status", "v1.example.org"),
        ("/apis/example.org/v2/x", "v2.example.org"),
        ("/apis/local.org/v1/x", "v1.local.org"),
        ("/apis/down.org/v1", "v1.down.org"),
        ("/apis/example.org/v1x", "local"),
        ("/apis/example.org/v", "local"),
        ("/apis/example.org/v3/x", "local"),
        ("/apis/example.org", "local"),
        ("/apis/example.org/", "local"),
        ("/apis/EXAMPLE.org/v1", "local"),
        ("/apis", "local"),
        ("/apis/", "local"),
        ("/", "local"),
        ("/api", "local"),
        ("/api/v1/pods", "local"),
        ("/apisx/example.org/v1", "local"),
        ("/x/apis/example.org/v1", "local"),
        ("/openapi/v3/apis/example.org/v1", "local"),
        ("/healthz", "local"),
    ],
)
def test_match_is_by_whole_segments(path: str, name: str) -> None:
    assert TABLE.match(path.encode()).name == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api", "v1."),
        ("/api/", "v1."),
        ("/api/v1/pods", "v1."),
        ("/apix", "local"),
        ("/apis/a/b", "local"),
        ("/", "local"),
    ],
)
def test_the_legacy_group_claims_api(path: str, name: str) -> None:
    table = RouteTable.build([apiservice("v1.", service=REMOTE)], EXTERNAL)
    assert table.match(path.encode()).name == name


@pytest.mark.parametrize("available", [None, "False", "Unknown", "true"])
def test_only_the_condition_true_makes_available(available: str | None) -> None:
    table = RouteTable.build([apiservice("v1.g", service=REMOTE, available=available)], EXTERNAL)
    assert not table.match(b"/apis/g/v1").available


def test_a_remote_route_knows_its_backend() -> None:
    bundle = base64.b64encode(b"PEM").decode()
    table = RouteTable.build([apiservice("v1.g", service=REMOTE, caBundle=bundle)], EXTERNAL)
    backend = table.match(b"/apis/g/v1").backend
    assert backend is not None
    assert (backend.host, backend.port, backend.server_name) == ("backend", 7443, "svc.ns.svc")
    assert (backend.ca_bundle, backend.insecure, backend.authority) == (b"PEM", False, "backend:7443")


def test_a_missing_external_name_is_a_problem() -> None:
    route = RouteTable.build([apiservice("v1.g", service=REMOTE)], []).match(b"/apis/g/v1")
    assert route.backend is None
    assert route.problem is not None
    assert route.problem.reason == "ServiceNotFound"


def test_unchanged_routes_keep_their_identity() -> None:
    services = [apiservice("v1.a", service=REMOTE), apiservice("v1.b", service=REMOTE)]
    before = RouteTable.build(services, EXTERNAL)
    after = RouteTable.build([services[0], apiservice("v1.b", service=REMOTE, available="False")], EXTERNAL, before)
    assert after.match(b"/apis/a/v1") is before.match(b"/apis/a/v1")
    assert after.match(b"/apis/b/v1") is not before.match(b"/apis/b/v1")
    assert after.local is before.local


def test_nothing_is_known_at_first() -> None:
    table = RouteTable.unknown()
    assert not table.complete
    assert table.match(b"/apis/g/v1").local


@pytest.mark.parametrize(
    ("path", "named"),
    [("/apis/g/v1", True), ("/apis/g/v1/x", True), ("/apis/g", False), ("/apis/g/", False), ("/api/v1/x/y", False)],
)
def test_paths_that_an_apiservice_might_claim(path: str, named: bool) -> None:
    assert names_group_version(path.encode()) is named
