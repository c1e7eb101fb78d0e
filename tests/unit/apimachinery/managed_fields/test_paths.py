from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.managed_fields import paths
from apimachinery.managed_fields.paths import EMPTY, Element, Path, PathSet

ELEMENTS = st.sampled_from(
    [
        *(paths.name(text) for text in ("a", "b", "")),
        paths.key({"n": "x"}),
        paths.value(1),
        paths.index(0),
    ]
)
PATHS = st.lists(ELEMENTS, min_size=1, max_size=4).map(tuple)
SETS = st.lists(PATHS, max_size=8).map(PathSet.of)


def path(*names: str) -> Path:
    return tuple(paths.name(name) for name in names)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("f:a", "f:a"),
        ("f:", "f:"),
        ("f:a:b", "f:a:b"),
        ('f:k:{"a":1}', 'f:k:{"a":1}'),
        ("f:example.com/a", "f:example.com/a"),
        ("i:0", "i:0"),
        ("i:12", "i:12"),
        ("i:-1", "i:-1"),
        ('v:"a"', 'v:"a"'),
        ("v:1", "v:1"),
        ("v:1.0", "v:1"),
        ("v:1.5", "v:1.5"),
        ("v:1e3", "v:1000"),
        ("v:true", "v:true"),
        ("v:null", "v:null"),
        ('v: "a" ', 'v:"a"'),
        ('v:{"b":1,"a":2}', 'v:{"a":2,"b":1}'),
        ("v:[1,2]", "v:[1,2]"),
        ('k:{"name":"a"}', 'k:{"name":"a"}'),
        ('k:{"port": 80, "name": "a"}', 'k:{"name":"a","port":80}'),
        ('k:{"port":80.0}', 'k:{"port":80}'),
        ('k:{"a":null}', 'k:{"a":null}'),
        ('k:{"name":"\\u00e9"}', 'k:{"name":"é"}'),
    ],
)
def test_elements_have_one_form(text: str, canonical: str) -> None:
    assert paths.parse(text) == canonical
    assert paths.parse(canonical) == canonical


@pytest.mark.parametrize(
    "text", ["", "f", "a", "x:a", "fa", "i:", "i:x", "i:1.5", "v:", "v:x", "v:1 2", 'k:"a"', "k:", "k:[1]", 'k:{"a"}']
)
def test_what_is_no_element(text: str) -> None:
    with pytest.raises(ValueError):
        paths.parse(text)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((), ""),
        (path("spec", "replicas"), ".spec.replicas"),
        (path("metadata", "labels", "example.com/a"), ".metadata.labels.example.com/a"),
        ((paths.name("list"), paths.key({"name": "a"}), paths.name("image")), '.list[name="a"].image'),
        ((paths.key({"protocol": "TCP", "containerPort": 80}),), '[containerPort=80,protocol="TCP"]'),
        ((paths.key({"a": True, "b": None, "c": 1.5}),), "[a=true,b=null,c=1.5]"),
        ((paths.name("set"), paths.value("x")), '.set[="x"]'),
        ((paths.name("set"), paths.value(1)), ".set[=1]"),
        ((paths.name("set"), paths.value('a"b')), '.set[="a\\"b"]'),
        ((paths.name("list"), paths.index(0)), ".list[0]"),
    ],
)
def test_text(steps: Path, text: str) -> None:
    assert paths.text_of(steps) == text


IN_ORDER: list[Element] = [
    "f:",
    "f:B",
    "f:a",
    "f:aa",
    "f:b",
    "f:é",
    'k:{"a":1}',
    'k:{"a":1,"b":1}',
    'k:{"a":2}',
    'k:{"a":10}',
    'k:{"a":"1"}',
    'k:{"b":0}',
    "v:-1",
    "v:1",
    "v:1.5",
    "v:10",
    'v:"1"',
    'v:"a"',
    "v:false",
    "v:true",
    "v:[1]",
    "v:null",
    "i:-1",
    "i:0",
    "i:2",
    "i:10",
]


