"""Unknown fields, pruning and defaults."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.schema import OBJECT_META_SCHEMA, apply_defaults, prune, with_root_fields
from apimachinery.schema.object_meta import Schema

SPEC: Schema = {
    "type": "object",
    "properties": {
        "a": {"type": "string"},
        "empty": {"type": "object"},
        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        "anything": {"type": "object", "additionalProperties": True},
        "parts": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string"}}}},
        "byName": {
            "type": "object",
            "additionalProperties": {"type": "object", "properties": {"b": {"type": "string"}}},
        },
        "free": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {"strict": {"type": "object", "properties": {"b": {"type": "string"}}}},
        },
        "raw": {},
        "inner": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "properties": {"spec": {"type": "object", "properties": {"b": {"type": "string"}}}},
        },
    },
}
SCHEMA: Schema = {"type": "object", "properties": {"spec": SPEC}}


@pytest.mark.parametrize(
    ("obj", "unknown", "pruned"),
    [
        ({"apiVersion": "v1", "kind": "K", "metadata": {"name": "x"}}, [], None),
        ({"spec": {"a": "x"}}, [], None),
        ({"foo": 1}, ["foo"], {}),
        ({"status": {}}, ["status"], {}),
        ({"metadata": {"nmae": "x", "name": "y"}}, ["metadata.nmae"], {"metadata": {"name": "y"}}),
        ({"metadata": {"labels": {"any": "x"}, "annotations": {"any": "x"}}}, [], None),
        ({"metadata": {"managedFields": [{"fieldsV1": {"f:x": {}}}]}}, [], None),
        (
            {"metadata": {"ownerReferences": [{"uid": "1", "x": 1}]}},
            ["metadata.ownerReferences[0].x"],
            {"metadata": {"ownerReferences": [{"uid": "1"}]}},
        ),
        ({"spec": {"foo": {"bar": 1}}}, ["spec.foo"], {"spec": {}}),
        ({"spec": {"A": "x"}}, ["spec.A"], {"spec": {}}),
        ({"spec": {"empty": {"x": 1}}}, ["spec.empty.x"], {"spec": {"empty": {}}}),
        ({"spec": {"tags": {"x": "y"}, "anything": {"x": {"y": 1}}}}, [], None),
        (
            {"spec": {"parts": [{"b": "x"}, {"c": 1, "b": "y"}, None, {"d": 2}]}},
            ["spec.parts[1].c", "spec.parts[3].d"],
            {"spec": {"parts": [{"b": "x"}, {"b": "y"}, None, {}]}},
        ),
        (
            {"spec": {"byName": {"one": {"c": 1}}}},
            ["spec.byName.one.c"],
            {"spec": {"byName": {"one": {}}}},
        ),
        (
            {"spec": {"free": {"x": {"y": 1}, "strict": {"c": 1}}}},
            ["spec.free.strict.c"],
            {"spec": {"free": {"x": {"y": 1}, "strict": {}}}},
        ),
        ({"spec": {"raw": {"x": [{"y": 1}]}}}, [], None),
        (
            {"spec": {"inner": {"kind": "K", "metadata": {"name": "x", "z": 1}, "spec": {"b": "", "c": 1}, "q": 1}}},
            ["spec.inner.q", "spec.inner.metadata.z", "spec.inner.spec.c"],
            {"spec": {"inner": {"kind": "K", "metadata": {"name": "x"}, "spec": {"b": ""}}}},
        ),
        ({"spec": "not an object"}, [], None),
        ({"b": 1, "a": 2}, ["b", "a"], {}),
    ],
    ids=repr,
)
def test_prune(obj: dict[str, Any], unknown: list[str], pruned: dict[str, Any] | None) -> None:
    before = copy.deepcopy(obj)
    assert [str(path) for path in prune(obj, SCHEMA)] == unknown
    assert obj == (before if pruned is None else pruned)
    assert prune(obj, SCHEMA) == []


DEFAULTS: Schema = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "port": {"type": "integer", "default": 443},
                "mode": {"type": "string", "nullable": True, "default": "x"},
                "plain": {"type": "string"},
                "maybe": {"type": "string", "nullable": True},
                "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                "nested": {
                    "type": "object",
                    "default": {},
                    "properties": {"deep": {"type": "boolean", "default": False}},
                },
                "absent": {"type": "object", "properties": {"deep": {"type": "boolean", "default": True}}},
                "items": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"protocol": {"type": "string", "default": "TCP"}}},
                },
                "byName": {
                    "type": "object",
                    "additionalProperties": {"type": "object", "properties": {"n": {"type": "integer", "default": 1}}},
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        }
    },
}
BASE = {"port": 443, "mode": "x", "nested": {"deep": False}}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        ({}, {}),
        ({"spec": None}, {}),
        ({"spec": {}}, {"spec": BASE}),
        ({"spec": {"port": 1, "mode": None}}, {"spec": {**BASE, "port": 1, "mode": None}}),
        ({"spec": {"port": None}}, {"spec": BASE}),
        ({"spec": {"port": 0, "mode": ""}}, {"spec": {**BASE, "port": 0, "mode": ""}}),
        ({"spec": {"plain": None, "maybe": None}}, {"spec": {**BASE, "maybe": None}}),
        ({"spec": {"tags": {"a": None, "b": "c"}}}, {"spec": {**BASE, "tags": {"b": "c"}}}),
        ({"spec": {"nested": {"deep": True}}}, {"spec": {**BASE, "nested": {"deep": True}}}),
        ({"spec": {"absent": {}}}, {"spec": {**BASE, "absent": {"deep": True}}}),
        (
            {"spec": {"items": [{}, {"protocol": "UDP"}, None]}},
            {"spec": {**BASE, "items": [{"protocol": "TCP"}, {"protocol": "UDP"}, None]}},
        ),
        ({"spec": {"byName": {"a": {}}}}, {"spec": {**BASE, "byName": {"a": {"n": 1}}}}),
        ({"spec": {"free": {"x": None}}}, {"spec": {**BASE, "free": {"x": None}}}),
        ({"spec": {"other": None}}, {"spec": {**BASE, "other": None}}),
        ({"metadata": {"creationTimestamp": None, "labels": None, "name": "a"}}, {"metadata": {"name": "a"}}),
    ],
    ids=repr,
)
def test_apply_defaults(obj: dict[str, Any], expected: dict[str, Any]) -> None:
    apply_defaults(obj, DEFAULTS)
    assert obj == expected
    apply_defaults(obj, DEFAULTS)
    assert obj == expected


def test_defaults_are_copies() -> None:
    first: dict[str, Any] = {"spec": {}}
    apply_defaults(first, DEFAULTS)
    first["spec"]["nested"]["deep"] = "changed"
    second: dict[str, Any] = {"spec": {}}
    apply_defaults(second, DEFAULTS)
    assert second["spec"]["nested"] == {"deep": False}


def test_with_root_fields() -> None:
    schema: Schema = {"properties": {"spec": {"type": "object"}, "metadata": {"type": "string"}}, "description": "d"}
    before = copy.deepcopy(schema)
    full = with_root_fields(schema)
    assert schema == before
    assert set(full["properties"]) == {"apiVersion", "kind", "metadata", "spec"}
    assert full["properties"]["metadata"] is OBJECT_META_SCHEMA
    assert full["description"] == "d"
    assert full["type"] == "object"


def schemas_in(schema: Schema) -> list[Schema]:
    found = [schema]
    for inner in (schema.get("properties") or {}).values():
        found.extend(schemas_in(inner))
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            found.extend(schemas_in(schema[keyword]))
    return found


def test_metadata_is_described_without_references() -> None:
    for name, schema in OBJECT_META_SCHEMA["properties"].items():
        assert schema["description"], name
    assert all("type" in schema and "$ref" not in schema for schema in schemas_in(OBJECT_META_SCHEMA))
    assert OBJECT_META_SCHEMA["properties"]["ownerReferences"]["x-kubernetes-patch-merge-key"] == "uid"
    assert OBJECT_META_SCHEMA["properties"]["finalizers"]["x-kubernetes-patch-strategy"] == "merge"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("ab") | st.sampled_from(list(SPEC["properties"])), inner, max_size=3)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(["spec", "metadata", "kind", "x"]), JSON, max_size=4)


@given(OBJECTS)
def test_pruned_objects_have_no_unknown_fields(obj: dict[str, Any]) -> None:
    prune(obj, SCHEMA)
    again = copy.deepcopy(obj)
    assert prune(again, SCHEMA) == []
    assert again == obj


@given(OBJECTS)
def test_defaults_settle_at_once(obj: dict[str, Any]) -> None:
    apply_defaults(obj, DEFAULTS)
    again = copy.deepcopy(obj)
    apply_defaults(again, DEFAULTS)
    assert again == obj
