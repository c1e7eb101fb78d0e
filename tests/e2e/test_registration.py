"""Flow D: the services file registers the example API, with its certificate verified."""

import base64
from pathlib import Path

import pytest

from tests.e2e.stack import EXAMPLE_API, Stack, run_tool
from tests.support.kubectl import Kubectl
from tests.support.waiting import wait_until


def test_apiservice_made_from_the_file(stack: Stack, kubectl: Kubectl) -> None:
    found = kubectl.json("get", "apiservice", EXAMPLE_API)
    assert found["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"] == "onstart"
    spec = found["spec"]
    assert not spec.get("insecureSkipTLSVerify")
    assert base64.b64decode(spec.pop("caBundle")).decode().strip() == stack.pki_file("ca.crt").strip()
    spec.pop("insecureSkipTLSVerify", None)
    assert spec == {
        "group": "example.grafana.app",
        "version": "v0alpha1",
        "groupPriorityMinimum": 16000,
        "versionPriority": 1,
        "service": {"namespace": "default", "name": EXAMPLE_API, "port": 7443},
    }
    (condition,) = found["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("True", "Passed")


def test_externalname_made_from_the_file(kubectl: Kubectl) -> None:
    found = kubectl.json("get", "externalname", EXAMPLE_API, "--namespace=default")
    assert found["spec"] == {"host": "example-service"}


def test_certificate_of_another_authority_is_refused(stack: Stack, kubectl: Kubectl, tmp_path: Path) -> None:
    """What a wrong caBundle does shows that the right one is what is verified with."""
    right = kubectl.json("get", "apiservice", EXAMPLE_API)["spec"]["caBundle"]
    subject = ["-subj", "/CN=stranger", "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt")]
    made = run_tool(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *subject]
    )
    assert made.returncode == 0, made.stderr
    stranger = base64.b64encode((tmp_path / "crt").read_bytes()).decode()
    try:
        _patch(kubectl, stranger)
        wait_until(lambda: kubectl.available(EXAMPLE_API) == "False (FailedDiscoveryCheck)", seconds=15)
        message = kubectl.json("get", "apiservice", EXAMPLE_API)["status"]["conditions"][0]["message"]
        assert "certificate" in message
    finally:
        _patch(kubectl, right)
    wait_until(lambda: kubectl.available(EXAMPLE_API) == "True", seconds=15)


def _patch(kubectl: Kubectl, bundle: str) -> None:
    kubectl.ok("patch", "apiservice", EXAMPLE_API, "--type=merge", f'--patch={{"spec":{{"caBundle":"{bundle}"}}}}')


def test_missing_externalname_is_named_and_its_return_noticed(kubectl: Kubectl) -> None:
    found = kubectl.json("get", "externalname", EXAMPLE_API, "--namespace=default")
    kubectl.ok("delete", "externalname", EXAMPLE_API, "--namespace=default")
    try:
        wait_until(lambda: kubectl.available(EXAMPLE_API) == "False (ServiceNotFound)", seconds=5)
    finally:
        found["metadata"] = {name: found["metadata"][name] for name in ("name", "namespace")}
        kubectl.apply(found)
    wait_until(lambda: kubectl.available(EXAMPLE_API) == "True", seconds=10)


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        pytest.param(
            "- group: example.grafana.app\n  version: v0alpha1\n  host: h\n  port: many\n", 4, "port", id="type"
        ),
        pytest.param("- group: example.grafana.app\n  host: h\n  port: 7443\n", 1, "version", id="missing"),
    ],
)
def test_wrong_file_ends_the_program_with_one_line(
    stack: Stack, tmp_path: Path, text: str, line: int, field: str
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text)
    done = stack.run(
        "run",
        "--rm",
        "--no-deps",
        "--volume",
        f"{wrong}:/wrong.yaml:ro",
        "--env",
        "GF_GRAFANA_APISERVER_REMOTE_SERVICES_FILE=/wrong.yaml",
        "--env",
        "GF_PATHS_DATA=/tmp/data",
        "aggregator",
        check=False,
    )
    assert done.returncode not in (0, 137)
    (complaint,) = [said for said in (done.stdout + done.stderr).splitlines() if "/wrong.yaml" in said]
    assert f"/wrong.yaml:{line}" in complaint or f"line {line}" in complaint
    assert field in complaint
    assert "Traceback" not in done.stdout + done.stderr
