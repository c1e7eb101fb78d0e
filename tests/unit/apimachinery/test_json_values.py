"""Copies, depth and type names of decoded JSON."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.json_values import MAX_DEPTH, copy_json, is_integer, is_number, json_fault, too_deep, type_name

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def containers(value: Any) -> list[int]:
    found = [id(value)] if isinstance(value, dict | list) else []
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found.extend(containers(item))
    return found


@given(JSON)
def test_copies_are_equal_and_share_nothing(value: Any) -> None:
    duplicate = copy_json(value)
    assert duplicate == value
    assert repr(duplicate) == repr(copy.deepcopy(value))
    assert not set(containers(duplicate)) & set(containers(value))


@pytest.mark.parametrize(
    ("depth", "limit", "expected"),
    [(0, 0, False), (1, 0, True), (1, 1, False), (5, 4, True), (5, 5, False), (100_000, MAX_DEPTH, True)],
)
def test_too_deep(depth: int, limit: int, expected: bool) -> None:
    assert too_deep(nested(depth), limit) is expected


def test_the_deepest_accepted_value_can_be_copied() -> None:
    assert copy_json(nested(MAX_DEPTH)) == nested(MAX_DEPTH)


@pytest.mark.parametrize(
    ("value", "name", "integer", "number"),
    [
        (None, "null", False, False),
        (True, "boolean", False, False),
        (1, "integer", True, True),
        (1.5, "number", False, True),
        (float("inf"), "number", False, False),
        ("", "string", False, False),
        ([], "array", False, False),
        ({}, "object", False, False),
        (b"", "bytes", False, False),
    ],
)
def test_types(value: Any, name: str, integer: bool, number: bool) -> None:
    assert type_name(value) == name
    assert is_integer(value) is integer
    assert is_number(value) is number


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"a": [None, True, 1, 1.5, "ü", 2**64 - 1, -(2**63)]}, None),
        (nested(MAX_DEPTH), None),
        (nested(MAX_DEPTH + 1), "exceeded max depth"),
        ({1: 1}, "object key 1 is not a string"),
        ([{None: 1}], "object key None is not a string"),
        ([2**64], "integer does not fit in 64 bits"),
        ([-(2**63) - 1], "integer does not fit in 64 bits"),
        ([float("nan")], "unsupported number nan"),
        ("\ud800", "string is not valid UTF-8"),
        ({"\ud800": 1}, "string is not valid UTF-8"),
        ((1,), "unsupported value of type tuple"),
    ],
    ids=lambda item: f"{item!r:.40}",
)
def test_json_fault(value: Any, fault: str | None) -> None:
    assert json_fault(value) == fault
