"""Flow B: an unmodified kubectl against the aggregator and, through it, the example API."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.stack import EXAMPLE_API
from tests.support.kubectl import Kubectl

GROUP_VERSION = "/apis/example.grafana.app/v0alpha1"


def dummy(name: str, text: str) -> dict[str, Any]:
    return {
        "apiVersion": "example.grafana.app/v0alpha1",
        "kind": "DummyResource",
        "metadata": {"name": name, "namespace": "default"},
        "spec": text,
    }


@pytest.fixture(autouse=True)
def _no_dummies_left(kubectl: Kubectl) -> Iterator[None]:
    yield
    kubectl.ok("delete", "dummy", "--all", "--namespace=default")


def test_apiservice_table(kubectl: Kubectl) -> None:
    header, *rows = kubectl.rows("get", "apiservice")
    assert header == ["NAME", "SERVICE", "AVAILABLE", "AGE"]
    by_name = {row[0]: row[1:3] for row in rows}
    assert by_name[EXAMPLE_API] == ["default/v0alpha1.example.grafana.app", "True"]
    assert by_name["v0alpha1.service.grafana.app"] == ["Local", "True"]


def test_resources_of_both_servers_are_discovered(fresh_kubectl: Kubectl) -> None:
    names = fresh_kubectl.ok("api-resources", "--output=name").split()
    assert {"apiservices.apiregistration.k8s.io", "externalnames.service.grafana.app"} <= set(names)
    assert {"dummy.example.grafana.app", "runtime.example.grafana.app"} <= set(names)


def test_runtime_is_answered_by_the_example_server(kubectl: Kubectl) -> None:
    header, *rows = kubectl.rows("get", "runtime")
    assert header == ["VERSION", "COMMIT", "PYTHON", "UPTIME"]
    assert len(rows) == 1
    assert kubectl.raw(f"{GROUP_VERSION}/runtime")["kind"] == "RuntimeInfo"


def test_objects_live_from_create_to_delete(kubectl: Kubectl) -> None:
    assert kubectl.apply(dummy("one", "first")) == "dummyresource.example.grafana.app/one created\n"
    assert kubectl.apply(dummy("one", "first")) == "dummyresource.example.grafana.app/one unchanged\n"
    assert kubectl.apply(dummy("one", "second")) == "dummyresource.example.grafana.app/one configured\n"
    assert kubectl.rows("get", "dummy", "--namespace=default")[1][:2] == ["one", "second"]
    patched = kubectl.ok("patch", "dummy", "one", "--namespace=default", "--type=merge", '--patch={"spec":"third"}')
    assert patched == "dummyresource.example.grafana.app/one patched\n"
    assert kubectl.json("get", "dummy", "one", "--namespace=default")["spec"] == "third"
    assert kubectl.ok("delete", "dummy", "one", "--namespace=default").startswith(
        'dummyresource.example.grafana.app "one"'
    )
    gone = kubectl("get", "dummy", "one", "--namespace=default")
    assert gone.code == 1
    assert 'Error from server (NotFound): dummy.example.grafana.app "one" not found' in gone.err


def test_the_example_server_sees_who_asks(kubectl: Kubectl) -> None:
    kubectl.apply(dummy("whoami", "text"))
    answer = kubectl.raw(f"{GROUP_VERSION}/namespaces/default/dummy/whoami/sub")
    assert answer["info"] == "whoami/grafana-admin"


def test_server_side_dry_run_and_unknown_fields(kubectl: Kubectl) -> None:
    document = dummy("dry", "text")
    kubectl.ok("apply", "--dry-run=server", "--filename=-", given=json.dumps(document))
    assert kubectl("get", "dummy", "dry", "--namespace=default").code == 1
    refused = kubectl("create", "--filename=-", "--validate=strict", given=json.dumps(document | {"colour": "red"}))
    assert refused.code == 1
    assert "colour" in refused.err


def test_explain_reads_the_openapi_of_both_servers(kubectl: Kubectl) -> None:
    assert "KIND:       DummyResource" in kubectl.ok("explain", "dummy")
    assert "groupPriorityMinimum" in kubectl.ok("explain", "apiservice.spec")


def test_invalid_apiservice_names_every_cause(kubectl: Kubectl) -> None:
    document = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1.wrong.example.com"},
        "spec": {"group": "other.example.com", "version": "v1", "groupPriorityMinimum": 0, "versionPriority": 5000},
    }
    refused = kubectl("create", "--filename=-", given=json.dumps(document))
    assert refused.code == 1
    for cause in ("metadata.name: Invalid value", "spec.groupPriorityMinimum: Invalid value", "spec.versionPriority"):
        assert cause in refused.err
    assert kubectl("get", "apiservice", "v1.wrong.example.com").code == 1


def test_watch_through_the_proxy_shows_a_new_object_within_a_second(kubectl: Kubectl) -> None:
    kubectl.apply(dummy("before", "there at the start"))
    with kubectl.following("get", "dummy", "--namespace=default", "--watch") as lines:
        lines.next_with("before", seconds=15)
        kubectl.apply(dummy("after", "made later"))
        begin = time.monotonic()
        lines.next_with("after", seconds=1)
        assert time.monotonic() - begin < 1
        kubectl.ok("delete", "dummy", "after", "--namespace=default")
        lines.next_with("after", seconds=1)


def test_object_of_three_megabytes_is_refused(kubectl: Kubectl) -> None:
    refused = kubectl("create", "--filename=-", "--validate=false", given=json.dumps(dummy("big", "x" * (3 << 20))))
    assert refused.code == 1
    assert "413" in refused.err or "too large" in refused.err.lower()
