"""Conditions, probe verdicts and the reconcile table: everything that decides without acting."""

import pytest

from aggregator.api import conditions, probe
from aggregator.api.apiservice import AUTOMANAGED_LABEL
from aggregator.api.conditions import Condition
from aggregator.api.desired import Action, Desired, Mode, decide, same_spec
from aggregator.api.priorities import local_apiservices, priority_of
from aggregator.api.probe import Attempt
from aggregator.upstream.backend import ResolveError
from apimachinery.gvk import GroupVersion
from apimachinery.types import Object

EARLIER, NOW = 1_700_000_000.0, 1_700_000_060.0
EARLIER_TEXT, NOW_TEXT = "2023-11-14T22:13:20Z", "2023-11-14T22:14:20Z"
URL = "https://host:443/apis/g/v1"


def entry(status: str, *, kind: str = "Available", at: str = EARLIER_TEXT, reason: str = "R") -> Object:
    return {"type": kind, "status": status, "lastTransitionTime": at, "reason": reason, "message": "m"}


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param(None, [entry("True", at=NOW_TEXT)], id="first"),
        pytest.param([], [entry("True", at=NOW_TEXT)], id="empty"),
        pytest.param([entry("False")], [entry("True", at=NOW_TEXT)], id="flip moves the time"),
        pytest.param([entry("True", reason="old")], [entry("True", at=EARLIER_TEXT)], id="no flip keeps the time"),
        pytest.param([{"type": "Available", "status": "True"}], [entry("True", at=NOW_TEXT)], id="no time yet"),
        pytest.param(
            [entry("False", kind="A"), entry("False"), entry("False", kind="B")],
            [entry("False", kind="A"), entry("True", at=NOW_TEXT), entry("False", kind="B")],
            id="in place",
        ),
    ],
)
def test_setting_a_condition(before: list[Object] | None, expected: list[Object]) -> None:
    status = {"other": 1} if before is None else {"other": 1, "conditions": before}
    kept = [dict(item) for item in before or []]
    wanted = Condition(status="True", reason="R", message="m")
    assert conditions.with_condition(status, wanted, NOW) == {"other": 1, "conditions": expected}
    assert (before or []) == kept


def test_setting_a_condition_twice_changes_nothing() -> None:
    wanted = Condition(status="False", reason="R", message="m")
    once = conditions.with_condition(None, wanted, EARLIER)
    assert conditions.with_condition(once, wanted, NOW) == once
    assert not probe.differs(conditions.get({"status": once}), wanted)


def test_missing_condition_is_not_true() -> None:
    assert not conditions.is_true({})
    assert not conditions.is_true({"status": {"conditions": [entry("True", kind="Other")]}})
    assert conditions.is_true({"status": {"conditions": [entry("True")]}})
    assert not conditions.is_true({"status": {"conditions": [entry("Unknown")]}})


def service(group: str, version: str, group_priority: int = 1000, version_priority: int = 15) -> Object:
    return {
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": group_priority,
            "versionPriority": version_priority,
        },
    }


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        pytest.param([Attempt(url=URL, code=200)], probe.PASSED, id="200"),
        pytest.param([Attempt(url=URL, code=299)], probe.PASSED, id="299"),
        pytest.param([Attempt(url=URL, code=500), Attempt(url=URL, code=204)], probe.PASSED, id="one of several"),
        *[
            pytest.param(
                [Attempt(url=URL, code=code)],
                probe.check_failed(f"failing or missing response from {URL}: bad status from {URL}: {code}"),
                id=str(code),
            )
            for code in (199, 302, 304, 403, 500)
        ],
        pytest.param(
            [Attempt(url=URL, code=500), Attempt(url=URL, error="connection refused")],
            probe.check_failed(f"failing or missing response from {URL}: connection refused"),
            id="the last fault counts",
        ),
        pytest.param(
            [Attempt(url=URL, timed_out=True)], probe.check_failed(f"timed out waiting for {URL}"), id="timed out"
        ),
        pytest.param([], probe.check_failed("no discovery check was made"), id="nothing asked"),
    ],
)
def test_verdict(attempts: list[Attempt], expected: Condition) -> None:
    assert probe.verdict(attempts) == expected


def test_verdict_texts() -> None:
    assert (probe.PASSED.status, probe.PASSED.reason, probe.PASSED.message) == ("True", "Passed", "all checks passed")
    failure = probe.check_failed("x")
    assert (failure.status, failure.reason) == ("False", "FailedDiscoveryCheck")


@pytest.mark.parametrize(("reason", "status"), [("ServiceNotFound", "False"), ("ServiceAccessError", "Unknown")])
def test_unresolved(reason: str, status: str) -> None:
    condition = probe.unresolved(ResolveError(reason=reason, message="m"))
    assert (condition.status, condition.reason, condition.message) == (status, reason, "m")


@pytest.mark.parametrize(
    ("before", "after", "counted"),
    [
        (entry("True"), entry("False"), True),
        (entry("True"), entry("Unknown"), True),
        (entry("True"), entry("True"), False),
        (entry("False"), entry("False"), False),
        (None, entry("False"), False),
        (entry("Unknown"), entry("False"), False),
    ],
)
def test_only_leaving_true_is_counted(before: Object | None, after: Object, counted: bool) -> None:
    assert probe.became_unavailable(before, after) is counted


LABELS = {"none": None, "foreign": "yes", "onstart": "onstart", "true": "true"}


def current(label: str | None, priority: int = 15) -> Object:
    obj = service("g", "v1", 1000, priority)
    if label is not None:
        obj["metadata"]["labels"] = {AUTOMANAGED_LABEL: label}
    return obj


def desired(mode: Mode | None) -> Desired | None:
    return None if mode is None else Desired(apiservice=service("g", "v1"), mode=mode)


