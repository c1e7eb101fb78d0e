"""A backend goes away and comes back: everything about it fails at once and clearly, nothing else is touched."""

import time
from collections.abc import Iterator

import pytest

from tests.e2e.kubectl import Kubectl
from tests.e2e.stack import EXAMPLE_API, Stack, wait_until

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
