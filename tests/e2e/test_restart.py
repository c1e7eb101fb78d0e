"""Flow E: what was acknowledged is there after a stop and after kill -9, and takes effect before `ready`."""

import pytest

from tests.e2e.stack import EXAMPLE_API, Stack
from tests.support.kubectl import Kubectl

REMOTE = "v1.kept.example.com"


@pytest.fixture
def kept(kubectl: Kubectl) -> dict[str, str]:
    """Resource versions of objects of every kind of both servers, all just acknowledged."""
    kubectl.apply(
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": REMOTE},
            "spec": {
                "group": "kept.example.com",
                "version": "v1",
                "groupPriorityMinimum": 1000,
                "versionPriority": 15,
                "service": {"namespace": "kept", "name": "nowhere"},
            },
        }
    )
    kubectl.apply(
        {
            "apiVersion": "service.grafana.app/v0alpha1",
            "kind": "ExternalName",
            "metadata": {"name": "kept", "namespace": "kept"},
            "spec": {"host": "kept.example.com"},
        }
    )
    kubectl.apply(
        {
            "apiVersion": "example.grafana.app/v0alpha1",
            "kind": "DummyResource",
            "metadata": {"name": "kept", "namespace": "default"},
            "spec": "kept",
        }
    )
    return _identities(kubectl)


def _identities(kubectl: Kubectl) -> dict[str, str]:
    places = {
        "apiservice": ("get", "apiservice", REMOTE),
        "registered": ("get", "apiservice", EXAMPLE_API),
        "externalname": ("get", "externalname", "kept", "--namespace=kept"),
        "dummy": ("get", "dummy", "kept", "--namespace=default"),
    }
    return {place: kubectl.json(*arguments)["metadata"]["uid"] for place, arguments in places.items()}


def test_kill_loses_nothing(stack: Stack, kubectl: Kubectl, kept: dict[str, str]) -> None:
    stack.run("kill", "--signal", "KILL", "aggregator")
    assert stack.up() < 60
    assert _identities(kubectl) == kept
    assert kubectl.available(EXAMPLE_API) == "True"
    assert kubectl.available(REMOTE) == "False (ServiceNotFound)"


def test_stop_is_clean_within_the_grace_period_and_loses_nothing(
    stack: Stack, kubectl: Kubectl, kept: dict[str, str]
) -> None:
    with kubectl.following("get", "dummy", "--namespace=default", "--watch") as lines:
        lines.next_with("kept", seconds=15)
        stack.run("stop")
    for service in ("aggregator", "example-service"):
        state = stack.inspect(service)["State"]
        assert (service, state["ExitCode"], state["OOMKilled"]) == (service, 0, False)
    stack.up()
    assert _identities(kubectl) == kept
    kubectl.ok("delete", "apiservice", REMOTE)
    kubectl.ok("delete", "externalname", "kept", "--namespace=kept")
    kubectl.ok("delete", "dummy", "kept", "--namespace=default")
