from typing import Any

import pytest

from apimachinery.openapi import v2, v2_to_v3, v3
from apimachinery.openapi.model import ResourceModel
from apimachinery.types import Object


def convert_operation(operation: Object, **more: Any) -> Object:
    document = v2_to_v3.convert({"swagger": "2.0", "paths": {"/p": {"post": operation}}, **more})
    result: Object = document["paths"]["/p"]["post"]
    return result


def test_conversion_agrees_with_direct_v3(dummy: ResourceModel) -> None:
    """Without anything that v2 loses, going through it gives the v3 document itself, schemes and descriptions apart."""
    direct = v3.build(dummy.group_version, [dummy], title="t", version="v")
    converted = v2_to_v3.convert(v2.build([dummy], title="t", version="v"))
    assert converted["openapi"] == "3.0.0"
    assert converted["info"] == direct["info"]
    assert converted["paths"] == direct["paths"]
    assert converted["components"]["schemas"].keys() == direct["components"]["schemas"].keys()


def test_body_parameter_becomes_request_body() -> None:
    operation = convert_operation(
        {
            "consumes": ["application/json", "application/yaml"],
            "parameters": [
                {"in": "body", "name": "body", "required": True, "schema": {"$ref": "#/definitions/a.B"}},
                {"in": "query", "name": "q", "type": "string", "enum": ["a"], "x-e": 1},
            ],
            "responses": {},
            "x-kubernetes-action": "post",
        }
    )
    content = {"schema": {"$ref": "#/components/schemas/a.B"}}
    assert operation["requestBody"] == {
        "required": True,
        "content": {"application/json": content, "application/yaml": content},
    }
    assert operation["parameters"] == [
        {"in": "query", "name": "q", "schema": {"type": "string", "enum": ["a"]}, "x-e": 1}
    ]
    assert operation["x-kubernetes-action"] == "post"


@pytest.mark.parametrize(
    ("operation", "document", "media_types"),
    [
        ({}, {}, ["application/json"]),
        ({}, {"produces": ["a/b"]}, ["a/b"]),
        ({"produces": ["c/d", "e/f"]}, {"produces": ["a/b"]}, ["c/d", "e/f"]),
    ],
    ids=["default", "document", "operation"],
)
def test_produces(operation: Object, document: Object, media_types: list[str]) -> None:
    response = {"description": "OK", "schema": {"type": "string"}}
    converted = convert_operation({**operation, "responses": {"200": response}}, **document)
    content = {"schema": {"type": "string"}}
    assert converted["responses"] == {
        "200": {"description": "OK", "content": {media_type: content for media_type in media_types}}
    }


def test_any_media_type_of_a_body() -> None:
    operation = convert_operation({"consumes": ["*/*"], "parameters": [{"in": "body", "name": "b", "schema": {}}]})
    assert operation["requestBody"] == {"content": {"application/json": {"schema": {}}}}


def test_shared_parameters_and_responses_are_resolved() -> None:
    operation = convert_operation(
        {"parameters": [{"$ref": "#/parameters/p"}], "responses": {"200": {"$ref": "#/responses/r"}}},
        parameters={"p": {"in": "path", "name": "name", "required": True, "type": "string"}},
        responses={"r": {"description": "fine"}},
    )
    assert operation["parameters"] == [{"in": "path", "name": "name", "required": True, "schema": {"type": "string"}}]
    assert operation["responses"] == {"200": {"description": "fine"}}


def test_form_fields_become_an_object() -> None:
    operation = convert_operation({"parameters": [{"in": "formData", "name": "f", "type": "string"}]})
    assert operation["requestBody"]["content"] == {
        "application/x-www-form-urlencoded": {"schema": {"type": "object", "properties": {"f": {"type": "string"}}}}
    }


def test_body_shared_by_a_path() -> None:
    document = v2_to_v3.convert(
        {"paths": {"/p": {"parameters": [{"in": "body", "name": "b", "schema": {}}], "put": {}, "get": {}}}}
    )
    assert document["paths"]["/p"]["put"]["requestBody"] == {"content": {"application/json": {"schema": {}}}}
    assert "parameters" not in document["paths"]["/p"]


def test_definitions_move() -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "#/definitions/B"}}, "x-e": [1]}
    document = v2_to_v3.convert({"definitions": {"A": schema, "B": {}}})
    assert document["components"]["schemas"] == {
        "A": {"type": "object", "properties": {"a": {"$ref": "#/components/schemas/B"}}, "x-e": [1]},
        "B": {},
    }
    assert document["paths"] == {}


@pytest.mark.parametrize(
    "document",
    [{"paths": ["/p"]}, {"paths": {"/p": 5}}, {"definitions": [1]}, {"paths": {"/p": {"get": {"parameters": 7}}}}],
    ids=str,
)
def test_malformed(document: Any) -> None:
    with pytest.raises(ValueError, match="not an OpenAPI v2 document"):
        v2_to_v3.convert(document)
