"""JSON Patch: RFC 6902, the limits, and what fails."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.patch import json_patch
from apimachinery.status import APIError

INAPPLICABLE = "the server rejected our request due to an error in our request"


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({}, [], {}),
        # RFC 6902, appendix A.
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
        ({"foo": ["a", "b"]}, [{"op": "add", "path": "/foo/1", "value": "x"}], {"foo": ["a", "x", "b"]}),
        ({"baz": 1, "foo": 2}, [{"op": "remove", "path": "/baz"}], {"foo": 2}),
        ({"foo": [1, 2, 3]}, [{"op": "remove", "path": "/foo/1"}], {"foo": [1, 3]}),
        ({"baz": 1}, [{"op": "replace", "path": "/baz", "value": 2}], {"baz": 2}),
        (
            {"foo": {"a": 1, "b": 2}, "qux": {}},
            [{"op": "move", "from": "/foo/a", "path": "/qux/c"}],
            {"foo": {"b": 2}, "qux": {"c": 1}},
        ),
        ({"foo": [1, 2, 3, 4]}, [{"op": "move", "from": "/foo/1", "path": "/foo/3"}], {"foo": [1, 3, 4, 2]}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": [1, {"b": None}]}, [{"op": "test", "path": "/a", "value": [1, {"b": None}]}], {"a": [1, {"b": None}]}),
        ({"a": 1}, [{"op": "add", "path": "/b", "value": {"c": {}}}], {"a": 1, "b": {"c": {}}}),
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2, "xyz": 123}], {"a": 1, "b": 2}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({"a": ["b"]}, [{"op": "add", "path": "/a/-", "value": ["c"]}], {"a": ["b", ["c"]]}),
        # Paths and values beyond the appendix.
        ({"a": 1}, [{"op": "add", "path": "/a", "value": None}], {"a": None}),
        ({"a/b": 1}, [{"op": "replace", "path": "/a~1b", "value": 2}], {"a/b": 2}),
        ({"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}),
        ({"0": 1}, [{"op": "replace", "path": "/0", "value": 2}], {"0": 2}),
        ({"a": []}, [{"op": "add", "path": "/a/0", "value": 1}], {"a": [1]}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": 1.0}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1.0}),
        # A test for null also holds for an absent member.
        ({}, [{"op": "test", "path": "/a", "value": None}, {"op": "add", "path": "/a", "value": 1}], {"a": 1}),
        ({"a": {}}, [{"op": "test", "path": "/a/b~1c", "value": None}], {"a": {}}),
        ({"a": None}, [{"op": "test", "path": "/a", "value": None}], {"a": None}),
    ],
)
def test_apply(document: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy((document, patch))
    assert json_patch.apply(document, patch) == expected
    assert (document, patch) == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/x"},
        {"op": "remove", "path": ""},
        {"op": "replace", "path": "/x", "value": 1},
        {"op": "add", "path": "/x/y", "value": 1},
        {"op": "add", "path": "/list/3", "value": 1},
        {"op": "add", "path": "/list/-1", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "add", "path": "/list/x", "value": 1},
        {"op": "add", "path": f"/list/{'9' * 5000}", "value": 1},
        {"op": "replace", "path": "/list/-", "value": 1},
        {"op": "remove", "path": "/list/-"},
        {"op": "remove", "path": "/list/2"},
        {"op": "add", "path": "/text/0", "value": 1},
        {"op": "remove", "path": "/text/0"},
        {"op": "add", "path": "/number/a", "value": 1},
        {"op": "test", "path": "/text", "value": "other"},
        {"op": "test", "path": "/text/0", "value": "w"},
        {"op": "test", "path": "/one", "value": True},
        {"op": "test", "path": "/one", "value": "1"},
        {"op": "test", "path": "/one", "value": None},
        {"op": "test", "path": "/x", "value": 1},
        {"op": "test", "path": "/x/y", "value": None},
        {"op": "test", "path": "/list/5", "value": None},
        {"op": "test", "path": "/one"},
        {"op": "move", "from": "/x", "path": "/y"},
        {"op": "move", "from": "/map", "path": "/map/inner"},
        {"op": "move", "path": "/y"},
        {"op": "copy", "from": "/x", "path": "/y"},
        {"op": "copy", "path": "/y"},
        {"op": "copy", "from": 5, "path": "/y"},
        {"op": "add", "path": "/y"},
        {"op": "add", "value": 1},
        {"op": "add", "path": "no-slash", "value": 1},
        {"op": "add", "path": "/~2", "value": 1},
        {"op": "add", "path": 5, "value": 1},
        {"op": "add", "path": ["a"], "value": 1},
        {"op": "add", "path": None, "value": 1},
        {"op": "test", "path": 5, "value": None},
        {"op": "test", "value": None},
        {"op": "unheard-of", "path": "/one"},
        {"op": None, "path": "/one"},
        {"op": ["add"], "path": "/one", "value": 1},
        {"op": {}, "path": "/one", "value": 1},
        {"path": "/one", "value": 1},
        {},
    ],
    ids=lambda operation: f"{operation!r:.60}",
)
def test_what_does_not_apply(operation: Any) -> None:
    document = {"text": "word", "number": 5, "one": 1, "list": [1, 2], "map": {"a": {}}}
    before = copy.deepcopy(document)
    first = {"op": "add", "path": "/map/b", "value": 1}
    with pytest.raises(APIError) as caught:
        json_patch.apply(document, [first, operation])
    assert (caught.value.code, caught.value.reason, caught.value.message) == (422, "Invalid", INAPPLICABLE)
    assert caught.value.details == {}
    assert document == before


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({}, "error decoding patch: expected a JSON array, got object"),
        (None, "error decoding patch: expected a JSON array, got null"),
        ("add", "error decoding patch: expected a JSON array, got string"),
        ([1], "error decoding patch: expected a JSON object, got integer"),
        ([{}, []], "error decoding patch: expected a JSON object, got array"),
    ],
)
def test_malformed(patch: Any, message: str) -> None:
    with pytest.raises(APIError) as caught:
        json_patch.apply({}, patch)
    assert (caught.value.code, caught.value.message) == (400, message)


def test_the_number_of_operations_is_limited() -> None:
    operation = {"op": "test", "path": "/a", "value": 1}
    assert json_patch.apply({"a": 1}, [operation] * 10_000) == {"a": 1}
    with pytest.raises(APIError) as caught:
        json_patch.apply({"a": 1}, [operation] * 10_001)
    assert caught.value.code == 413
    assert caught.value.message == (
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    )


def test_copies_are_limited_in_total() -> None:
    document = {"a": "x" * (1024 * 1024 - 2)}
    copies = [{"op": "copy", "from": "/a", "path": f"/b{number}"} for number in range(4)]
    assert len(json_patch.apply(document, copies[:3])) == 4
    with pytest.raises(APIError) as caught:
        json_patch.apply(document, copies)
    assert caught.value.code == 422


def test_doubling_by_copies_ends_early() -> None:
    with pytest.raises(APIError) as caught:
        json_patch.apply({"a": {}}, [{"op": "copy", "from": "/a", "path": f"/a/{number}"} for number in range(1000)])
    assert caught.value.code == 422


def test_a_result_is_independent_of_the_patch() -> None:
    value = {"list": [1]}
    patch = [{"op": "add", "path": "/a", "value": value}, {"op": "copy", "from": "/a", "path": "/b"}]
    result = json_patch.apply({}, patch)
    result["a"]["list"].append(2)
    assert value == {"list": [1]}
    assert result["b"] == {"list": [1]}


POINTERS = st.lists(st.sampled_from(["a", "b", "0", "1", "-", "", "~0", "~1"]), max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.just("x"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)
OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": POINTERS},
    optional={"from": POINTERS, "value": VALUES},
)


def code_of(document: Any, patch: Any) -> int:
    """The code of the error, 0 without one."""
    try:
        json_patch.apply(document, patch)
    except APIError as error:
        return error.code
    return 0


@given(VALUES, st.lists(OPERATIONS, max_size=4) | VALUES)
def test_any_patch_applies_or_is_an_api_error(document: Any, patch: Any) -> None:
    before = copy.deepcopy((document, patch))
    assert code_of(document, patch) in (0, 400, 422)
    assert repr((document, patch)) == repr(before)


@given(VALUES, POINTERS, VALUES)
def test_what_was_added_can_be_tested(document: Any, path: str, value: Any) -> None:
    if "-" in path:
        return
    add = {"op": "add", "path": path, "value": value}
    try:
        added = json_patch.apply(document, [add])
    except APIError:
        return
    assert json_patch.apply(added, [{"op": "test", "path": path, "value": value}]) == added
