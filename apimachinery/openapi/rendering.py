"""What both versions of the document say alike about paths, parameters and operations."""

from collections.abc import Callable
from typing import Final

from apimachinery.openapi.components import GVK_EXTENSION
from apimachinery.openapi.operations import Operation, Parameter, PathItem
from apimachinery.types import Object

REASONS: Final = {200: "OK", 201: "Created", 202: "Accepted", 401: "Unauthorized"}
"""The descriptions of answers."""


def parameter(given: Parameter, typed: Object) -> Object:
    """A parameter in path or query; `typed` is how the version tells its type."""
    document: Object = {"name": given.name, "in": given.location, "description": given.description, **typed}
    if given.location == "path":
        document["required"] = True
    return document


def extensions(operation: Operation) -> Object:
    """What Kubernetes adds to an operation: what it does, and to which kind."""
    document: Object = {}
    if operation.action:
        document["x-kubernetes-action"] = operation.action
    if operation.kind is not None:
        document[GVK_EXTENSION] = operation.kind.extension()
    return document


def path_item(
    item: PathItem, operation: Callable[[Operation], Object], parameter: Callable[[Parameter], Object]
) -> Object:
    """A path with its operations and the parameters that all of them have."""
    document: Object = {given.method: operation(given) for given in item.operations}
    if item.parameters:
        document["parameters"] = [parameter(given) for given in item.parameters]
    return document
