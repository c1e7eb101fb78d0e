"""The OpenAPI v2 (Swagger) document of all resources of a server (aggregator.md 5.1)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from apimachinery.openapi import operations, rendering
from apimachinery.openapi.components import REF_PREFIX, components
from apimachinery.openapi.model import ResourceModel
from apimachinery.openapi.operations import Body, Operation, Parameter
from apimachinery.openapi.rendering import REASONS
from apimachinery.types import Object

DEFINITION_PREFIX: Final = "#/definitions/"

_DROPPED: Final = frozenset({"nullable", "oneOf", "anyOf", "not", "default", "writeOnly", "deprecated", "title"})
"""What the v2 schema language cannot say, and defaults, which clients of the old document would misread."""


def _schema_map(schemas: Mapping[str, Any]) -> Object:
    return {name: schema(member) for name, member in schemas.items()}


def schema(source: Object) -> Object:
    """A v3 schema in v2 form. What v2 cannot say is left out, so the result accepts at least as much."""
    references = source.get("allOf")
    if isinstance(references, list) and len(references) == 1 and "$ref" in references[0]:
        described = {"description": source["description"]} if "description" in source else {}
        return {**described, **schema(references[0])}
    if "$ref" in source:
        return {"$ref": DEFINITION_PREFIX + source["$ref"].removeprefix(REF_PREFIX)}
    if source.get("nullable"):
        return {key: value for key, value in source.items() if key == "description"}
    result = {key: value for key, value in source.items() if key not in _DROPPED and key != "allOf"}
    if source.get("x-kubernetes-preserve-unknown-fields"):
        for key in ("properties", "additionalProperties", "items"):
            result.pop(key, None)
        return result
    if "properties" in result:
        result["properties"] = _schema_map(result["properties"])
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = schema(result[key])
    return result


def _reference(component: str) -> Object:
    return {"$ref": DEFINITION_PREFIX + component}


def _parameter(parameter: Parameter) -> Object:
    return rendering.parameter(parameter, {"type": parameter.type})


def _body_parameter(body: Body) -> Object:
    document: Object = {"name": "body", "in": "body", "schema": _reference(body.component)}
    if body.required:
        document["required"] = True
    return document


def _operation(operation: Operation, tag: str) -> Object:
    parameters = [_parameter(parameter) for parameter in operation.parameters]
    document: Object = {
        "tags": [tag],
        "description": operation.description,
        "operationId": operation.id,
        "produces": list(operation.produces),
        "schemes": ["https"],
    }
    if operation.body is not None:
        document["consumes"] = list(operation.body.media_types)
        parameters.insert(0, _body_parameter(operation.body))
    if parameters:
        document["parameters"] = parameters
    responses: Object = {
        str(code): {"description": REASONS[code], "schema": _reference(operation.response)} for code in operation.codes
    }
    responses["401"] = {"description": REASONS[401]}
    document["responses"] = responses
    return document | rendering.extensions(operation)


def build(models: Sequence[ResourceModel], *, title: str, version: str) -> Object:
    """The document of all group versions; `title` and `version` are those of the server."""
    paths: Object = {}
    for group_version in sorted({model.group_version for model in models}):
        served = [model for model in models if model.group_version == group_version]
        tag = operations.tag(group_version)
        paths.update(
            {
                item.path: rendering.path_item(item, partial(_operation, tag=tag), _parameter)
                for item in operations.paths(group_version, served)
            }
        )
    return {
        "swagger": "2.0",
        "info": {"title": title, "version": version},
        "paths": dict(sorted(paths.items())),
        "definitions": _schema_map(components(models)),
    }
