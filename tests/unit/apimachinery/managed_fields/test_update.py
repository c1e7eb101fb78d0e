"""The chain of rules around Update and Apply, on whole objects."""

from copy import deepcopy
from typing import Any

import orjson
import pytest

from apimachinery.managed_fields import last_applied, paths, typed, update
from apimachinery.managed_fields.ownership import Rules
from apimachinery.managed_fields.paths import EMPTY, PathSet
from apimachinery.managed_fields.update import Writer
from apimachinery.schema import Schema
from apimachinery.status import APIError
from apimachinery.types import Object

V1 = "test.example.com/v1"
SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer"},
                "color": {"type": "string"},
                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            },
        },
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    },
}
TYPE = typed.object_type(SCHEMA)


def rules(*reset: str, version: str = V1) -> Rules:
    return Rules(
        type=TYPE,
        api_version=version,
        serves=lambda known: known.startswith("test.example.com/"),
        reset=PathSet.of((paths.name(field),) for field in reset),
    )


MAIN, STATUS = rules("status"), rules("metadata", "spec")


def writer(manager: str, day: int = 1, subresource: str = "") -> Writer:
    return Writer(manager=manager, now=time(day), subresource=subresource)


def time(day: int) -> str:
    return f"2026-01-{day:02}T00:00:00Z"


def widget(metadata: Object | None = None, **spec: Any) -> Object:
    return {"apiVersion": V1, "kind": "Widget", "metadata": {"name": "w", **(metadata or {})}, "spec": spec}


def stored(obj: Object, entries: list[Object]) -> Object:
    """As a server keeps it."""
    metadata = {**obj["metadata"], "uid": "u", "creationTimestamp": time(1), "resourceVersion": "7", "generation": 1}
    metadata.pop("managedFields", None)
    return {**obj, "metadata": {**metadata, "managedFields": entries} if entries else metadata}


def created(obj: Object, manager: str = "creator", day: int = 1) -> Object:
    return stored(obj, update.update(None, obj, MAIN, writer(manager, day)))


def applied(
    live: Object | None, config: Object, manager: str = "one", day: int = 2, *, force: bool = False, by: Rules = MAIN
) -> Object:
    result = update.apply(live, config, by, writer(manager, day), force=force)
    return stored(result.object, result.managed_fields)


def owners(obj: Object) -> dict[str, tuple[str, Any]]:
    """`manager/operation[/subresource]` -> (day of its time, its fields)."""
    found = {}
    for entry in obj["metadata"].get("managedFields", []):
        parts = [entry["manager"], entry["operation"], entry.get("subresource")]
        found["/".join(part for part in parts if part)] = (entry.get("time", "")[8:10], entry["fieldsV1"])
    return found


def spec(*names: str) -> Object:
    return {"f:spec": {f"f:{name}": {} for name in names}}


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


def annotated(config: Object, live: Object | None = None, **more: str) -> Object:
    """What client-side apply leaves: the configuration as an annotation."""
    text = orjson.dumps({**config, "metadata": {**config["metadata"], "annotations": {}}}).decode() + "\n"
    target = deepcopy(live or config)
    target["metadata"]["annotations"] = {last_applied.ANNOTATION: text, **more}
    return target


def test_kubectl_takes_over_what_client_side_apply_set() -> None:
    live = created(annotated(widget(size=1)), "kubectl-client-side-apply")
    after = applied(live, widget(size=2), "kubectl")
    assert after["spec"] == {"size": 2}
    assert owners(after)["kubectl/Apply"] == ("02", spec("size"))
    assert "f:size" not in owners(after)["kubectl-client-side-apply/Update"][1]["f:spec"]


def test_others_do_not_take_over_what_client_side_apply_set() -> None:
    live = created(annotated(widget(size=1)), "kubectl-client-side-apply")
    with pytest.raises(APIError, match=r"\.spec\.size"):
        applied(live, widget(size=2), "helm")


def test_what_changed_since_client_side_apply_conflicts() -> None:
    live = created(annotated(widget(size=1, color="red"), widget(size=5, color="red")))
    with pytest.raises(APIError) as caught:
        applied(live, widget(size=2, color="blue"), "kubectl")
    assert caught.value.message == f'Apply failed with 1 conflict: conflict with "creator" using {V1}: .spec.size'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"apiVersion":"test.example.com/v2","spec":{"size":1}}',
        f'{{"apiVersion":"{V1}","spec":{{"sise":1}}}}',
        f'{{"apiVersion":"{V1}","spec":{{"tags":["a","a"]}}}}',
    ],
)
def test_annotations_that_say_nothing(text: str) -> None:
    live = widget({"annotations": {last_applied.ANNOTATION: text}}, size=1)
    assert last_applied.unchanged_since(live, TYPE, V1) == EMPTY
    with pytest.raises(APIError, match=r"\.spec\.size"):
        applied(created(live), widget(size=2), "kubectl")


def test_the_annotation_follows_kubectl() -> None:
    live = created(annotated(widget(size=1), other="kept"))
    after = applied(live, widget({"labels": {"a": "b"}}, size=2), "kubectl")
    annotations = after["metadata"]["annotations"]
    assert orjson.loads(annotations[last_applied.ANNOTATION]) == widget({"labels": {"a": "b"}}, size=2)
    assert annotations["other"] == "kept"


def test_the_annotation_does_not_hold_itself() -> None:
    live = created(annotated(widget(size=1)))
    after = applied(live, annotated(widget(size=1), mine="yes"), "kubectl", force=True)
    kept = orjson.loads(after["metadata"]["annotations"][last_applied.ANNOTATION])
    assert kept["metadata"]["annotations"] == {"mine": "yes"}


def test_the_annotation_follows_nobody_else() -> None:
    live = created(annotated(widget(size=1)))
    after = applied(live, widget(size=2), "helm", force=True)
    assert after["metadata"]["annotations"] == live["metadata"]["annotations"]


def test_no_annotation_is_made_up() -> None:
    assert "annotations" not in applied(created(widget(size=1)), widget(color="red"), "kubectl")["metadata"]


def test_an_annotation_that_would_be_too_large_is_dropped() -> None:
    live = created(annotated(widget(size=1), big="x" * (256 * 1024 - 200)))
    after = applied(live, widget(color="y" * 300), "kubectl")
    assert set(after["metadata"]["annotations"]) == {"big"}


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
