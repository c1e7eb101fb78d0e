"""The chain of rules around Update, on whole objects."""

from copy import deepcopy
from typing import Any

import pytest

from apimachinery.managed_fields import typed, update
from apimachinery.managed_fields.ownership import Rules
from tests.unit.apimachinery.managed_fields.widgets import (
    MAIN,
    STATUS,
    V1,
    applied,
    created,
    owners,
    stored,
    time,
    widget,
    writer,
)


def test_a_creator_owns_all_but_identity_and_status() -> None:
    obj = widget({"namespace": "n", "labels": {"a": "b"}, "generateName": "w-", "finalizers": ["a/b"]}, size=1)
    assert owners(created({**obj, "status": {"ready": True}})) == {
        "creator/Update": (
            "01",
            {
                "f:metadata": {
                    "f:finalizers": {".": {}, 'v:"a/b"': {}},
                    "f:generateName": {},
                    "f:labels": {".": {}, "f:a": {}},
                },
                "f:spec": {".": {}, "f:size": {}},
            },
        )
    }


def test_an_entry_says_all() -> None:
    (entry,) = update.update(None, widget(size=1), MAIN, writer("m"))
    assert entry == {
        "manager": "m",
        "operation": "Update",
        "apiVersion": V1,
        "time": time(1),
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {".": {}, "f:size": {}}},
    }


def test_an_object_without_fields_has_no_managers() -> None:
    bare = {"apiVersion": V1, "kind": "Widget", "metadata": {"name": "w"}}
    assert update.update(None, bare, MAIN, writer("m")) == []


def test_an_update_gets_a_time_only_when_it_takes_a_field() -> None:
    live = created(widget(size=1, color="red"))
    same = update.update(live, widget(size=1, color="red"), MAIN, writer("creator", 2))
    assert owners(stored(live, same)) == owners(live)
    other = update.update(live, widget(size=2, color="red"), MAIN, writer("creator", 3))
    assert owners(stored(live, other)) == {"creator/Update": ("03", {"f:spec": {".": {}, "f:color": {}, "f:size": {}}})}


def test_an_update_that_only_removes_leaves_the_times() -> None:
    live = created(widget(size=1, color="red"))
    less = update.update(live, widget(size=1), MAIN, writer("other", 2))
    assert owners(stored(live, less)) == {"creator/Update": ("01", {"f:spec": {".": {}, "f:size": {}}})}


def test_status_is_owned_through_its_subresource() -> None:
    live = created(widget(size=1))
    wish = {**live, "spec": {"size": 9}, "status": {"ready": True}}
    entries = update.update(live, wish, STATUS, writer("creator", 2, "status"))
    assert owners(stored(live, entries)) == owners(live) | {
        "creator/Update/status": ("02", {"f:status": {".": {}, "f:ready": {}}})
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(None, {"creator/Update"}, id="left out"),
        pytest.param([], set(), id="empty list"),
        pytest.param([{}], set(), id="empty entry"),
        pytest.param([{"manager": "x"}], {"creator/Update"}, id="nonsense"),
        pytest.param([{}, {}], {"creator/Update"}, id="two empty entries"),
        pytest.param([None], {"creator/Update"}, id="null"),
    ],
)
def test_clients_may_reset_managed_fields(given: Any, expected: set[str]) -> None:
    live = created(widget(size=1))
    wish = deepcopy(widget(size=1))
    if given is not None:
        wish["metadata"]["managedFields"] = given
    assert set(owners(stored(live, update.update(live, wish, MAIN, writer("other", 2))))) == expected


def test_clients_may_edit_managed_fields() -> None:
    live = created(widget(size=1))
    wish = deepcopy(live)
    wish["metadata"]["managedFields"][0] |= {"manager": "somebody", "operation": "Apply"}
    entries = update.update(live, wish, MAIN, writer("other", 2))
    assert owners(stored(live, entries)) == {"somebody/Apply": ("01", {"f:spec": {".": {}, "f:size": {}}})}


def test_managed_fields_cannot_be_edited_through_a_subresource() -> None:
    live = created(widget(size=1))
    wish = {**live, "metadata": {**live["metadata"], "managedFields": []}}
    entries = update.update(live, wish, STATUS, writer("other", 2, "status"))
    assert entries == live["metadata"]["managedFields"]


def test_untracked_objects_are_not_tracked_by_updates() -> None:
    assert update.update(stored(widget(size=1), []), widget(size=2), MAIN, writer("m")) == []


def test_objects_may_be_as_deep_as_bodies_may_be() -> None:
    deep: Any = 1
    for _ in range(190):
        deep = {"a": deep}
    anything = Rules(type=typed.DEDUCED, api_version=V1, serves=lambda _version: True)
    live = {**widget(), "spec": deep}
    live = stored(live, update.update(None, live, anything, writer("m")))
    after = applied(live, {**widget(), "spec": {"b": deep}}, by=anything)
    assert applied(after, widget(), by=anything)["spec"] == {"a": deep["a"]}


def test_at_most_ten_updaters_are_kept() -> None:
    live = created(widget(tags=[]), "m0")
    for number in range(1, 15):
        tags = [f"t{count}" for count in range(number + 1)]
        live = stored(widget(tags=tags), update.update(live, widget(tags=tags), MAIN, writer(f"m{number}", number + 1)))
    assert len(owners(live)) == 10
    assert "ancient-changes/Update" in owners(live)
    listed: set[str] = set()
    for _, fields in owners(live).values():
        listed |= set(fields["f:spec"].get("f:tags", {}))
    assert {text for text in listed if text != "."} == {f'v:"t{number}"' for number in range(15)}
