"""How schemas divide values, and which configurations do not fit them."""

from typing import Any

import pytest

from apimachinery.managed_fields import compare, paths, typed, validate
from apimachinery.managed_fields.field_sets import fields_of
from apimachinery.managed_fields.merge import merge
from apimachinery.managed_fields.remove import remove
from apimachinery.managed_fields.typed import TypedError
from apimachinery.schema import Schema

STRING: Schema = {"type": "string"}
ITEM: Schema = {"type": "object", "properties": {"name": STRING, "port": {"type": "integer"}, "value": STRING}}


def array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **{f"x-kubernetes-{name}": value for name, value in more.items()}}


SET = array(STRING, **{"list-type": "set"})
BY_NAME = array(ITEM, **{"list-type": "map", "list-map-keys": ["name"]})
BY_BOTH = array(ITEM, **{"list-type": "map", "list-map-keys": ["name", "port"]})
MERGED = array(ITEM, **{"patch-strategy": "merge", "patch-merge-key": "name"})


def struct(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("schema", "value", "fields"),
    [
        pytest.param(array(STRING), ["a"], ".x", id="lists are atomic"),
        pytest.param(array(STRING, **{"list-type": "atomic"}), ["a"], ".x", id="atomic list"),
        pytest.param(SET, ["a"], '.x[="a"]', id="set"),
        pytest.param(BY_NAME, [{"name": "a"}], '.x[name="a"] .x[name="a"].name', id="map"),
        pytest.param(MERGED, [{"name": "a"}], '.x[name="a"] .x[name="a"].name', id="merge key"),
        pytest.param(
            array(ITEM, **{"patch-strategy": "merge,retainKeys", "patch-merge-key": "name"}),
            [{"name": "a"}],
            '.x[name="a"] .x[name="a"].name',
            id="merge and retain keys",
        ),
        pytest.param(
            array(ITEM, **{"list-type": "atomic", "patch-strategy": "merge", "patch-merge-key": "name"}),
            [{"name": "a"}],
            ".x",
            id="the list type counts more than the patch strategy",
        ),
        pytest.param(array(STRING, **{"patch-strategy": "merge"}), ["a"], '.x[="a"]', id="merging scalars are a set"),
        pytest.param(array(ITEM, **{"patch-merge-key": "name"}), [{"name": "a"}], ".x", id="a key without strategy"),
        pytest.param({"type": "object"}, {"a": {"b": 1}}, ".x.a .x.a.b", id="object without properties"),
        pytest.param({}, {"a": [1]}, ".x.a", id="nothing declared"),
        pytest.param({"x-kubernetes-preserve-unknown-fields": True}, {"a": {}}, ".x.a", id="preserved"),
        pytest.param({"type": "object", "additionalProperties": True}, {"a": 1}, ".x.a", id="anything"),
        pytest.param({**struct(a=STRING), "x-kubernetes-map-type": "atomic"}, {"a": "b"}, ".x", id="atomic struct"),
        pytest.param(
            {**struct(a=STRING), "x-kubernetes-map-type": "granular"}, {"a": "b"}, ".x.a", id="granular struct"
        ),
        pytest.param({"x-kubernetes-int-or-string": True}, "50%", ".x", id="int or string"),
        pytest.param(
            {**struct(spec=STRING), "x-kubernetes-embedded-resource": True},
            {"kind": "K", "metadata": {"finalizers": ["a/b"]}},
            '.x.kind .x.metadata.finalizers[="a/b"]',
            id="embedded resource",
        ),
    ],
)
def test_division(schema: Schema, value: Any, fields: str) -> None:
    of_type = typed.compile_type(struct(x=schema))
    assert not validate.validate({"x": value}, of_type)
    assert sorted(map(paths.text_of, fields_of({"x": value}, of_type))) == sorted(fields.split())


