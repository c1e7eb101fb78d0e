"""Servers that are down cost nobody else anything, and their own users a quick error."""

import statistics

from tests.outage.conftest import GROUPS, ColdKubectl
from tests.support.backends import Backends
from tests.support.local_stack import LocalStack
from tests.support.registration import availability
from tests.support.waiting import wait_until

HANGING, REFUSING, HEALTHY = "b3.example", "b7.example", "b9.example"
COMMANDS = {
    "api-resources": ["api-resources"],
    "get": ["get", "externalnames", "--all-namespaces"],
    "explain": ["explain", f"b9thing0s.{HEALTHY}.spec"],
}
ROUNDS = 4


def medians(cold: ColdKubectl) -> dict[str, float]:
    """Seconds that each command takes with cold caches; every one must succeed."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            result = cold()(*arguments)
            assert result.code == 0, f"{name}: {result.err}"
            taken[name].append(result.seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def check_now(stack: LocalStack, group: str) -> None:
    """Change an APIService, which is checked then and not only when its turn comes."""
    path = f"/apis/apiregistration.k8s.io/v1/apiservices/v1.{group}"
    headers = {"content-type": "application/merge-patch+json"}
    assert stack.request("PATCH", path, b'{"spec":{"versionPriority":20}}', headers).code == 200


def test_dead_servers_delay_nobody(stack: LocalStack, servers: Backends, cold: ColdKubectl) -> None:
    wait_until(lambda: cold()("explain", f"b9thing0s.{HEALTHY}").code == 0, seconds=15)
    cold().ok("api-resources")
    healthy = medians(cold)
    servers.turn(HANGING, "hang")
    servers.turn(REFUSING, "refuse")
    try:
        at_once = medians(cold)
        for group in (HANGING, REFUSING):
            check_now(stack, group)
        wait_until(
            lambda: (
                [group for group, up in availability(stack.request, GROUPS).items() if up != "True"]
                == [HANGING, REFUSING]
            ),
            seconds=60,
        )
        later = medians(cold)
        for name, before in healthy.items():
            ratios = f"{at_once[name] / before:.2f} at once, {later[name] / before:.2f} later"
            print(f"{name}: {before:.3f} s with all servers, times {ratios}")  # noqa: T201 - the figures of the run
            assert max(at_once[name], later[name]) <= 1.5 * before + 0.3, ratios

        listed = cold().ok("api-resources", "--no-headers", "--output=name").split()
        for group in GROUPS:
            assert f"{group.partition('.')[0]}thing0s.{group}" in listed
        for group in (HANGING, REFUSING):
            result = cold()("get", f"{group.partition('.')[0]}thing0s.{group}")
            assert result.code == 1
            assert "unable to handle the request" in result.err or "ServiceUnavailable" in result.err
            assert result.seconds < before + 2
    finally:
        servers.turn(HANGING, "healthy")
        servers.turn(REFUSING, "healthy")
