"""What holds for every object, configuration and history."""

from dataclasses import dataclass
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apimachinery.managed_fields import compare, managers, ownership, typed, validate
from apimachinery.managed_fields.field_sets import fields_of, with_named_parents
from apimachinery.managed_fields.managers import Manager, Owned
from apimachinery.managed_fields.merge import merge
from apimachinery.managed_fields.ownership import ConflictsError, Rules
from apimachinery.managed_fields.paths import EMPTY
from apimachinery.managed_fields.remove import remove
from tests.support.budget import examples

TYPE = typed.compile_type(
    {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": "string"},
            "struct": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
            "atomic": {"type": "array", "items": {"type": "integer"}},
            "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "items": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}},
            },
            "open": {"x-kubernetes-preserve-unknown-fields": True},
        },
    }
)
RULES = Rules(type=TYPE, api_version="v1", serves=lambda _version: True)

NUMBERS = st.integers(0, 2)
LETTERS = st.sampled_from("pqr")


def unique(items: Any, by: Any) -> Any:
    return st.lists(items, max_size=3, unique_by=by)


OPEN = st.recursive(NUMBERS | st.booleans(), lambda inner: st.dictionaries(LETTERS, inner, max_size=2), max_leaves=4)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "a": NUMBERS,
        "b": LETTERS,
        "struct": st.fixed_dictionaries({}, optional={"x": NUMBERS, "y": NUMBERS}),
        "map": st.dictionaries(LETTERS, NUMBERS, max_size=3),
        "atomic": st.lists(NUMBERS, max_size=3),
        "set": unique(LETTERS, lambda item: item),
        "items": unique(st.fixed_dictionaries({"k": LETTERS}, optional={"v": NUMBERS}), lambda item: item["k"]),
        "open": OPEN,
    },
)


@given(OBJECTS)
def test_objects_are_valid(obj: Any) -> None:
    assert validate.validate(obj, TYPE) == []


@given(OBJECTS, OBJECTS)
def test_differences_are_the_other_way_round_when_swapped(one: Any, other: Any) -> None:
    there, back = compare.compare(one, other, TYPE), compare.compare(other, one, TYPE)
    assert (there.added, there.removed, there.modified) == (back.removed, back.added, back.modified)
    assert not there.added & there.removed
    assert not (there.added | there.removed) & there.modified


@given(OBJECTS)
def test_an_object_does_not_differ_from_itself(obj: Any) -> None:
    assert compare.compare(obj, dict(obj), TYPE).same


@given(OBJECTS, OBJECTS)
def test_a_merged_object_has_what_was_wished(live: Any, wish: Any) -> None:
    merged = merge(live, wish, TYPE)
    difference = compare.compare(wish, merged, TYPE)
    assert not difference.removed
    assert not difference.modified & fields_of(wish, TYPE) or _lost_empties(live, wish)
    assert compare.equal(merge(merged, wish, TYPE), merged)


def _lost_empties(live: Any, wish: Any) -> bool:
    """Emptiness cannot be wished for where there is something: nothing is removed by merging."""
    if isinstance(live, dict) and isinstance(wish, dict):
        return (not wish and bool(live)) or any(_lost_empties(live.get(name), wish[name]) for name in wish)
    return isinstance(live, list) and isinstance(wish, list) and not wish and bool(live)


@given(OBJECTS, OBJECTS)
def test_merging_loses_nothing(live: Any, wish: Any) -> None:
    assert not compare.compare(live, merge(live, wish, TYPE), TYPE).removed or _changed_shape(live, wish)


def _changed_shape(live: Any, wish: Any) -> bool:
    if isinstance(live, dict) and isinstance(wish, dict):
        return any(_changed_shape(live[name], wish[name]) for name in wish if name in live)
    return isinstance(live, dict) != isinstance(wish, dict)


@given(OBJECTS)
def test_removing_all_fields_leaves_nothing(obj: Any) -> None:
    everything = with_named_parents(fields_of(obj, TYPE), TYPE)
    left = remove(obj, everything, TYPE) or {}
    assert all(value in ({}, [], None) for value in left.values())
    assert remove(obj, EMPTY, TYPE) is obj


