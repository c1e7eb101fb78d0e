"""The annotation of client-side apply, and who takes over what it says."""

from copy import deepcopy

import orjson
import pytest

from apimachinery.managed_fields import last_applied
from apimachinery.managed_fields.paths import EMPTY
from apimachinery.status import APIError
from apimachinery.types import Object
from tests.unit.apimachinery.managed_fields.widgets import (
    TYPE,
    V1,
    applied,
    created,
    owners,
    spec,
    widget,
)


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
