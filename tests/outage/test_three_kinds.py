"""kubectl over servers of different kinds: ours, one with old interfaces only, and two that disagree."""

from collections.abc import Iterator

import pytest

from tests.outage.conftest import ColdKubectl
from tests.support.backends import Backends
from tests.support.local_stack import LocalStack
from tests.support.registration import availability, register
from tests.support.waiting import wait_until
from tests.unit.aggregator.api_kit import Certificates

KINDS = {
    "legacy.example": {"kind": "legacy", "shared": "string"},
    "rival.example": {"kind": "modern", "shared": "boolean"},
}
RESOURCES = {
    "example.grafana.app": ("dummy", "DummyResource"),
    "legacy.example": ("legacything0s", "LegacyThing0"),
    "rival.example": ("rivalthing0s", "RivalThing0"),
}
V2 = "--output=plaintext-openapiv2"


@pytest.fixture(scope="module", autouse=True)
def _kinds(stack: LocalStack, servers: Backends, certificates: Certificates) -> Iterator[None]:
    ports = {group: servers.add(group, **options) for group, options in KINDS.items()}
    register(stack.request, ports, certificates.ca)
    wait_until(lambda: set(availability(stack.request, list(KINDS)).values()) == {"True"}, seconds=20)
    wait_until(
        lambda: all(group.encode() in stack.request("GET", "/openapi/v2").body for group in KINDS),
        seconds=20,
    )
    yield
    for group in KINDS:
        stack.request("DELETE", f"/apis/apiregistration.k8s.io/v1/apiservices/v1.{group}")


def test_lists(cold: ColdKubectl) -> None:
    names = cold().ok("api-resources", "--output=name").split()
    versions = cold().ok("api-versions").split()
    for group, (plural, _) in RESOURCES.items():
        version = "v0alpha1" if group == "example.grafana.app" else "v1"
        assert f"{plural}.{group}" in names
        assert f"{group}/{version}" in versions


@pytest.mark.parametrize("options", [[], [V2]], ids=["v3", "v2"])
@pytest.mark.parametrize(("group", "plural", "kind"), [(group, *names) for group, names in RESOURCES.items()])
def test_explain(cold: ColdKubectl, group: str, plural: str, kind: str, options: list[str]) -> None:
    words = cold().ok("explain", f"{plural}.{group}", *options).split()
    assert words[words.index("KIND:") + 1] == kind
    assert {"FIELDS:", "metadata", "spec"} <= set(words)
    assert "DESCRIPTION:" in cold().ok("explain", f"{plural}.{group}.spec", *options)


@pytest.mark.parametrize(
    ("group", "type_", "options"),
    [
        ("legacy.example", "string", [V2]),
        ("rival.example", "boolean", [V2]),
        ("legacy.example", "string", []),
    ],
    ids=["legacy v2", "rival v2", "legacy v3"],
)
def test_definitions_of_one_name_stay_apart(cold: ColdKubectl, group: str, type_: str, options: list[str]) -> None:
    assert f"Shared as {type_}." in cold().ok("explain", f"{RESOURCES[group][0]}.{group}.shared", *options)
