"""The chain of rules around Apply, on whole objects."""

from copy import deepcopy
from typing import Any

import pytest

from apimachinery.managed_fields import update
from apimachinery.status import APIError
from apimachinery.types import Object
from tests.unit.apimachinery.managed_fields.widgets import (
    MAIN,
    STATUS,
    V1,
    applied,
    created,
    owners,
    spec,
    stored,
    widget,
    writer,
)


def test_untracked_objects_get_a_manager_with_the_first_apply() -> None:
    live = applied(stored(widget({"labels": {"a": "b"}}, size=1, color="red"), []), widget(size=1))
    assert owners(live) == {
        "before-first-apply/Update": (
            "02",
            {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {".": {}, "f:color": {}, "f:size": {}}},
        ),
        "one/Apply": ("", spec("size")),
    }


def test_what_was_there_before_the_first_apply_conflicts() -> None:
    with pytest.raises(APIError) as caught:
        applied(stored(widget(size=1), []), widget(size=2))
    assert caught.value.message == (
        f'Apply failed with 1 conflict: conflict with "before-first-apply" using {V1}: .spec.size'
    )


def test_applying_creates() -> None:
    result = update.apply(None, widget({"labels": {"a": "b"}}, size=1), MAIN, writer("one"), force=False)
    assert result.object == widget({"labels": {"a": "b"}}, size=1)
    assert owners(stored(result.object, result.managed_fields)) == {
        "one/Apply": ("01", {"f:metadata": {"f:labels": {"f:a": {}}}, **spec("size")})
    }


def test_applying_the_same_keeps_object_and_time() -> None:
    live = applied(None, widget(size=1), day=1)
    again = update.apply(live, widget(size=1), MAIN, writer("one", 5), force=False)
    assert again.managed_fields == live["metadata"]["managedFields"]
    assert again.object == {**live, "metadata": {k: v for k, v in live["metadata"].items() if k != "managedFields"}}


def test_applying_more_changes_the_time() -> None:
    live = applied(applied(None, widget(size=1), day=1), widget(size=1, color="red"), day=2)
    assert owners(live) == {"one/Apply": ("02", spec("color", "size"))}


def test_a_configuration_of_nothing_owns_nothing() -> None:
    live = applied(
        applied(None, widget(size=1), day=1), {"apiVersion": V1, "kind": "Widget", "metadata": {"name": "w"}}
    )
    assert owners(live) == {}
    assert "spec" not in live


def test_applying_status_is_ignored_outside_of_its_subresource() -> None:
    live = applied(None, {**widget(size=1), "status": {"ready": True}})
    assert owners(live) == {"one/Apply": ("02", spec("size"))}


def test_live_and_config_are_left_as_they_are() -> None:
    live, config = created(widget(size=1, tags=["a"])), widget(size=2, tags=["b"])
    before = deepcopy((live, config))
    applied(live, config, force=True)
    update.update(live, config, MAIN, writer("m"))
    assert (live, config) == before


@pytest.mark.parametrize(
    ("make", "message", "causes"),
    [
        pytest.param(
            lambda: created(widget(size=1)),
            f'Apply failed with 1 conflict: conflict with "creator" using {V1}: .spec.size',
            [(f'conflict with "creator" using {V1}', ".spec.size")],
            id="one",
        ),
        pytest.param(
            lambda: applied(None, widget(size=1), "b"),
            'Apply failed with 1 conflict: conflict with "b": .spec.size',
            [('conflict with "b"', ".spec.size")],
            id="an applier has no version",
        ),
        pytest.param(
            lambda: created(widget(size=1, color="red")),
            f'Apply failed with 2 conflicts: conflicts with "creator" using {V1}:\n- .spec.color\n- .spec.size',
            [
                (f'conflict with "creator" using {V1}', ".spec.color"),
                (f'conflict with "creator" using {V1}', ".spec.size"),
            ],
            id="two fields",
        ),
        pytest.param(
            lambda: applied(applied(None, widget(size=1), "b"), widget(color="red", size=1), "a"),
            'Apply failed with 3 conflicts: conflicts with "a":\n- .spec.color\n- .spec.size\n'
            'conflicts with "b":\n- .spec.size',
            [
                ('conflict with "a"', ".spec.color"),
                ('conflict with "a"', ".spec.size"),
                ('conflict with "b"', ".spec.size"),
            ],
            id="two managers",
        ),
    ],
)
def test_conflicts(make: Any, message: str, causes: list[tuple[str, str]]) -> None:
    with pytest.raises(APIError) as caught:
        applied(make(), widget(size=9, color="blue"), "me")
    error = caught.value
    assert (error.code, error.reason, error.message) == (409, "Conflict", message)
    assert error.details == {
        "causes": [{"reason": "FieldManagerConflict", "message": text, "field": field} for text, field in causes]
    }