@pytest.mark.parametrize(
    ("metadata", "fields"),
    [
        ({"finalizers": ["a/b", "a/c"]}, '.finalizers[="a/b"] .finalizers[="a/c"]'),
        ({"ownerReferences": [{"uid": "u", "name": "n"}]}, '.ownerReferences[uid="u"]'),
        ({"labels": {"a": "b"}, "annotations": {"c/d": "e"}}, ".labels.a .annotations.c/d"),
        ({"managedFields": [{"manager": "m"}]}, ".managedFields"),
        ({"creationTimestamp": None, "generation": 1}, ".creationTimestamp .generation"),
    ],
)
def test_metadata_is_typed(metadata: Any, fields: str) -> None:
    of_type = typed.object_type({"type": "object"})
    found = fields_of({"metadata": metadata}, of_type)
    assert sorted(map(paths.text_of, found)) == sorted(f".metadata{one}" for one in fields.split())


@pytest.mark.parametrize(
    ("schema", "value", "text"),
    [
        pytest.param(struct(a=STRING), {"b": 1}, ".b: field not declared in schema", id="undeclared"),
        pytest.param(
            struct(a=struct(b=STRING), c=STRING),
            {"a": {"x": 1}, "d": 2},
            "errors:\n  .a.x: field not declared in schema\n  .d: field not declared in schema",
            id="several",
        ),
        pytest.param(
            struct(a=STRING), {"a": 1}, ".a: expected string, got &value.valueUnstructured{Value:1}", id="no string"
        ),
        pytest.param(
            struct(a=STRING),
            {"a": {"x": [None, "y"]}},
            '.a: expected string, got &value.valueUnstructured{Value:map[string]interface {}{"x":[]interface {}'
            '{interface {}(nil), "y"}}}',
            id="an object is no string",
        ),
        pytest.param(
            struct(a={"type": "integer"}), {"a": "1"}, ".a: expected numeric (int or float), got string", id="no number"
        ),
        pytest.param(
            struct(a={"type": "number"}), {"a": True}, ".a: expected numeric (int or float), got bool", id="a boolean"
        ),
        pytest.param(
            struct(a={"type": "number"}),
            {"a": []},
            ".a: expected numeric (int or float), got []interface {}",
            id="list",
        ),
        pytest.param(struct(a={"type": "boolean"}), {"a": "yes"}, ".a: expected boolean, got &{yes}", id="no boolean"),
        pytest.param(
            struct(a={"type": "string", "format": "date-time"}),
            {"a": {"b": 1, "c": None}},
            ".a: expected any scalar, got &{map[b:1 c:<nil>]}",
            id="no scalar",
        ),
        pytest.param(struct(a=struct()), {"a": "x"}, ".a: expected map, got &{x}", id="no object"),
        pytest.param(struct(a=SET), {"a": {"b": True}}, ".a: expected list, got &{map[b:true]}", id="no list"),
        pytest.param(SET, ["a", "b", "a"], 'duplicate entries for key [="a"]', id="repeated scalar"),
        pytest.param(
            struct(l=BY_NAME), {"l": [{"name": "a"}] * 2}, '.l: duplicate entries for key [name="a"]', id="repeated key"
        ),
        pytest.param(
            struct(l=BY_NAME),
            {"l": [{"value": "v"}]},
            '.l: element 0: associative list with keys has an element that omits all key fields ["name"] '
            "(and doesn't have default values for any key fields)",
            id="no key",
        ),
        pytest.param(
            struct(l=BY_BOTH),
            {"l": [{"name": "a"}, {}]},
            '.l: element 1: associative list with keys has an element that omits all key fields ["name" "port"] '
            "(and doesn't have default values for any key fields)",
            id="no keys",
        ),
        pytest.param(
            struct(l=BY_NAME),
            {"l": [None]},
            ".l: element 0: associative list with keys may not have a null element",
            id="null item",
        ),
        pytest.param(
            struct(l=BY_NAME),
            {"l": ["a"]},
            ".l: element 0: associative list with keys may not have non-map elements",
            id="scalar item",
        ),
        pytest.param(
            struct(l=SET),
            {"l": [{}]},
            ".l: element 0: associative list without keys has an element that's a map type",
            id="object in a set",
        ),
        pytest.param(
            struct(l=SET),
            {"l": [[]]},
            ".l: element 0: not supported: associative list with lists as elements",
            id="list in a set",
        ),
        pytest.param(
            struct(l=SET),
            {"l": [None]},
            ".l: element 0: associative list without keys has an element that's an explicit null",
            id="null in a set",
        ),
        pytest.param(
            struct(l=BY_NAME),
            {"l": [{"name": "a", "x": 1}]},
            '.l[name="a"].x: field not declared in schema',
            id="in item",
        ),
        pytest.param(
            struct(l=array(ITEM)), {"l": [{}, {"x": 1}]}, ".l[1].x: field not declared in schema", id="in atomic list"
        ),
    ],
)
def test_faults(schema: Schema, value: Any, text: str) -> None:
    assert validate.text_of(validate.validate(value, typed.compile_type(schema))) == text


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (struct(a=STRING, b={"type": "integer"}, l=BY_NAME, s=SET, o=struct()), dict.fromkeys("abls")),
        (struct(a={"type": "number"}), {"a": 1.5}),
        (struct(a={"type": "string", "format": "date-time"}), {"a": 5}),
        (struct(l=array(STRING)), {"l": ["a", "a"]}),
        (struct(l=BY_BOTH), {"l": [{"name": "a"}, {"port": 1}, {"name": "a", "port": 1}]}),
        ({}, {"a": [{"b": [[1]]}]}),
    ],
)
def test_what_fits(schema: Schema, value: Any) -> None:
    assert validate.validate(value, typed.compile_type(schema)) == []