@dataclass(frozen=True)
class Step:
    manager: str
    verb: str
    object: Any


STEPS = st.lists(st.builds(Step, LETTERS, st.sampled_from(["apply", "force", "update"]), OBJECTS), max_size=4)
State = tuple[Any, dict[Manager, Owned]]


def play(state: State, step: Step) -> State:
    live, managed = state
    if step.verb == "update":
        me = managers.updater(step.manager, "v1")
        return step.object, ownership.update(live, step.object, managed, me, RULES)
    me = managers.applier(step.manager)
    try:
        result = ownership.apply(live, step.object, managed, me, RULES, force=step.verb == "force")
    except ConflictsError:
        return state
    return result.value or {}, dict(result.managed)


def history(steps: list[Step]) -> State:
    state: State = ({}, {})
    for step in steps:
        state = play(state, step)
    return state


@given(STEPS)
def test_nobody_owns_nothing(steps: list[Step]) -> None:
    assert all(owned.fields for owned in history(steps)[1].values())


@given(STEPS, LETTERS, OBJECTS)
@settings(max_examples=examples(50))
def test_applying_twice_is_applying_once(steps: list[Step], manager: str, config: Any) -> None:
    step = Step(manager, "force", config)
    once = play(history(steps), step)
    twice = play(once, step)
    assert compare.equal(once[0], twice[0])
    assert once[1] == twice[1]


@given(STEPS, LETTERS, OBJECTS)
@settings(max_examples=examples(50))
def test_a_forced_apply_is_what_the_object_says(steps: list[Step], manager: str, config: Any) -> None:
    before = history(steps)
    live, managed = play(before, Step(manager, "force", config))
    mine = fields_of(config, TYPE)
    assert (managed[managers.applier(manager)].fields if mine else EMPTY) == mine
    # Applying the same as somebody else never conflicts: they share what is there.
    ownership.apply(live, config, managed, managers.applier("another"), RULES, force=False)


@given(STEPS, LETTERS, OBJECTS)
@settings(max_examples=examples(50))
def test_an_apply_that_conflicts_is_one_that_force_lets_take_fields(steps: list[Step], name: str, config: Any) -> None:
    live, managed = history(steps)
    me = managers.applier(name)
    forced = ownership.apply(live, config, managed, me, RULES, force=True)
    try:
        ownership.apply(live, config, managed, me, RULES, force=False)
    except ConflictsError as error:
        for conflict in error.conflicts:
            left = forced.managed.get(conflict.manager)
            assert conflict.path in managed[conflict.manager].fields
            assert left is None or conflict.path not in left.fields
        return
    changed = compare.compare(live, forced.value, TYPE)
    for other, owned in managed.items():
        if other != me:
            assert not owned.fields & (changed.added | changed.modified)


@given(STEPS, LETTERS, OBJECTS)
def test_an_update_owns_what_it_changes(steps: list[Step], name: str, new: Any) -> None:
    live, managed = history(steps)
    me = managers.updater(name, "v1")
    changed = compare.compare(live, new, TYPE)
    after = ownership.update(live, new, managed, me, RULES)
    mine = after[me].fields if me in after else EMPTY
    taken = changed.added | changed.modified
    assert not taken - mine
    for other, owned in after.items():
        assert other == me or not owned.fields & (taken | changed.removed)
        assert other == me or not owned.fields - managed[other].fields


@given(STEPS, LETTERS, OBJECTS)
@settings(max_examples=examples(50))
def test_what_others_apply_survives(steps: list[Step], name: str, config: Any) -> None:
    """Dropping fields never takes away what another applier has.

    An exception are open values that change their shape: who owns the parts of an object is not asked before the whole
    becomes a scalar.
    """
    live, managed = history(steps)
    assume(not _changed_shape(live, config))
    me = managers.applier(name)
    try:
        result = ownership.apply(live, config, managed, me, RULES, force=False)
    except ConflictsError:
        return
    for other, owned in managed.items():
        if other.applies and other != me:
            assert result.managed[other].fields == owned.fields
