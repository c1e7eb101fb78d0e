import pytest

from apimachinery.types import Object
from apimachinery.watch import EventType, at_revision, bookmark, transition

IN: Object = {"metadata": {"labels": {"on": "yes"}}}
OUT: Object = {"metadata": {"labels": {"on": "no"}}}


def selected(obj: Object) -> bool:
    return bool(obj["metadata"]["labels"]["on"] == "yes")


@pytest.mark.parametrize(
    ("kind", "old", "new", "seen"),
    [
        pytest.param("ADDED", None, IN, ("ADDED", False), id="appears inside"),
        pytest.param("ADDED", None, OUT, None, id="appears outside"),
        pytest.param("MODIFIED", IN, IN, ("MODIFIED", False), id="stays inside"),
        pytest.param("MODIFIED", OUT, IN, ("ADDED", False), id="enters"),
        pytest.param("MODIFIED", IN, OUT, ("DELETED", True), id="leaves, shown as it was"),
        pytest.param("MODIFIED", OUT, OUT, None, id="stays outside"),
        pytest.param("DELETED", IN, IN, ("DELETED", False), id="is deleted inside"),
        pytest.param("DELETED", OUT, OUT, None, id="is deleted outside"),
    ],
)
def test_transitions(kind: EventType, old: Object | None, new: Object, seen: tuple[str, bool] | None) -> None:
    assert transition(kind, new, old, selected) == seen


def test_at_revision_leaves_the_original_alone() -> None:
    original: Object = {"metadata": {"name": "a", "resourceVersion": "1"}}
    assert at_revision(original, 7)["metadata"] == {"name": "a", "resourceVersion": "7"}
    assert original["metadata"]["resourceVersion"] == "1"


@pytest.mark.parametrize("end", [False, True])
def test_bookmarks_name_the_watched_kind_and_nothing_else(end: bool) -> None:
    mark = bookmark("g/v1", "Thing", 9, initial_events_end=end)
    assert (mark["apiVersion"], mark["kind"], mark["metadata"]["resourceVersion"]) == ("g/v1", "Thing", "9")
    assert ("annotations" in mark["metadata"]) is end
    assert "name" not in mark["metadata"]
