"""JSON Merge Patch: the examples of RFC 7386 and its laws."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.patch import merge_patch


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        # RFC 7386, appendix A.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        # Beyond the appendix.
        ({}, {}, {}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": [None]}, {"a": [None, {"b": None}]}, {"a": [None, {"b": None}]}),
        ({"a": None}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"": 1}, {"": None}, {}),
        ({"a": 1}, {"a": True}, {"a": True}),
    ],
    ids=repr,
)
def test_apply(target: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy((target, patch))
    result = merge_patch.apply(target, patch)
    assert repr(result) == repr(expected)
    assert (target, patch) == before


def test_members_keep_their_order() -> None:
    result = merge_patch.apply({"c": 1, "a": 2, "b": 3}, {"z": 0, "a": 5, "c": None})
    assert list(result) == ["a", "b", "z"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


def diff(source: Any, target: Any) -> Any:
    if not (isinstance(source, dict) and isinstance(target, dict)):
        return target
    removed = {key: None for key in source if key not in target}
    changed = {
        key: diff(source.get(key), value)
        for key, value in target.items()
        if key not in source or repr(source[key]) != repr(value)
    }
    return {**removed, **changed}


@given(OBJECTS, OBJECTS)
def test_a_patch_applied_again_changes_nothing(target: Any, patch: Any) -> None:
    once = merge_patch.apply(target, patch)
    assert repr(merge_patch.apply(once, patch)) == repr(once)


@given(OBJECTS, OBJECTS)
def test_a_difference_leads_from_one_to_the_other(source: Any, target: Any) -> None:
    source, target = without_nulls(source), without_nulls(target)
    assert merge_patch.apply(source, diff(source, target)) == target


@given(JSON, JSON)
def test_a_patch_without_nulls_is_contained_in_the_result(target: Any, patch: Any) -> None:
    patch = without_nulls(patch)
    assert merge_patch.apply(None, patch) == patch
    if isinstance(patch, dict):
        result = merge_patch.apply(target, patch)
        assert merge_patch.apply(result, patch) == result
        assert patch.keys() <= result.keys()


@given(OBJECTS, OBJECTS)
def test_arguments_stay_and_the_result_is_independent(target: Any, patch: Any) -> None:
    before = copy.deepcopy((target, patch))
    spoil(merge_patch.apply(target, patch))
    assert (target, patch) == before


def spoil(value: Any) -> None:
    """Change every container inside of a value."""
    for item in list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()):
        spoil(item)
    if isinstance(value, dict):
        value["spoiled"] = True
    elif isinstance(value, list):
        value.append("spoiled")
