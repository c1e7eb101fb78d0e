"""A backend goes away and comes back: everything about it fails at once and clearly, nothing else is touched."""

import time
from collections.abc import Iterator

import pytest

from tests.e2e.stack import EXAMPLE_API, Stack
from tests.support.kubectl import Kubectl
from tests.support.waiting import wait_until

LABEL = f'name="{EXAMPLE_API}"'


@pytest.fixture
def outage(stack: Stack, kubectl: Kubectl) -> Iterator[float]:
    """Seconds until the APIService of the stopped backend was no longer available. Starts the backend again."""
    kubectl.ok("get", "dummy", "--namespace=default")
    stack.run("stop", "example-service")
    stopped = time.monotonic()
    try:
        wait_until(lambda: kubectl.available(EXAMPLE_API) == "False (FailedDiscoveryCheck)", seconds=40)
        yield time.monotonic() - stopped
    finally:
        stack.up()


def test_one_failed_request_makes_an_outage_known_within_a_second(stack: Stack, kubectl: Kubectl) -> None:
    kubectl.ok("get", "dummy", "--namespace=default")
    stack.run("kill", "example-service")
    try:
        path = "/apis/example.grafana.app/v0alpha1/namespaces/default/dummy"
        assert kubectl("get", "--raw", path).code == 1
        failed = time.monotonic()
        wait_until(lambda: kubectl.available(EXAMPLE_API) == "False (FailedDiscoveryCheck)", seconds=10, interval=0.05)
        assert time.monotonic() - failed < 2.5  # one second to wait at most, the check, and kubectl's own time
        stack.run("start", "example-service")
        started = time.monotonic()
        wait_until(lambda: kubectl.available(EXAMPLE_API) == "True", seconds=10, interval=0.05)
        assert time.monotonic() - started < 5  # the server's own start included
    finally:
        stack.up()


def test_backend_outage_and_return(stack: Stack, kubectl: Kubectl, outage: float) -> None:
    assert outage < 35
    assert stack.samples("aggregator_unavailable_apiservice")[LABEL] == 1
    assert stack.samples("aggregator_unavailable_apiservice_total")[f'{LABEL},reason="FailedDiscoveryCheck"'] >= 1

    refused = kubectl("get", "dummy", "--namespace=default")
    assert refused.code == 1
    assert "ServiceUnavailable" in refused.err
    assert refused.seconds < 3

    others = kubectl("get", "externalnames", "--all-namespaces")
    assert others.code == 0
    assert EXAMPLE_API in others.out
    assert others.seconds < 1
    assert stack.plain("/readyz").text == "ok"
    condition = kubectl.json("get", "apiservice", EXAMPLE_API)["status"]["conditions"][0]
    assert condition["message"].startswith("failing or missing response from https://example-service:7443/apis/")

    stack.run("start", "example-service")
    wait_until(lambda: kubectl.available(EXAMPLE_API) == "True", seconds=10)
    assert stack.samples("aggregator_unavailable_apiservice")[LABEL] == 0
    kubectl.ok("get", "dummy", "--namespace=default")
