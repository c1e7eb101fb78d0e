"""Strategic merge patch: merge keys, directives, order, refusals."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.patch import merge_patch, strategic
from apimachinery.schema.object_meta import Schema
from apimachinery.status import APIError
from apimachinery.types import Object

PART: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "env": {
            "type": "array",
            "items": {"type": "object"},
            "x-kubernetes-patch-strategy": "merge",
            "x-kubernetes-patch-merge-key": "key",
        },
        "opts": {"type": "object", "additionalProperties": {"type": "string"}},
        "args": {"type": "array", "items": {"type": "string"}},
    },
}
SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "parts": {
            "type": "array",
            "items": PART,
            "x-kubernetes-patch-strategy": "merge,retainKeys",
            "x-kubernetes-patch-merge-key": "name",
        },
        "ports": {
            "type": "array",
            "items": {"type": "object"},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port"],
        },
        "routes": {
            "type": "array",
            "items": {"type": "object"},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port", "protocol"],
        },
        "replaced": {
            "type": "array",
            "items": {"type": "object"},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port"],
            "x-kubernetes-patch-strategy": "replace",
        },
        "keyless": {"type": "array", "items": {"type": "object"}, "x-kubernetes-patch-strategy": "merge"},
        "words": {"type": "array", "items": {"type": "string"}, "x-kubernetes-patch-strategy": "merge"},
        "plain": {"type": "array", "items": {"type": "string"}},
        "opts": {"type": "object", "additionalProperties": {"type": "string"}},
        "strategy": {"type": "object", "x-kubernetes-patch-strategy": "retainKeys"},
        "atomic": {"type": "object", "x-kubernetes-patch-strategy": "replace"},
        "byName": {"type": "object", "additionalProperties": PART},
    },
}


def n(*names: str, **more: Any) -> list[Object]:
    return [{"name": name, **more} for name in names]


ROWS: list[tuple[str, Object, Object, Object]] = [
    ("nothing", {"a": 1}, {}, {"a": 1}),
    ("set and add", {"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
    ("null removes", {"a": 1, "b": 2}, {"a": None}, {"b": 2}),
    ("null of nothing", {"b": 2}, {"a": None}, {"b": 2}),
    ("maps merge", {"opts": {"a": "1", "b": "2"}}, {"opts": {"a": None, "c": "3"}}, {"opts": {"b": "2", "c": "3"}}),
    ("nulls vanish from a new map", {}, {"opts": {"a": None, "b": "1"}}, {"opts": {"b": "1"}}),
    ("nulls vanish below a new list", {}, {"parts": [{"name": "a", "args": None}]}, {"parts": n("a")}),
    ("map over scalar", {"opts": "x"}, {"opts": {"a": "1", "b": None}}, {"opts": {"a": "1"}}),
    ("scalar over map", {"opts": {"a": "1"}}, {"opts": "x"}, {"opts": "x"}),
    ("list over map", {"parts": {"a": 1}}, {"parts": n("a")}, {"parts": n("a")}),
    ("map over list", {"words": ["a"]}, {"words": {"a": 1}}, {"words": {"a": 1}}),
    ("plain lists replace", {"plain": ["a", "b"]}, {"plain": ["c"]}, {"plain": ["c"]}),
    ("undeclared lists replace", {"other": [1]}, {"other": [2]}, {"other": [2]}),
    ("undeclared maps merge", {"other": {"a": 1}}, {"other": {"b": 2}}, {"other": {"a": 1, "b": 2}}),
    ("empty list replaces", {"plain": ["a"]}, {"plain": []}, {"plain": []}),
    ("empty list merges", {"words": ["a"]}, {"words": []}, {"words": ["a"]}),
    ("both empty", {"words": []}, {"words": []}, {"words": []}),
    ("scalars merge, new ones first", {"words": ["a", "b"]}, {"words": ["c", "b"]}, {"words": ["c", "a", "b"]}),
    ("scalars are distinct", {"words": ["a", "a"]}, {"words": ["b", "b"]}, {"words": ["b", "a"]}),
    ("new item first", {"parts": n("a", "b")}, {"parts": n("c")}, {"parts": n("c", "a", "b")}),
    ("item merges in place", {"parts": n("a", "b")}, {"parts": n("b", x=1)}, {"parts": [*n("a"), *n("b", x=1)]}),
    ("order of the patch", {"parts": n("a", "b", "c")}, {"parts": n("c", "a")}, {"parts": n("b", "c", "a")}),
    (
        "items merge deeply",
        {"parts": [{"name": "a", "opts": {"x": "1"}, "args": ["1"], "env": [{"key": "k", "v": 1}]}]},
        {"parts": [{"name": "a", "opts": {"y": "2"}, "args": ["2"], "env": [{"key": "k", "w": 2}]}]},
        {"parts": [{"name": "a", "opts": {"x": "1", "y": "2"}, "args": ["2"], "env": [{"key": "k", "v": 1, "w": 2}]}]},
    ),
    ("same new item twice", {"parts": []}, {"parts": [*n("a", x=1), *n("a", y=2)]}, {"parts": n("a", x=1, y=2)}),
    (
        "list type map",
        {"ports": [{"port": 1, "a": 1}]},
        {"ports": [{"port": 1, "b": 2}]},
        {"ports": [{"port": 1, "a": 1, "b": 2}]},
    ),
    ("number keys", {"ports": [{"port": 1}]}, {"ports": [{"port": 1.0, "b": 2}]}, {"ports": [{"port": 1.0, "b": 2}]}),
    (
        "bool is no number",
        {"ports": [{"port": 1}]},
        {"ports": [{"port": True}]},
        {"ports": [{"port": True}, {"port": 1}]},
    ),
    ("two keys replace", {"routes": [{"port": 1}]}, {"routes": [{"port": 2}]}, {"routes": [{"port": 2}]}),
    ("declared replace wins", {"replaced": [{"port": 1}]}, {"replaced": [{"port": 2}]}, {"replaced": [{"port": 2}]}),
    (
        "by name in a map",
        {"byName": {"x": {"env": [{"key": "a"}]}}},
        {"byName": {"x": {"env": [{"key": "b"}]}}},
        {"byName": {"x": {"env": [{"key": "b"}, {"key": "a"}]}}},
    ),
    ("atomic map", {"atomic": {"a": 1}}, {"atomic": {"b": 2, "c": None}}, {"atomic": {"b": 2}}),
    # $patch in maps
    ("replace a map", {"opts": {"a": "1"}}, {"opts": {"$patch": "replace", "b": "2", "c": None}}, {"opts": {"b": "2"}}),
    ("replace a new map", {}, {"opts": {"$patch": "replace", "b": "2"}}, {"opts": {"b": "2"}}),
    ("empty a map", {"opts": {"a": "1"}}, {"opts": {"$patch": "delete"}}, {"opts": {}}),
    ("delete a map that is absent", {}, {"opts": {"$patch": "delete"}}, {}),
    ("delete over a scalar", {"opts": 1}, {"opts": {"$patch": "delete"}}, {}),
    ("merge a map", {"opts": {"a": "1"}}, {"opts": {"$patch": "merge", "b": "2"}}, {"opts": {"a": "1", "b": "2"}}),
    ("replace the object", {"a": 1}, {"$patch": "replace", "b": 2}, {"b": 2}),
    ("empty the object", {"a": 1}, {"$patch": "delete"}, {}),
    # $patch in lists
    ("delete an item", {"parts": n("a", "b")}, {"parts": n("a", **{"$patch": "delete"})}, {"parts": n("b")}),
    ("delete an absent item", {"parts": n("a")}, {"parts": n("z", **{"$patch": "delete"})}, {"parts": n("a")}),
    ("delete duplicates", {"parts": n("a", "b", "a")}, {"parts": n("a", **{"$patch": "delete"})}, {"parts": n("b")}),
    ("delete and add", {"parts": n("a")}, {"parts": [*n("a", **{"$patch": "delete"}), *n("b")]}, {"parts": n("b")}),
    (
        "delete and add again",
        {"parts": n("a", x=1)},
        {"parts": [*n("a", **{"$patch": "delete"}), *n("a")]},
        {"parts": n("a")},
    ),
    ("delete in a new list", {}, {"parts": [*n("a", **{"$patch": "delete"}), *n("b")]}, {"parts": n("b")}),
    ("replace a list", {"parts": n("a", "b")}, {"parts": [*n("c"), {"$patch": "replace"}]}, {"parts": n("c")}),
    ("replace by nothing", {"parts": n("a")}, {"parts": [{"$patch": "replace"}]}, {"parts": []}),
    ("replace a new list", {}, {"parts": [{"$patch": "replace"}, *n("a")]}, {"parts": n("a")}),
    (
        "merge an item",
        {"parts": n("a", x=1)},
        {"parts": n("a", y=2, **{"$patch": "merge"})},
        {"parts": n("a", x=1, y=2)},
    ),
    # $deleteFromPrimitiveList
    (
        "delete scalars",
        {"words": ["a", "b", "c"]},
        {"$deleteFromPrimitiveList/words": ["a", "c", "z"]},
        {"words": ["b"]},
    ),
    (
        "delete and add scalars",
        {"words": ["a", "b"]},
        {"$deleteFromPrimitiveList/words": ["a"], "words": ["c"]},
        {"words": ["c", "b"]},
    ),
    ("delete from an absent list", {}, {"$deleteFromPrimitiveList/words": ["a"]}, {}),
    ("delete from a plain list", {"plain": ["a", "b"]}, {"$deleteFromPrimitiveList/plain": ["a"]}, {"plain": ["b"]}),
    ("delete by type", {"words": [1, True, "1"]}, {"$deleteFromPrimitiveList/words": [1]}, {"words": [True, "1"]}),
    # $setElementOrder
    (
        "order scalars",
        {"words": ["a", "b", "c"]},
        {"$setElementOrder/words": ["c", "b", "a"]},
        {"words": ["c", "b", "a"]},
    ),
    ("order items", {"parts": n("a", "b", "c")}, {"$setElementOrder/parts": n("c", "a")}, {"parts": n("b", "c", "a")}),
    (
        "order and add",
        {"parts": n("a", "b")},
        {"$setElementOrder/parts": n("a", "c", "b"), "parts": n("c")},
        {"parts": n("a", "c", "b")},
    ),
    (
        "server item keeps its place",
        {"parts": n("a", "s", "b")},
        {"$setElementOrder/parts": n("a", "b")},
        {"parts": n("a", "s", "b")},
    ),
    (
        "server item at the end",
        {"parts": n("a", "b", "s")},
        {"$setElementOrder/parts": n("b", "a")},
        {"parts": n("b", "a", "s")},
    ),
    ("order of an absent list", {}, {"$setElementOrder/parts": n("a")}, {}),
    ("order of an empty list", {"words": []}, {"$setElementOrder/words": ["a"]}, {"words": []}),
    ("empty order", {"words": ["a", "b"]}, {"$setElementOrder/words": []}, {"words": ["a", "b"]}),
    ("order of a new list", {}, {"$setElementOrder/parts": n("b", "a"), "parts": n("b", "a")}, {"parts": n("b", "a")}),
    (
        "order, delete and change",
        {"parts": n("a", "b", "c")},
        {"$setElementOrder/parts": n("c", "b"), "parts": [*n("b", x=1), *n("a", **{"$patch": "delete"})]},
        {"parts": [*n("c"), *n("b", x=1)]},
    ),
    (
        "delete scalars in order",
        {"words": ["a", "b", "c"]},
        {"$setElementOrder/words": ["c", "b"], "$deleteFromPrimitiveList/words": ["a"]},
        {"words": ["c", "b"]},
    ),
    (
        "order inside of an item",
        {"parts": [{"name": "a", "env": [{"key": "x"}, {"key": "y"}]}]},
        {"parts": [{"name": "a", "$setElementOrder/env": [{"key": "y"}, {"key": "x"}]}]},
        {"parts": [{"name": "a", "env": [{"key": "y"}, {"key": "x"}]}]},
    ),
    # $retainKeys
    (
        "retain",
        {"strategy": {"a": 1, "b": 2}},
        {"strategy": {"$retainKeys": ["a", "c"], "c": 3}},
        {"strategy": {"a": 1, "c": 3}},
    ),
    ("retain nothing", {"strategy": {"a": 1}}, {"strategy": {"$retainKeys": []}}, {"strategy": {}}),
    (
        "retain and null",
        {"strategy": {"a": 1, "b": 2}},
        {"strategy": {"$retainKeys": ["a"], "b": None}},
        {"strategy": {"a": 1}},
    ),
    ("retain in a new map", {}, {"strategy": {"$retainKeys": ["a"], "a": 1}}, {"strategy": {"a": 1}}),
    (
        "retain in an item",
        {"parts": [{"name": "v", "old": {}, "keep": 1}]},
        {"parts": [{"name": "v", "$retainKeys": ["name", "new"], "new": {}}]},
        {"parts": [{"name": "v", "new": {}}]},
    ),
    (
        "directives do not reach new objects",
        {},
        {"byName": {"x": {"$setElementOrder/env": [], "$retainKeys": ["a"], "a": {"$patch": "delete"}, "b": 1}}},
        {"byName": {"x": {"b": 1}}},
    ),
]


@pytest.mark.parametrize(("live", "patch", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_apply(live: Object, patch: Object, expected: Object) -> None:
    before = copy.deepcopy((live, patch))
    result = strategic.apply(live, patch, SCHEMA)
    assert result == expected
    assert (live, patch) == before


NOT_APPLICABLE = "the server rejected our request due to an error in our request"


@pytest.mark.parametrize(
    ("live", "patch", "code", "message"),
    [
        ({}, {"$patch": "bogus"}, 400, "unknown patch type: bogus"),
        ({"opts": {}}, {"opts": {"$patch": None}}, 400, "unknown patch type: None"),
        ({}, {"opts": {"$patch": "bogus"}}, 400, "unknown patch type: bogus"),
        ({"parts": n("a")}, {"parts": [{"name": "a", "$patch": 1}]}, 400, "unknown patch type: 1"),
        (
            {"parts": n("a")},
            {"parts": [{"$patch": "delete"}]},
            400,
            'list item does not contain declared merge key: "name"',
        ),
        ({"parts": n("a")}, {"parts": [{"x": 1}]}, 400, 'list item does not contain declared merge key: "name"'),
        ({"parts": n("a")}, {"parts": [{"name": ["a"]}]}, 400, 'list item does not contain declared merge key: "name"'),
        ({"parts": n("a")}, {"parts": ["a"]}, 400, "list element types are not identical"),
        ({"words": ["a"]}, {"words": [None]}, 400, "list element types are not identical"),
        ({"words": ["a"]}, {"words": [["b"]]}, 422, NOT_APPLICABLE),
        ({"keyless": [{}]}, {"keyless": [{}]}, 400, "cannot merge lists without merge key"),
        ({}, {"$deleteFromPrimitiveList": ["a"]}, 400, "invalid patch format of primitive list"),
        ({}, {"$deleteFromPrimitiveList/words": "a"}, 400, "invalid patch format of primitive list"),
        ({}, {"$deleteFromPrimitiveList/words": None}, 400, "invalid patch format of primitive list"),
        ({"words": ["a"]}, {"$deleteFromPrimitiveList/words": [{}]}, 400, "invalid patch format of primitive list"),
        ({}, {"$setElementOrder": ["a"]}, 400, "invalid patch format of setElementOrder list"),
        ({}, {"$setElementOrder/words": {}}, 400, "invalid patch format of setElementOrder list"),
        ({"words": "a"}, {"$setElementOrder/words": ["a"]}, 400, "expected a list in words"),
        ({}, {"$setElementOrder/words": ["a"], "words": {}}, 400, "expected a list in words"),
        ({"words": ["a"]}, {"$setElementOrder/words": ["b"], "words": ["a"]}, 422, NOT_APPLICABLE),
        ({"parts": n("a")}, {"$setElementOrder/parts": n("a", "b"), "parts": n("b", "a")}, 422, NOT_APPLICABLE),
        (
            {"parts": n("a")},
            {"$setElementOrder/parts": ["a"]},
            400,
            'list item does not contain declared merge key: "name"',
        ),
        ({"strategy": {}}, {"strategy": {"$retainKeys": "a"}}, 400, "invalid patch format of retainKeys"),
        ({"strategy": {}}, {"strategy": {"$retainKeys": [1]}}, 400, "invalid patch format of retainKeys"),
        ({"strategy": {}}, {"strategy": {"$retainKeys": ["a"], "b": 1}}, 422, NOT_APPLICABLE),
    ],
    ids=lambda item: f"{item!r:.50}",
)
def test_refuses(live: Object, patch: Object, code: int, message: str) -> None:
    before = copy.deepcopy((live, patch))
    with pytest.raises(APIError) as caught:
        strategic.apply(live, patch, SCHEMA)
    assert (caught.value.code, caught.value.message) == (code, message)
    assert (live, patch) == before


NAMES = st.sampled_from("abcde")
ITEMS = st.lists(NAMES, max_size=5, unique=True)


def by_name(names: list[str]) -> Object:
    return {"parts": n(*names)}


@given(ITEMS, ITEMS)
def test_merging_lists_is_a_union_and_settles(live: list[str], patch: list[str]) -> None:
    once = strategic.apply(by_name(live), by_name(patch), SCHEMA)
    names = [item["name"] for item in once["parts"]]
    assert set(names) == {*live, *patch}
    assert len(set(names)) == len(names)
    assert [name for name in names if name in patch] == patch
    assert [name for name in names if name not in patch] == [name for name in live if name not in patch]
    assert strategic.apply(once, by_name(patch), SCHEMA) == once


@given(ITEMS, ITEMS)
def test_objects_with_a_key_merge_as_scalars_do(live: list[str], patch: list[str]) -> None:
    objects = strategic.apply(by_name(live), by_name(patch), SCHEMA)["parts"]
    scalars = strategic.apply({"words": live}, {"words": patch}, SCHEMA)["words"]
    assert [item["name"] for item in objects] == scalars


@given(ITEMS, ITEMS)
def test_an_element_order_is_kept(live: list[str], order: list[str]) -> None:
    result = strategic.apply(by_name(live), {"$setElementOrder/parts": n(*order)}, SCHEMA)["parts"]
    names = [item["name"] for item in result]
    assert sorted(names) == sorted(live)
    assert [name for name in names if name in order] == [name for name in order if name in live]
    assert [name for name in names if name not in order] == [name for name in live if name not in order]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3),
    lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, max_size=3) | st.lists(st.integers(0, 2), max_size=2),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("xyz"), PLAIN, max_size=3)


@given(OBJECTS, OBJECTS)
def test_without_markers_it_is_a_merge_patch(live: Object, patch: Object) -> None:
    assert strategic.apply(live, patch, {}) == merge_patch.apply(live, patch)


def test_large_lists_merge_quickly() -> None:
    live = {"parts": [{"name": str(number)} for number in range(20_000)]}
    patch = {"parts": [{"name": str(number), "x": 1} for number in range(10_000, 30_000)]}
    assert len(strategic.apply(live, patch, SCHEMA)["parts"]) == 30_000
