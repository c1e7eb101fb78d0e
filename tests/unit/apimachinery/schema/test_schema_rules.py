"""Validation against a schema: the exact texts."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.schema import formats, validate
from apimachinery.schema.object_meta import Schema


def errors_of(value: Any, schema: Schema) -> list[str]:
    obj = {"spec": {"x": value}}
    root: Schema = {"properties": {"spec": {"type": "object", "properties": {"x": schema}}}}
    before = copy.deepcopy((obj, root))
    found = [str(error) for error in validate(obj, root)]
    assert (obj, root) == before
    return found


STRING = {"type": "string"}
INTEGER = {"type": "integer"}


def wrong_type(found: str, wanted: str, path: str = "spec.x") -> str:
    return f'{path}: Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"'


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("a", STRING),
        (None, {**STRING, "nullable": True}),
        (1, {"type": "number"}),
        (1.5, {"type": "number"}),
        (1.0, INTEGER),
        (80, {"x-kubernetes-int-or-string": True}),
        ("80", {"x-kubernetes-int-or-string": True}),
        ({"any": [1]}, {}),
        (None, {}),
        ("b", {**STRING, "enum": ["a", "b"]}),
        (2, {"enum": [1, 2]}),
        ("abc", {**STRING, "pattern": "b"}),
        ("abc", {**STRING, "pattern": "^abc$"}),
        ("a$", {**STRING, "pattern": r"^a\$$"}),
        ("$", {**STRING, "pattern": "^[$]$"}),
        (1, {**INTEGER, "minimum": 1, "maximum": 1}),
        (6, {**INTEGER, "multipleOf": 3}),
        ("äöü", {**STRING, "maxLength": 3, "minLength": 3}),
        ([1, 2], {"type": "array", "minItems": 2, "maxItems": 2}),
        ({"a": 1}, {"type": "object", "minProperties": 1, "maxProperties": 1}),
        ([1, "1", True], {"type": "array", "x-kubernetes-list-type": "set"}),
        ([1, 1], {"type": "array", "x-kubernetes-list-type": "atomic"}),
        ([1, 1], {"type": "array"}),
        ("anything", {**STRING, "format": "unheard-of"}),
        (2**31 - 1, {**INTEGER, "format": "int32"}),
    ],
    ids=repr,
)
def test_valid(value: Any, schema: Schema) -> None:
    assert errors_of(value, schema) == []


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ("a", INTEGER, [wrong_type("string", "integer")]),
        (True, INTEGER, [wrong_type("boolean", "integer")]),
        (1.5, INTEGER, [wrong_type("number", "integer")]),
        (1, STRING, [wrong_type("integer", "string")]),
        (None, STRING, [wrong_type("null", "string")]),
        ([], {"type": "object"}, [wrong_type("array", "object")]),
        ({}, {"type": "array"}, [wrong_type("object", "array")]),
        (0, {"type": "boolean"}, [wrong_type("integer", "boolean")]),
        (1.5, {"x-kubernetes-int-or-string": True}, [wrong_type("number", "integer,string")]),
        ([None], {"type": "array", "items": STRING}, [wrong_type("null", "string", "spec.x[0]")]),
        ({"a": 1}, {"type": "object", "additionalProperties": STRING}, [wrong_type("integer", "string", "spec.x.a")]),
        (
            "c",
            {**STRING, "enum": ["a", "b"]},
            ['spec.x: Unsupported value: "c": supported values: "a", "b"'],
        ),
        (True, {"enum": [1]}, ['spec.x: Unsupported value: true: supported values: "1"']),
        (
            "v",
            {**STRING, "pattern": "^a$"},
            ["""spec.x: Invalid value: "v": spec.x in body should match '^a$'"""],
        ),
        (
            "a\n",
            {**STRING, "pattern": "^a$"},
            [r"""spec.x: Invalid value: "a\n": spec.x in body should match '^a$'"""],
        ),
        (
            "٣",
            {**STRING, "pattern": r"^\d$"},
            [r"""spec.x: Invalid value: "٣": spec.x in body should match '^\d$'"""],
        ),
        (
            0,
            {**INTEGER, "minimum": 1},
            ["spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1"],
        ),
        (
            1,
            {**INTEGER, "minimum": 1, "exclusiveMinimum": True},
            ["spec.x: Invalid value: 1: spec.x in body should be greater than 1"],
        ),
        (
            10,
            {**INTEGER, "maximum": 9},
            ["spec.x: Invalid value: 10: spec.x in body should be less than or equal to 9"],
        ),
        (
            9,
            {**INTEGER, "maximum": 9, "exclusiveMaximum": True},
            ["spec.x: Invalid value: 9: spec.x in body should be less than 9"],
        ),
        (3, {**INTEGER, "multipleOf": 2}, ["spec.x: Invalid value: 3: spec.x in body should be a multiple of 2"]),
        (
            "ab",
            {**STRING, "minLength": 3},
            ['spec.x: Invalid value: "ab": spec.x in body should be at least 3 chars long'],
        ),
        ("abcdef", {**STRING, "maxLength": 5}, ["spec.x: Too long: may not be more than 5 bytes"]),
        ("ab", {**STRING, "maxLength": 1}, ["spec.x: Too long: may not be more than 1 byte"]),
        (
            [],
            {"type": "array", "minItems": 1},
            ["spec.x: Invalid value: 0: spec.x in body should have at least 1 items"],
        ),
        ([1, 2, 3], {"type": "array", "maxItems": 2}, ["spec.x: Too many: 3: must have at most 2 items"]),
        ([1, 2], {"type": "array", "maxItems": 1}, ["spec.x: Too many: 2: must have at most 1 item"]),
        (
            {},
            {"type": "object", "minProperties": 1},
            ["spec.x: Invalid value: 0: spec.x in body should have at least 1 properties"],
        ),
        (
            {"a": 1, "b": 2},
            {"type": "object", "maxProperties": 1},
            ["spec.x: Too many: 2: must have at most 1 item"],
        ),
        ("u", {**STRING, "format": "uuid"}, ['spec.x: Invalid value: "u": spec.x in body must be of type uuid: "u"']),
        (
            2**31,
            {**INTEGER, "format": "int32"},
            ['spec.x: Invalid value: 2147483648: spec.x in body must be of type int32: "2147483648"'],
        ),
        ({}, {"type": "object", "required": ["a", "b"]}, ["spec.x.a: Required value", "spec.x.b: Required value"]),
        (
            ["a", "b", "a", "a"],
            {"type": "array", "x-kubernetes-list-type": "set"},
            ['spec.x[2]: Duplicate value: "a"', 'spec.x[3]: Duplicate value: "a"'],
        ),
        (
            [{"name": "a"}, {"name": "a", "v": 1}, {"name": "b"}],
            {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            ['spec.x[1]: Duplicate value: {"name":"a"}'],
        ),
        (
            [{"port": 1}, {"port": 1, "protocol": "TCP"}, {"port": 1, "protocol": "UDP"}],
            {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {"protocol": {"type": "string", "default": "TCP"}}},
            },
            ['spec.x[1]: Duplicate value: {"port":1,"protocol":"TCP"}'],
        ),
        (
            [{"a": "x"}, {"a": 1}],
            {"type": "array", "items": {"type": "object", "properties": {"a": INTEGER}}},
            [wrong_type("string", "integer", "spec.x[0].a")],
        ),
        (
            5,
            {"allOf": [{"maximum": 4}, {"maximum": 3}]},
            [
                'spec.x: Invalid value: "": "spec.x" must validate all the schemas (allOf)',
                "spec.x: Invalid value: 5: spec.x in body should be less than or equal to 4",
                "spec.x: Invalid value: 5: spec.x in body should be less than or equal to 3",
            ],
        ),
        (
            5,
            {"anyOf": [{"maximum": 4}, {"minimum": 6}]},
            [
                'spec.x: Invalid value: "": "spec.x" must validate at least one schema (anyOf)',
                "spec.x: Invalid value: 5: spec.x in body should be less than or equal to 4",
            ],
        ),
        (
            5,
            {"oneOf": [{"maximum": 4}, {"minimum": 6}]},
            [
                'spec.x: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found none valid',
            ],
        ),
        (
            5,
            {"oneOf": [{"maximum": 6}, {"minimum": 4}]},
            [
                'spec.x: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). '
                "Found 2 valid alternatives",
            ],
        ),
        (5, {"not": {"minimum": 4}}, ['spec.x: Invalid value: "": "spec.x" must not validate the schema (not)']),
    ],
    ids=repr,
)
def test_invalid(value: Any, schema: Schema, expected: list[str]) -> None:
    assert errors_of(value, schema) == expected


def test_every_fault_is_reported_from_the_root_on() -> None:
    schema: Schema = {
        "required": ["spec", "status"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["a"],
                "properties": {"a": STRING, "b": {**INTEGER, "minimum": 1}, "c": STRING},
            }
        },
    }
    assert [str(error) for error in validate({"spec": {"c": 1, "b": 0}}, schema)] == [
        "status: Required value",
        "spec.a: Required value",
        wrong_type("integer", "string", "spec.c"),
        "spec.b: Invalid value: 0: spec.b in body should be greater than or equal to 1",
    ]
    assert [str(error) for error in validate({}, schema)] == ["spec: Required value", "status: Required value"]


def test_metadata_is_left_to_its_own_rules() -> None:
    assert validate({"metadata": {"finalizers": ["a", "a"], "creationTimestamp": "x"}}, {"type": "object"}) == []


def test_causes_tell_types_from_values() -> None:
    root: Schema = {"properties": {"x": {"type": "string", "enum": ["a"]}, "y": INTEGER}}
    causes = [error.cause()["reason"] for error in validate({"x": "b", "y": "c"}, root)]
    assert causes == ["FieldValueNotSupported", "FieldValueTypeInvalid"]


FITTING = {
    "byte": ["", "aGk=", "aGVsbG8="],
    "cidr": ["10.0.0.0/8", "10.1.2.3/8", "::/0"],
    "date": ["2026-02-28"],
    "date-time": ["2026-01-02T03:04:05Z", "2026-01-02t03:04:05.1234567891z", "2026-01-02T03:04:05+01:00"],
    "duration": ["1h", "1h30m", "0", "-1.5s", "300ms", "1µs"],
    "email": ["a@b.example"],
    "hostname": ["a", "A.example.com", "a.example."],
    "ipv4": ["127.0.0.1"],
    "ipv6": ["::1", "fe80::1"],
    "k8s-long-name": ["a.b"],
    "k8s-short-name": ["a"],
    "mac": ["00:1a:2B:3c:4d:5e", "00-1a-2b-3c-4d-5e"],
    "uri": ["https://example.com/x?y", "urn:a:b", "/path"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000", "123E4567E89B12D3A456426614174000"],
}
UNFIT = {
    "byte": ["a", "aGk", "ü", "a b="],
    "cidr": ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/" + "9" * 5000],
    "date": ["2026-02-29", "2026-2-28", "20260228", "2026-W09-6"],
    "date-time": ["2026-01-02", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z", "2026-01-02T25:04:05Z", "", "x\n"],
    "duration": ["", "1", "h", "1h ", "1d", "1 h"],
    "email": ["", "a", "a@", "@b", "a@b@c", "a b@c"],
    "hostname": ["", "-a", "a..b", "a" * 64, "a_b", "a\n"],
    "ipv4": ["", "1.2.3", "256.1.1.1", "::1", "1.2.3.4/8"],
    "ipv6": ["", "1.2.3.4", ":::"],
    "k8s-long-name": ["A", "a" * 254],
    "k8s-short-name": ["a.b", "a" * 64],
    "mac": ["00:1a:2b:3c:4d", "00:1a-2b:3c:4d:5e", "0g:1a:2b:3c:4d:5e"],
    "uri": ["", "example.com", "1:2", "a b:c"],
    "uuid": ["", "123e4567", "g23e4567-e89b-12d3-a456-426614174000"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in FITTING.items() for value in values])
def test_fitting_formats(name: str, value: str) -> None:
    assert formats.fits(value, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in UNFIT.items() for value in values],
    ids=lambda text: f"{text[:24]!r}",
)
def test_unfit_formats(name: str, value: str) -> None:
    assert not formats.fits(value, name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abx"), inner, max_size=3),
    max_leaves=8,
)
EVERY_KEYWORD: list[Schema] = [
    {"type": kind, "minimum": 1, "maxLength": 2, "minItems": 1, "maxProperties": 1, "multipleOf": 3, "pattern": "^a"}
    for kind in ("string", "integer", "number", "boolean", "object", "array")
] + [
    {"x-kubernetes-list-type": "set", "enum": ["a", 1, None, [1]]},
    {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"], "format": "date-time"},
    {"oneOf": [STRING, INTEGER], "not": {"type": "array"}, "anyOf": [{}], "allOf": [{"nullable": True}]},
    {"type": "object", "required": ["a"], "additionalProperties": {"type": "array", "items": STRING}},
]


@given(JSON, st.sampled_from(EVERY_KEYWORD))
def test_any_json_is_answered(value: Any, schema: Schema) -> None:
    errors = validate({"x": value, "a": value}, {"properties": {"x": schema}})
    assert all(str(error.path).startswith("x") for error in errors)
    for error in errors:
        assert error.cause()["message"]
