"""The sorted table against the obvious implementation."""

from hypothesis import given
from hypothesis import strategies as st

from apimachinery.gvk import GroupResource
from apiserver.storage.base import Event, Key, Stored
from apiserver.storage.table import Table

RESOURCE = GroupResource("g", "r")
NAMES = st.sampled_from(["", "a", "a-b", "a.b", "a\0", "b", "z"])


@given(st.lists(st.tuples(NAMES, NAMES.filter(bool), st.booleans())))
def test_like_a_sorted_dict(writes: list[tuple[str, str, bool]]) -> None:
    table, model, past = Table(), dict[Key, Stored](), list[tuple[Event, list[Stored]]]()
    for revision, (namespace, name, put) in enumerate(writes):
        key = Key(RESOURCE, namespace, name)
        previous, stored = model.get(key), Stored(key, {}, revision)
        event = Event(("MODIFIED" if previous else "ADDED") if put else "DELETED", stored, previous, revision)
        past.append((event, sorted(model.values(), key=lambda item: item.key)))
        if put:
            model[key] = stored
        else:
            model.pop(key, None)
        table.apply(event)
        expected = sorted(model.values(), key=lambda item: item.key)
        assert list(table.list("")) == expected
        for wanted in ("a", "a-b", "none"):
            assert list(table.list(wanted)) == [item for item in expected if item.key.namespace == wanted]
        assert table.get(key) is model.get(key)
    assert list(Table(reversed(table.list(""))).list("")) == list(table.list(""))
    copied = table.copy()
    for event, before in reversed(past):
        copied.undo(event)
        assert list(copied.list("")) == before
    assert list(table.list("")) == sorted(model.values(), key=lambda item: item.key)