def test_conflicts_name_the_subresource() -> None:
    live = created(widget(size=1))
    live = {**live, "status": {"ready": True}}
    live = stored(live, update.update(created(widget(size=1)), live, STATUS, writer("ctrl", 2, "status")))
    config = {"apiVersion": V1, "kind": "Widget", "metadata": {"name": "w"}, "status": {"ready": False}}
    with pytest.raises(APIError) as caught:
        update.apply(live, config, STATUS, writer("me", 3, "status"), force=False)
    assert caught.value.message == (
        f'Apply failed with 1 conflict: conflict with "ctrl" with subresource "status" using {V1}: .status.ready'
    )


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        pytest.param({}, 400, "invalid object type: /, Kind=", id="nothing"),
        pytest.param({**widget(), "kind": "Gadget"}, 400, f"invalid object type: {V1}, Kind=Gadget", id="kind"),
        pytest.param({**widget(), "kind": "X", "apiVersion": "v1"}, 400, "invalid object type: /v1, Kind=X", id="core"),
        pytest.param(
            {**widget(), "apiVersion": "test.example.com/v2"},
            400,
            "Incorrect version specified in apply patch. "
            "Specified patch version: test.example.com/v2, expected: test.example.com/v1",
            id="version",
        ),
        pytest.param(widget({"managedFields": []}), 400, "metadata.managedFields must be nil", id="managed fields"),
        pytest.param(
            widget({"namespace": "n"}, sise=1),
            500,
            f"failed to create typed patch object (n/w; {V1}, Kind=Widget): .spec.sise: field not declared in schema",
            id="undeclared",
        ),
        pytest.param(
            {**widget(), "metadata": "x"},
            500,
            f"failed to create typed patch object (/; {V1}, Kind=Widget): .metadata: expected map, got &{{x}}",
            id="metadata",
        ),
        pytest.param(
            widget(tags=["a", "a"]),
            500,
            f"failed to create typed patch object (/w; {V1}, Kind=Widget): "
            '.spec.tags: duplicate entries for key [="a"]',
            id="duplicates",
        ),
    ],
)
def test_configurations_that_cannot_be_applied(config: Object, code: int, message: str) -> None:
    with pytest.raises(APIError) as caught:
        update.check_config(config, MAIN, "Widget")
    assert (caught.value.code, caught.value.message) == (code, message)


def test_good_configurations_pass() -> None:
    update.check_config(widget({"managedFields": None, "labels": None}, size=None), MAIN, "Widget")


def test_live_objects_whose_managers_cannot_be_read_are_not_applied_to() -> None:
    live = stored(widget(size=1), [{"manager": "x", "operation": "Steal", "apiVersion": V1}])
    with pytest.raises(APIError, match="failed to decode managed fields: operation must be") as caught:
        applied(live, widget(size=1))
    assert caught.value.code == 500


def test_live_objects_that_cannot_be_merged_are_not_applied_to() -> None:
    live = created(widget(size=1))
    live["spec"]["tags"] = [None]
    with pytest.raises(APIError, match="failed to create typed live object") as caught:
        applied(live, widget(tags=["a"]))
    assert caught.value.code == 500
