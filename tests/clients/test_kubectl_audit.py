"""What the real program records of a real kubectl: audit events, access lines, metrics."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl
from tests.support.local_stack import LocalStack
from tests.support.waiting import wait_until

_SETTINGS = """
[audit]
policy_file = {directory}/policy.yaml
log_path = {directory}/audit.log
[access_log]
path = {directory}/access.log
[log]
format = json
[server]
workers = {workers}
"""
_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: RequestResponse, verbs: [create, patch], resources: [{group: example.grafana.app}]}
- {level: Metadata, users: [grafana-admin]}
"""
_DUMMY = """\
apiVersion: example.grafana.app/v0alpha1
kind: DummyResource
metadata: {name: audited, namespace: default}
spec: something
"""


@pytest.fixture(scope="module", params=[0, 2], ids=["one-process", "two-workers"])
def audited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    directory = tmp_path_factory.mktemp("audited")
    (directory / "policy.yaml").write_text(_POLICY)
    started = LocalStack(directory, extra_settings=_SETTINGS.format(directory=directory, workers=request.param))
    try:
        started.start()
        yield started
    finally:
        started.stop()


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_requests_of_kubectl_are_in_the_logs(audited: LocalStack, tmp_path: Path) -> None:
    kubectl = Kubectl(kubeconfig=audited.kubeconfig, home=tmp_path)
    kubectl.ok("create", "-f", "-", given=_DUMMY)
    kubectl.ok("get", "dummy.example.grafana.app", "audited")
    audit, access = audited.directory / "audit.log", audited.directory / "access.log"

    def found(verb: str) -> list[dict[str, Any]]:
        return [
            event
            for event in _lines(audit)
            if event["verb"] == verb and event.get("objectRef", {}).get("resource") == "dummy"
        ]

    (created,) = wait_until(lambda: found("create"), seconds=10)
    (read,) = wait_until(lambda: found("get"), seconds=10)
    assert created["level"] == "RequestResponse"
    assert created["requestObject"]["metadata"]["name"] == created["objectRef"]["name"] == "audited"
    assert created["responseObject"]["metadata"]["uid"]
    assert created["responseStatus"]["code"] == 201
    assert created["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert read["level"] == "Metadata"
    assert read["user"]["username"] == "grafana-admin"
    assert read["userAgent"].startswith("kubectl/")
    assert "responseObject" not in read
    by_id = {line["audit_id"]: line for line in _lines(access)}
    line = by_id[read["auditID"]]
    assert (line["status"], line["apiservice"], line["user"]) == (200, "v0alpha1.example.grafana.app", "grafana-admin")
    assert line["upstream"].endswith(f":{audited.example_port}")
    assert audit.stat().st_mode & 0o777 == 0o600
    with urllib.request.urlopen(f"http://127.0.0.1:{audited.metrics_port}/metrics", timeout=10) as response:
        metrics = response.read().decode()
    counted = [line for line in metrics.splitlines() if line.startswith("apiserver_audit_event_total ")]
    assert len(counted) == 1
    assert float(counted[0].split()[1]) >= 2


def test_what_waits_is_written_at_the_end(audited: LocalStack) -> None:
    last = audited.request("GET", "/apis/service.grafana.app/v0alpha1/externalnames")
    audited.stop()
    for name, key in (("audit.log", "auditID"), ("access.log", "audit_id")):
        assert _lines(audited.directory / name)[-1][key] == last.headers["Audit-Id"]
