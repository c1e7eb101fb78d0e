"""Type mismatches: the first one, in the words of a decoder."""

from typing import Any

import pytest

from apimachinery.schema import type_error
from apimachinery.schema.object_meta import Schema

SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer", "format": "int32"},
                "count": {"type": "integer"},
                "ratio": {"type": "number"},
                "small": {"type": "number", "format": "float"},
                "on": {"type": "boolean"},
                "title": {"type": "string"},
                "at": {"type": "string", "format": "date-time"},
                "bundle": {"type": "string", "format": "byte"},
                "port": {"x-kubernetes-int-or-string": True},
                "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "any": {},
                "parts": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"size": {"type": "integer", "format": "int64"}}},
                },
                "words": {"type": "array", "items": {"type": "string"}},
                "inner": {"type": "object", "x-kubernetes-embedded-resource": True},
            },
        }
    },
}
UNMARSHAL = "json: cannot unmarshal"
FIELD = "into Go struct field"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"size": 2**31 - 1, "count": -(2**63), "ratio": 1, "on": False, "title": ""},
        {"size": None, "parts": [None, {"size": None}], "tags": {"a": None}, "words": None},
        {"at": "2026-01-02T03:04:05Z", "bundle": "aGk="},
        {"at": "2026-01-02T03:04:05.123456789+02:00"},
        {"bundle": "aG\r\nk=\n"},
        {"bundle": ""},
        {"port": 80},
        {"port": "http"},
        {"free": {"a": [1, {"b": None}]}, "any": [True]},
        {"unknown": {"x": 1}},
        {"inner": {"apiVersion": "v1", "metadata": {"name": "x"}}},
    ],
    ids=repr,
)
def test_fits(spec: dict[str, Any]) -> None:
    assert type_error({"apiVersion": "v1", "kind": "Widget", "spec": spec}, SCHEMA, "Widget") is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], f"{UNMARSHAL} array {FIELD} Widget.spec of type map[string]interface {{}}"),
        ("x", f"{UNMARSHAL} string {FIELD} Widget.spec of type map[string]interface {{}}"),
        ({"size": "1"}, f"{UNMARSHAL} string {FIELD} Widget.spec.size of type int32"),
        ({"size": True}, f"{UNMARSHAL} bool {FIELD} Widget.spec.size of type int32"),
        ({"size": 1.5}, f"{UNMARSHAL} number 1.5 {FIELD} Widget.spec.size of type int32"),
        ({"size": 2**31}, f"{UNMARSHAL} number 2147483648 {FIELD} Widget.spec.size of type int32"),
        ({"count": {}}, f"{UNMARSHAL} object {FIELD} Widget.spec.count of type int64"),
        ({"count": 2**63}, f"{UNMARSHAL} number 9223372036854775808 {FIELD} Widget.spec.count of type int64"),
        ({"ratio": "1"}, f"{UNMARSHAL} string {FIELD} Widget.spec.ratio of type float64"),
        ({"small": []}, f"{UNMARSHAL} array {FIELD} Widget.spec.small of type float32"),
        ({"on": 1}, f"{UNMARSHAL} number {FIELD} Widget.spec.on of type bool"),
        ({"on": "true"}, f"{UNMARSHAL} string {FIELD} Widget.spec.on of type bool"),
        ({"title": 1}, f"{UNMARSHAL} number {FIELD} Widget.spec.title of type string"),
        ({"title": False}, f"{UNMARSHAL} bool {FIELD} Widget.spec.title of type string"),
        ({"bundle": 1}, f"{UNMARSHAL} number {FIELD} Widget.spec.bundle of type []uint8"),
        ({"port": 1.5}, f"{UNMARSHAL} number {FIELD} Widget.spec.port of type intstr.IntOrString"),
        ({"port": True}, f"{UNMARSHAL} bool {FIELD} Widget.spec.port of type intstr.IntOrString"),
        ({"tags": []}, f"{UNMARSHAL} array {FIELD} Widget.spec.tags of type map[string]string"),
        ({"tags": {"a": 1}}, f"{UNMARSHAL} number {FIELD} Widget.spec.tags of type string"),
        ({"words": "a"}, f"{UNMARSHAL} string {FIELD} Widget.spec.words of type []string"),
        ({"words": ["a", 1]}, f"{UNMARSHAL} number {FIELD} Widget.spec.words of type string"),
        ({"parts": [{}, {"size": "x"}]}, f"{UNMARSHAL} string {FIELD} Widget.spec.parts.size of type int64"),
        ({"parts": [[]]}, f"{UNMARSHAL} array {FIELD} Widget.spec.parts of type map[string]interface {{}}"),
        ({"title": 1, "size": "x"}, f"{UNMARSHAL} number {FIELD} Widget.spec.title of type string"),
        ({"size": "x", "title": 1}, f"{UNMARSHAL} string {FIELD} Widget.spec.size of type int32"),
        (
            {"at": "yesterday"},
            'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"',
        ),
        ({"bundle": "a*b="}, "illegal base64 data at input byte 1"),
        ({"bundle": "abc"}, "illegal base64 data at input byte 3"),
        ({"bundle": "ü"}, "illegal base64 data at input byte 0"),
        (
            {"inner": {"metadata": {"name": 1}}},
            f"{UNMARSHAL} number {FIELD} Widget.spec.inner.metadata.name of type string",
        ),
    ],
    ids=repr,
)
def test_does_not_fit(spec: Any, message: str) -> None:
    assert type_error({"spec": spec}, SCHEMA, "Widget") == message


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ([], f"{UNMARSHAL} array into Go value of type Widget"),
        ("x", f"{UNMARSHAL} string into Go value of type Widget"),
        (None, f"{UNMARSHAL} null into Go value of type Widget"),
        ({"kind": 1}, f"{UNMARSHAL} number {FIELD} Widget.kind of type string"),
        ({"metadata": []}, f"{UNMARSHAL} array {FIELD} Widget.metadata of type map[string]interface {{}}"),
        ({"metadata": {"name": 1}}, f"{UNMARSHAL} number {FIELD} Widget.metadata.name of type string"),
        ({"metadata": {"labels": {"a": 1}}}, f"{UNMARSHAL} number {FIELD} Widget.metadata.labels of type string"),
        ({"metadata": {"generation": "1"}}, f"{UNMARSHAL} string {FIELD} Widget.metadata.generation of type int64"),
        ({"metadata": {"finalizers": "x"}}, f"{UNMARSHAL} string {FIELD} Widget.metadata.finalizers of type []string"),
        (
            {"metadata": {"ownerReferences": [{"controller": "yes"}]}},
            f"{UNMARSHAL} string {FIELD} Widget.metadata.ownerReferences.controller of type bool",
        ),
        ({1: 2}, "json: object key 1 is not a string"),
        ({"x": {True: 1}}, "json: object key True is not a string"),
        ({"x": [float("nan")]}, "json: unsupported number nan"),
        ({"x": float("-inf")}, "json: unsupported number -inf"),
        ({"x": 2**64}, "json: integer does not fit in 64 bits"),
        ({"x": b"y"}, "json: unsupported value of type bytes"),
        ({"x": "\ud800"}, "json: string is not valid UTF-8"),
        ({"\udfff": 1}, "json: string is not valid UTF-8"),
    ],
    ids=repr,
)
def test_roots_and_what_json_cannot_say(obj: Any, message: str) -> None:
    assert type_error(obj, SCHEMA, "Widget") == message


def test_deep_nesting_is_an_answer() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = {"a": [deep]}
    assert type_error({"spec": {"free": deep}}, SCHEMA, "Widget") == "json: exceeded max depth"
