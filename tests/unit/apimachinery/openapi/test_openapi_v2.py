from collections.abc import Iterator
from typing import Any

import pytest

from apimachinery.openapi import v2
from apimachinery.openapi.model import ResourceModel
from apimachinery.types import Object


def build(*models: ResourceModel) -> Object:
    return v2.build(models, title="shop", version="v1.2.3")


def keys_and_references(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield ("$ref", member) if name == "$ref" else ("key", name)
            yield from keys_and_references(member)
    elif isinstance(value, list):
        for item in value:
            yield from keys_and_references(item)


def test_envelope(widget: ResourceModel, dummy: ResourceModel, runtime: ResourceModel) -> None:
    document = build(widget, dummy, runtime)
    assert document["swagger"] == "2.0"
    assert document["info"] == {"title": "shop", "version": "v1.2.3"}
    assert list(document["paths"]) == sorted(document["paths"])
    assert "/apis/other.example.com/v1beta1/runtime" in document["paths"]
    assert "/apis/shop.example.com/v1/widgets/{name}" in document["paths"]


def test_every_reference_resolves(widget: ResourceModel, dummy: ResourceModel) -> None:
    document = build(widget, dummy)
    found = {target for kind, target in keys_and_references(document) if kind == "$ref"}
    assert found
    assert found <= {f"#/definitions/{name}" for name in document["definitions"]}


def test_nothing_that_v2_cannot_say(widget: ResourceModel) -> None:
    keys = {name for kind, name in keys_and_references(build(widget)) if kind == "key"}
    assert keys.isdisjoint({"nullable", "oneOf", "anyOf", "allOf", "not", "requestBody", "content", "components"})


@pytest.mark.parametrize(
    ("v3_schema", "v2_schema"),
    [
        ({"type": "string", "default": "x", "enum": ["x"]}, {"type": "string", "enum": ["x"]}),
        ({"type": "string", "nullable": True, "description": "d"}, {"description": "d"}),
        (
            {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}]},
            {"x-kubernetes-int-or-string": True},
        ),
        (
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"a": {}}},
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        ),
        (
            {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "not": {}}}}},
            {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
        ),
        (
            {"type": "object", "additionalProperties": {"type": "string", "nullable": True}},
            {"type": "object", "additionalProperties": {}},
        ),
        ({"type": "object", "additionalProperties": True}, {"type": "object", "additionalProperties": True}),
        (
            {"description": "d", "allOf": [{"$ref": "#/components/schemas/a.B"}]},
            {"description": "d", "$ref": "#/definitions/a.B"},
        ),
        (
            {"type": "object", "properties": {"default": {"type": "string"}}},
            {"type": "object", "properties": {"default": {"type": "string"}}},
        ),
    ],
    ids=[
        "default",
        "nullable",
        "int or string",
        "unknown fields",
        "items",
        "map",
        "any map",
        "reference",
        "named default",
    ],
)
def test_schema(v3_schema: Object, v2_schema: Object) -> None:
    assert v2.schema(v3_schema) == v2_schema


def test_patch_operation(widget: ResourceModel) -> None:
    operation = build(widget)["paths"]["/apis/shop.example.com/v1/widgets/{name}"]["patch"]
    assert operation["consumes"] == [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ]
    assert operation["parameters"][0] == {
        "name": "body",
        "in": "body",
        "required": True,
        "schema": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"},
    }
    assert [parameter["name"] for parameter in operation["parameters"][1:]] == [
        "dryRun",
        "fieldManager",
        "fieldValidation",
        "force",
    ]
    assert operation["x-kubernetes-group-version-kind"]["kind"] == "Widget"