ONSTART, ALWAYS = Mode.ON_START, Mode.ALWAYS
NOTHING, CREATE, UPDATE, DELETE = Action.NOTHING, Action.CREATE, Action.UPDATE_SPEC, Action.DELETE


@pytest.mark.parametrize("at_start", [False, True], ids=["not at start", "at start"])
@pytest.mark.parametrize(
    ("mode", "first", "later"),
    [(None, NOTHING, NOTHING), (ONSTART, CREATE, NOTHING), (ALWAYS, CREATE, CREATE)],
    ids=["undesired", "onstart", "true"],
)
def test_missing_object(mode: Mode | None, first: Action, later: Action, at_start: bool) -> None:
    assert decide(None, desired(mode), at_start=at_start, synced=False) is first
    assert decide(None, desired(mode), at_start=at_start, synced=True) is later


@pytest.mark.parametrize("label", [None, "yes", "", "True"])
@pytest.mark.parametrize("mode", [None, ONSTART, ALWAYS])
@pytest.mark.parametrize("at_start", [False, True])
@pytest.mark.parametrize("synced", [False, True])
def test_what_is_not_managed_is_never_touched(
    label: str | None, mode: Mode | None, at_start: bool, synced: bool
) -> None:
    assert decide(current(label, 1), desired(mode), at_start=at_start, synced=synced) is NOTHING


@pytest.mark.parametrize(
    ("label", "at_start", "mode", "first", "later"),
    [
        ("onstart", False, None, NOTHING, NOTHING),
        ("onstart", False, ONSTART, NOTHING, NOTHING),
        ("onstart", False, ALWAYS, NOTHING, NOTHING),
        ("onstart", True, None, DELETE, NOTHING),
        ("onstart", True, ONSTART, UPDATE, NOTHING),
        ("onstart", True, ALWAYS, UPDATE, NOTHING),
        ("true", False, None, DELETE, DELETE),
        ("true", True, None, DELETE, DELETE),
        ("true", False, ONSTART, UPDATE, NOTHING),
        ("true", True, ONSTART, UPDATE, NOTHING),
        ("true", False, ALWAYS, UPDATE, UPDATE),
        ("true", True, ALWAYS, UPDATE, UPDATE),
    ],
)
def test_managed_object(label: str, at_start: bool, mode: Mode | None, first: Action, later: Action) -> None:
    changed = current(label, priority=1)
    assert decide(changed, desired(mode), at_start=at_start, synced=False) is first
    assert decide(changed, desired(mode), at_start=at_start, synced=True) is later


@pytest.mark.parametrize("mode", [ONSTART, ALWAYS])
def test_equal_spec_is_not_written(mode: Mode) -> None:
    assert decide(current("true"), desired(mode), at_start=True, synced=False) is NOTHING


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({"service": {"name": "a", "namespace": "b"}}, {"service": {"name": "a", "namespace": "b", "port": 443}}, True),
        ({"service": {"name": "a", "namespace": "b"}}, {"service": {"name": "a", "namespace": "b", "port": 1}}, False),
        ({"insecureSkipTLSVerify": False}, {}, True),
        ({"insecureSkipTLSVerify": True}, {}, False),
        ({"service": {"name": "a", "namespace": "b"}}, {}, False),
        ({"caBundle": "eA=="}, {}, False),
    ],
)
def test_same_spec(left: Object, right: Object, same: bool) -> None:
    assert same_spec({"spec": left}, {"spec": right}) is same
    assert same_spec({"spec": right}, {"spec": left}) is same


@pytest.mark.parametrize(
    ("at_start", "synced", "priority", "action"),
    [
        pytest.param(True, False, 1, Action.UPDATE_SPEC, id="replaced at the start"),
        pytest.param(True, True, 1, Action.NOTHING, id="only once"),
        pytest.param(False, False, 1, Action.NOTHING, id="made later by somebody"),
        pytest.param(True, False, 0, Action.NOTHING, id="equal already"),
    ],
)
def test_what_takes_over_replaces_even_an_unmanaged_object(
    at_start: bool, synced: bool, priority: int, action: Action
) -> None:
    bundled = Desired(apiservice=service("g", "v1"), mode=ONSTART, takes_over=True)
    existing = current(None, priority) if priority else current(None)
    assert decide(existing, bundled, at_start=at_start, synced=synced) is action


def test_created_objects_are_labelled_and_keep_their_own_labels() -> None:
    obj = service("g", "v1")
    obj["metadata"]["labels"] = {"a": "b"}
    labelled = Desired(apiservice=obj, mode=ONSTART).labelled
    assert labelled["metadata"]["labels"] == {"a": "b", AUTOMANAGED_LABEL: "onstart"}
    assert obj["metadata"]["labels"] == {"a": "b"}


def test_local_apiservices_follow_the_table() -> None:
    served = [
        GroupVersion("apiregistration.k8s.io", "v1"),
        GroupVersion("service.grafana.app", "v0alpha1"),
        GroupVersion("apiextensions.k8s.io", "v1"),
        GroupVersion("example.grafana.app", "v1"),
        GroupVersion("example.grafana.app", "v0alpha1"),
    ]
    specs = {obj["metadata"]["name"]: obj["spec"] for obj in local_apiservices(served)}
    assert {name: (spec["groupPriorityMinimum"], spec["versionPriority"]) for name, spec in specs.items()} == {
        "v1.apiextensions.k8s.io": (16700, 15),
        "v0alpha1.service.grafana.app": (15000, 1),
        "v1.example.grafana.app": (15000, 9),
        "v0alpha1.example.grafana.app": (15000, 9),
    }
    assert not any("service" in spec for spec in specs.values())
    assert priority_of(served[0]).group == 20001