def test_order() -> None:
    assert sorted(reversed(IN_ORDER), key=paths.sort_key) == IN_ORDER


def test_iteration_shows_members_before_what_is_below() -> None:
    fields = PathSet.of([path("b", "x"), path("c"), path("b"), path("a", "y")])
    assert list(fields) == [path("b"), path("c"), path("a", "y"), path("b", "x")]


A, AB, ABC, B = path("a"), path("a", "b"), path("a", "b", "c"), path("b")


@pytest.mark.parametrize(
    ("ours", "theirs", "union", "intersection", "difference", "without_subtrees"),
    [
        pytest.param([], [], [], [], [], [], id="empty"),
        pytest.param([A], [], [A], [], [A], [A], id="nothing to take away"),
        pytest.param([A, B], [A], [A, B], [A], [B], [B], id="one of two"),
        pytest.param([A], [AB], [A, AB], [], [A], [A], id="parent minus child is the parent"),
        pytest.param([AB], [A], [A, AB], [], [AB], [], id="child minus parent goes only with the subtree"),
        pytest.param([A, AB, ABC], [AB], [A, AB, ABC], [AB], [A, ABC], [A], id="the middle"),
        pytest.param([A, AB], [A, AB], [A, AB], [A, AB], [], [], id="equal"),
        pytest.param([ABC], [AB, B], [AB, ABC, B], [], [ABC], [], id="deep"),
    ],
)
def test_algebra(
    ours: list[Path],
    theirs: list[Path],
    union: list[Path],
    intersection: list[Path],
    difference: list[Path],
    without_subtrees: list[Path],
) -> None:
    one, other = PathSet.of(ours), PathSet.of(theirs)
    assert one | other == PathSet.of(union)
    assert one & other == PathSet.of(intersection)
    assert one - other == PathSet.of(difference)
    assert one.without_subtrees(other) == PathSet.of(without_subtrees)


@pytest.mark.parametrize(
    ("fields", "leaves"), [([A], [A]), ([A, AB], [AB]), ([A, ABC, B], [ABC, B]), ([], []), ([AB, ABC], [ABC])]
)
def test_leaves(fields: list[Path], leaves: list[Path]) -> None:
    assert PathSet.of(fields).leaves() == PathSet.of(leaves)


def test_the_empty_path_is_in_no_set() -> None:
    assert PathSet.of([()]) == EMPTY
    assert () not in PathSet.of([A])


@given(SETS, SETS)
def test_operations_are_those_of_sets(one: PathSet, other: PathSet) -> None:
    ours, theirs = set(one), set(other)
    assert set(one | other) == ours | theirs
    assert set(one & other) == ours & theirs
    assert set(one - other) == ours - theirs
    kept = {field for field in ours if not any(field[: len(gone)] == gone for gone in theirs)}
    assert set(one.without_subtrees(other)) == kept
    assert len(one) == len(ours)
    assert bool(one) == bool(ours)


@given(SETS, SETS)
def test_equal_sets_are_equal(one: PathSet, other: PathSet) -> None:
    assert (one == other) == (set(one) == set(other))
    assert one | other == other | one
    assert (one - other) | (one & other) == one
    assert PathSet.of(one) == one


@given(SETS, PATHS)
def test_membership(fields: PathSet, wanted: Path) -> None:
    assert (wanted in fields) == (wanted in set(fields))
    assert set(fields.below(wanted[0])) == {rest[1:] for rest in fields if rest[0] == wanted[0] and len(rest) > 1}


@given(SETS)
def test_leaves_have_nothing_below(fields: PathSet) -> None:
    every = set(fields)
    assert set(fields.leaves()) == {
        one for one in every if not any(other != one and other[: len(one)] == one for other in every)
    }


SCALARS: Any = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)


@given(st.dictionaries(st.text(max_size=3), SCALARS, min_size=1, max_size=3))
def test_keys_come_back(keys: dict[str, Any]) -> None:
    assert paths.content_of(paths.parse(paths.key(keys))) == keys
