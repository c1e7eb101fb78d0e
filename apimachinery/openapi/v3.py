"""OpenAPI v3 documents, one for each group version (aggregator.md 5.2)."""

from collections.abc import Sequence
from functools import partial

from apimachinery.gvk import GroupVersion
from apimachinery.openapi import operations, rendering
from apimachinery.openapi.components import components, reference
from apimachinery.openapi.model import ResourceModel
from apimachinery.openapi.operations import Body, Operation, Parameter
from apimachinery.openapi.rendering import REASONS
from apimachinery.types import Object


def _parameter(parameter: Parameter) -> Object:
    return rendering.parameter(parameter, {"schema": {"type": parameter.type}})


def _content(media_types: Sequence[str], component: str) -> Object:
    return {media_type: {"schema": reference(component)} for media_type in media_types}


def _request_body(body: Body) -> Object:
    document: Object = {"content": _content(body.media_types, body.component)}
    if body.required:
        document["required"] = True
    return document


def _responses(operation: Operation) -> Object:
    responses: Object = {
        str(code): {"description": REASONS[code], "content": _content(operation.produces, operation.response)}
        for code in operation.codes
    }
    responses["401"] = {"description": REASONS[401]}
    return responses


def _operation(operation: Operation, tag: str) -> Object:
    document: Object = {
        "tags": [tag],
        "description": operation.description,
        "operationId": operation.id,
    }
    if operation.parameters:
        document["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        document["requestBody"] = _request_body(operation.body)
    document["responses"] = _responses(operation)
    return document | rendering.extensions(operation)


def build(group_version: GroupVersion, models: Sequence[ResourceModel], *, title: str, version: str) -> Object:
    """The document of a group version; `title` and `version` are those of the server."""
    tag = operations.tag(group_version)
    return {
        "openapi": "3.0.0",
        "info": {"title": title, "version": version},
        "paths": {
            item.path: rendering.path_item(item, partial(_operation, tag=tag), _parameter)
            for item in operations.paths(group_version, models)
        },
        "components": {"schemas": components(models)},
    }
