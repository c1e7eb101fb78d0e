"""kubectl's view of the whole: discovery, explain, APIServices with their status, and HTTP details it relies on."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.matrix import Matrix
from tests.support.kubectl import Kubectl
from tests.support.local_stack import EXAMPLE_API, LocalStack

PASSIVE = "v1.passive.example.com"


@pytest.fixture
def passive(kubectl: Kubectl) -> Iterator[str]:
    """An APIService whose service does not exist."""
    document = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": PASSIVE},
        "spec": {
            "group": "passive.example.com",
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": "default", "name": "nowhere"},
        },
    }
    kubectl.ok("create", "--filename=-", given=json.dumps(document))
    yield PASSIVE
    kubectl.ok("delete", "apiservice", PASSIVE)


def test_resources_and_versions(kubectl: Kubectl) -> None:
    rows = [line.split() for line in kubectl.ok("api-resources", "--no-headers").splitlines()]
    assert ["dummy", "example.grafana.app/v0alpha1", "true", "DummyResource"] in rows
    assert ["apiservices", "apiregistration.k8s.io/v1", "false", "APIService"] in rows
    named = kubectl.ok("api-resources", "--namespaced=true", "--verbs=list,watch", "--output=name").split()
    assert {"dummy.example.grafana.app", "externalnames.service.grafana.app"} <= set(named)
    assert not any(name.startswith(("apiservices", "runtime")) for name in named)
    versions = {"apiregistration.k8s.io/v1", "example.grafana.app/v0alpha1", "service.grafana.app/v0alpha1"}
    assert versions <= set(kubectl.ok("api-versions").split())


@pytest.mark.parametrize("output", ["plaintext", "plaintext-openapiv2"])
@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("externalname.spec.host", ["host", "<string>", "DNS name or IP address"]),
        ("dummy", ["DummyResource", "metadata", "Standard object metadata", "Any text."]),
        ("apiservice.status.conditions", ["conditions", "<[]", "lastTransitionTime"]),
    ],
    ids=["field", "kind", "list"],
)
def test_explain(kubectl: Kubectl, path: str, told: list[str], output: str) -> None:
    text = kubectl.ok("explain", path, f"--output={output}")
    for part in told:
        assert part in text


def test_explain_recursively(kubectl: Kubectl) -> None:
    text = kubectl.ok("explain", "apiservice", "--recursive")
    indented = [line.rstrip() for line in text.splitlines()]
    assert "  spec\t<Object>" in indented
    assert "      namespace\t<string>" in indented
    assert 'field "nothing" does not exist' in kubectl("explain", "apiservice.spec.nothing").err


def test_columns_of_the_own_kinds(kubectl: Kubectl) -> None:
    header, *rows = kubectl.rows("get", "apiservice")
    assert header == ["NAME", "SERVICE", "AVAILABLE", "AGE"]
    assert [EXAMPLE_API, f"default/{EXAMPLE_API}", "True"] in [row[:3] for row in rows]
    assert kubectl.rows("get", "api-extensions")[0] == header
    assert kubectl.rows("get", "runtime")[0] == ["VERSION", "COMMIT", "PYTHON", "UPTIME"]


def test_status_subresource(kubectl: Kubectl, passive: str) -> None:
    kubectl.ok("wait", "--for=condition=Available=False", f"apiservice/{passive}", "--timeout=10s")
    status = kubectl.json("get", "apiservice", passive, "--subresource=status")["status"]
    assert status["conditions"][0]["reason"] == "ServiceNotFound"
    condition = {"type": "Checked", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    patch = json.dumps({"status": {"conditions": [condition]}, "spec": {"versionPriority": 7}})
    kubectl.ok("patch", "apiservice", passive, "--subresource=status", "--type=strategic", f"--patch={patch}")
    found = kubectl.json("get", "apiservice", passive)
    assert {item["type"] for item in found["status"]["conditions"]} == {"Available", "Checked"}
    assert found["spec"]["versionPriority"] == 100
    kubectl.ok("wait", "--for=condition=Checked", f"apiservice/{passive}", "--timeout=5s")
    kubectl.ok("patch", "apiservice", passive, "--type=merge", '--patch={"status":{"conditions":[]}}')
    assert kubectl.json("get", "apiservice", passive)["status"] == found["status"]
    refused = kubectl("patch", "apiservice", passive, "--subresource=scale", "--type=merge", "--patch={}")
    assert "the server could not find the requested resource" in refused.err


def test_unconditional_update_is_refused(kubectl: Kubectl, passive: str) -> None:
    found = kubectl.json("get", "apiservice", passive)
    del found["metadata"]["resourceVersion"]
    path = f"/apis/apiregistration.k8s.io/v1/apiservices/{passive}"
    refused = kubectl("replace", f"--raw={path}", "--filename=-", given=json.dumps(found))
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in refused.err


def test_kind_without_status(matrix: Matrix) -> None:
    matrix.create("a")
    refused = matrix.fails("get", matrix.sample.plural, "a", "--subresource=status")
    assert refused.startswith("Error from server (NotFound): the server could not find the requested resource")


def _accepting(stack: LocalStack, path: str, accept: str) -> Any:
    return stack.request("GET", path, headers={"accept": accept}).document


def test_answers_in_other_forms(stack: LocalStack, matrix: Matrix) -> None:
    matrix.create("a")
    collection, item = matrix.sample.path(matrix.namespace), matrix.sample.path(matrix.namespace, "a")
    metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    assert _accepting(stack, item, metadata)["kind"] == "PartialObjectMetadata"
    found = _accepting(stack, collection, metadata.replace("Metadata;", "MetadataList;"))
    assert [entry["metadata"]["name"] for entry in found["items"]] == ["a"]
    assert stack.request("GET", item, headers={"accept": "application/yaml"}).body.startswith(b"apiVersion: ")
    assert stack.request("GET", f"{item}?pretty=true").body.startswith(b'{\n  "')
    head = stack.request("HEAD", item)
    assert (head.code, head.body) == (200, b"")
    gone = stack.request("DELETE", item, headers={"accept": metadata})
    assert (gone.code, gone.document["status"]) == (200, "Success")


def test_completion_of_names(kubectl: Kubectl) -> None:
    told = kubectl.ok("__complete", "get", "apiservice", "v0alpha1.ex")
    assert EXAMPLE_API in told
