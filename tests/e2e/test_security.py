"""Who is let in, and what the logs never hold. Runs late, so that the logs hold what the other tests did."""

import base64
import json

import pytest

from tests.e2e.stack import Stack
from tests.support.kubectl import Kubectl
from tests.support.waiting import wait_until

RUNTIME = "/apis/example.grafana.app/v0alpha1/runtime"


@pytest.mark.parametrize("path", ["/apis", RUNTIME, "/apis/apiregistration.k8s.io/v1/apiservices", "/metrics"])
def test_nobody_without_credentials(stack: Stack, path: str) -> None:
    refused = stack.secure(path)
    assert refused.status == 401
    assert refused.document["reason"] == "Unauthorized"


@pytest.mark.parametrize("path", [RUNTIME, "/apis/apiregistration.k8s.io/v1/apiservices"])
def test_identity_headers_of_a_stranger_count_for_nothing(stack: Stack, path: str) -> None:
    claim = {"X-Remote-User": "grafana-admin", "X-Remote-Group": "system:masters"}
    assert stack.secure(path, headers=claim).status == 401


def test_the_example_server_refuses_who_is_not_the_aggregator(stack: Stack) -> None:
    """Asked directly, without the front proxy's certificate, with the headers that the front proxy would send."""
    script = (
        "import http.client, ssl\n"
        "context = ssl.create_default_context(cafile='/pki/ca.crt')\n"
        "connection = http.client.HTTPSConnection('example-service', 7443, context=context, timeout=5)\n"
        "identity = {'X-Remote-User': 'eve', 'X-Remote-Group': 'system:masters'}\n"
        f"connection.request('GET', '{RUNTIME}', headers=identity)\n"
        "print(connection.getresponse().status)\n"
    )
    assert stack.run("exec", "-T", "aggregator", "python3", "-c", script).stdout.strip() in {"401", "403"}


def test_servers_behind_learn_whom_to_believe(stack: Stack, kubectl: Kubectl) -> None:
    believed = {name: stack.pki_file(f"{name}.crt").strip() for name in ("front-proxy-ca", "client-ca")}

    def published() -> bool:
        data = kubectl.json("get", "configmap", "extension-apiserver-authentication", "--namespace=kube-system")["data"]
        assert data["requestheader-allowed-names"] == '["aggregator"]'
        told = {"front-proxy-ca": data["requestheader-client-ca-file"], "client-ca": data["client-ca-file"]}
        return {name: text.strip() for name, text in told.items()} == believed

    # An authority that was replaced a moment ago is published with the next look at the files.
    wait_until(published, seconds=30)


def test_no_secret_reaches_the_logs(stack: Stack, kubectl: Kubectl) -> None:
    body, token = "body-3f0c2d5e", "token-9a1b7c44"
    document = {
        "apiVersion": "example.grafana.app/v0alpha1",
        "kind": "DummyResource",
        "metadata": {"name": "secretive", "namespace": "default"},
        "spec": body,
    }
    kubectl.ok("create", "--filename=-", given=json.dumps(document))
    kubectl.ok("delete", "dummy", "secretive", "--namespace=default")
    stack.secure(RUNTIME, headers={"Authorization": f"Bearer {token}"})
    stack.secure(f"{RUNTIME}?token={token}")

    logs = stack.logs()
    key = base64.b64decode(_client_key(kubectl)).decode()
    secrets = {body, token, _client_key(kubectl)[:40], key.splitlines()[1], "PRIVATE KEY", "BEGIN CERTIFICATE"}
    assert {secret for secret in secrets if secret in logs} == set()
    assert "Traceback" not in logs


def _client_key(kubectl: Kubectl) -> str:
    user = kubectl.json("config", "view", "--raw")["users"][0]["user"]
    data: str = user["client-key-data"]
    return data


def test_every_log_line_is_one_event(stack: Stack) -> None:
    lines = stack.run("logs", "--no-color", "--no-log-prefix", "aggregator").stdout.splitlines()
    assert len(lines) >= 3
    assert [line for line in lines if "level=" not in line or "msg=" not in line] == []