@pytest.mark.parametrize("value", [{"l": [{"value": "x"}]}, {"l": [None]}, {"l": ["x"]}])
def test_items_without_key_cannot_be_looked_at(value: Any) -> None:
    of_type = typed.compile_type(struct(l=BY_NAME))
    with pytest.raises(TypedError):
        fields_of(value, of_type)
    with pytest.raises(TypedError):
        compare.compare({}, value, of_type)
    with pytest.raises(TypedError):
        merge(value, {"l": [{"name": "a"}]}, of_type)


@pytest.mark.parametrize(
    ("live", "wish", "merged"),
    [
        ("", "abc", "abc"),
        ("abc", "", "abc"),
        ("abc", "cba", "cba"),
        ("abc", "b", "abc"),
        ("abc", "xb", "axbc"),
        ("abc", "bx", "abcx"),
        ("ac", "abc", "abc"),
        ("abcd", "xyd", "abcxyd"),
        ("abcd", "da", "bcda"),
        ("abcde", "eb", "acdeb"),
        ("ab", "xy", "abxy"),
        ("abc", "axbxc".replace("x", "", 1), "abxc"),
        ("bd", "abcde", "abcde"),
        ("xbyd", "abcd", "xabycd"),
    ],
)
def test_order_of_merged_lists(live: str, wish: str, merged: str) -> None:
    result = merge(list(live), list(wish), typed.compile_type(SET))
    assert "".join(result) == merged


@pytest.mark.parametrize(
    ("value", "gone", "left"),
    [
        ({"a": "x", "s": ["y"]}, ".a", {"s": ["y"]}),
        ({"a": "x"}, ".a", None),
        ({"s": ["x", "y"]}, '.s[="x"]', {"s": ["y"]}),
        ({"s": ["x"]}, '.s[="x"]', {"s": None}),
        ({"s": ["x"]}, '.s[="z"]', {"s": ["x"]}),
        ({"l": [{"name": "a", "value": "v"}, {"name": "b"}]}, '.l[name="a"]', {"l": [{"name": "b"}]}),
        ({"l": [{"name": "a", "value": "v"}]}, '.l[name="a"].value', {"l": [{"name": "a"}]}),
        ({"a": "x"}, ".zzz", {"a": "x"}),
    ],
)
def test_remove(value: Any, gone: str, left: Any) -> None:
    of_type = typed.compile_type(struct(a=STRING, s=SET, l=BY_NAME))
    known = {"a": "", "zzz": 1, "s": ["x", "y", "z"], "l": [{"name": "a", "value": ""}]}
    every = {paths.text_of(path): path for path in fields_of(known, of_type)}
    assert remove(value, paths.PathSet.of([every[gone]]), of_type) == left


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (None, False, False),
        ("1", 1, False),
        ([1, 2], [1, 2], True),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ({"a": [True]}, {"a": [1]}, False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ({}, [], False),
        ([], {}, False),
    ],
)
def test_equality_is_that_of_json(one: Any, other: Any, same: bool) -> None:
    assert compare.equal(one, other) is same
    assert compare.equal(other, one) is same
