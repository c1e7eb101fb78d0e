"""Flow H: health, version and root paths of the running aggregator."""

import pytest

from tests.e2e.stack import Stack
from tests.support.kubectl import Kubectl


@pytest.mark.parametrize("endpoint", ["healthz", "livez", "readyz"])
def test_health_endpoint_answers_on_both_ports(stack: Stack, endpoint: str) -> None:
    assert (stack.plain(f"/{endpoint}").status, stack.plain(f"/{endpoint}").text) == (200, "ok")
    assert (stack.secure(f"/{endpoint}").status, stack.secure(f"/{endpoint}").text) == (200, "ok")


def test_verbose_names_every_check(stack: Stack) -> None:
    lines = stack.plain("/readyz?verbose").text.splitlines()
    assert "[+]ping ok" in lines
    assert "[+]poststarthook/apiservice-registration-controller ok" in lines
    assert "[+]poststarthook/apiservice-status-remote-available-controller ok" in lines
    assert lines[-1] == "readyz check passed"


def test_excluded_check_is_listed_as_such(stack: Stack) -> None:
    assert "[+]ping excluded: ok" in stack.plain("/readyz?verbose&exclude=ping").text.splitlines()


def test_one_check_by_its_own_path(stack: Stack) -> None:
    assert stack.plain("/readyz/poststarthook/apiservice-registration-controller").text == "ok"
    assert stack.plain("/readyz/remote-autoregister-completion").text == "ok"
    assert stack.plain("/readyz/no-such-check").status == 404


def test_version_and_root_paths(kubectl: Kubectl) -> None:
    assert "Server Version: v" in kubectl.ok("version")
    paths = kubectl.raw("/")["paths"]
    assert {
        "/apis",
        "/apis/apiregistration.k8s.io/v1",
        "/apis/example.grafana.app/v0alpha1",
        "/healthz",
        "/version",
    } <= set(paths)
    assert paths == sorted(paths)


def test_plain_port_serves_no_api(stack: Stack) -> None:
    assert stack.plain("/apis").status == 404
    assert stack.plain("/apis/apiregistration.k8s.io/v1/apiservices").status == 404
