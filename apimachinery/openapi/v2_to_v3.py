"""OpenAPI v2 documents as v3, for servers that only have the old form (aggregator.md 5.2).

Lossy: what v3 expresses otherwise or clients of these documents do not read (headers, examples, security) is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from apimachinery.openapi.components import REF_PREFIX
from apimachinery.types import Object

_DEFINITIONS: Final = "#/definitions/"
_PARAMETERS: Final = "#/parameters/"
_RESPONSES: Final = "#/responses/"
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
_DEFAULT_MEDIA_TYPES: Final = ("application/json",)
_OPERATION_FIELDS: Final = ("tags", "summary", "description", "operationId", "deprecated")
_PARAMETER_FIELDS: Final = ("name", "in", "description", "required", "allowEmptyValue")
_FORM_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"


def _schema(value: Any) -> Any:
    """A schema with its references pointing to where v3 keeps named schemas."""
    if isinstance(value, dict):
        result = {name: _schema(member) for name, member in value.items()}
        target = result.get("$ref")
        if isinstance(target, str) and target.startswith(_DEFINITIONS):
            result["$ref"] = REF_PREFIX + target.removeprefix(_DEFINITIONS)
        return result
    if isinstance(value, list):
        return [_schema(item) for item in value]
    return value


def _extensions(document: Object) -> Object:
    return {name: value for name, value in document.items() if name.startswith("x-")}


class _Converter:
    def __init__(self, spec: Object) -> None:
        self._parameters: Mapping[str, Object] = spec.get("parameters") or {}
        self._responses: Mapping[str, Object] = spec.get("responses") or {}
        self._consumes: Sequence[str] = spec.get("consumes") or _DEFAULT_MEDIA_TYPES
        self._produces: Sequence[str] = spec.get("produces") or _DEFAULT_MEDIA_TYPES

    def _resolved(self, document: Object, prefix: str, members: Mapping[str, Object]) -> Object:
        target = document.get("$ref")
        if not isinstance(target, str):
            return document
        return members.get(target.removeprefix(prefix), {})

    def parameters(self, documents: Sequence[Object]) -> tuple[list[Object], Object | None, list[Object]]:
        """The v3 parameters, the v2 body parameter and the v2 form parameters."""
        plain: list[Object] = []
        body: Object | None = None
        form: list[Object] = []
        for document in documents:
            parameter = self._resolved(document, _PARAMETERS, self._parameters)
            match parameter.get("in"):
                case "body":
                    body = parameter
                case "formData":
                    form.append(parameter)
                case "query" | "path" | "header":
                    plain.append(_plain_parameter(parameter))
        return plain, body, form

    def response(self, document: Object, produces: Sequence[str]) -> Object:
        resolved = self._resolved(document, _RESPONSES, self._responses)
        result: Object = {"description": resolved.get("description", "")}
        if "schema" in resolved:
            content = {"schema": _schema(resolved["schema"])}
            result["content"] = {media_type: content for media_type in produces}
        return result | _extensions(resolved)

    def operation(self, document: Object) -> Object:
        result: Object = {name: document[name] for name in _OPERATION_FIELDS if name in document}
        parameters, body, form = self.parameters(document.get("parameters") or [])
        if parameters:
            result["parameters"] = parameters
        request = _request_body(body, form, document.get("consumes") or self._consumes)
        if request is not None:
            result["requestBody"] = request
        produces = document.get("produces") or self._produces
        responses = document.get("responses") or {}
        result["responses"] = {
            code: self.response(response, produces) for code, response in responses.items() if not code.startswith("x-")
        }
        return result | _extensions(document)

    def path_item(self, document: Object) -> Object:
        result: Object = {method: self.operation(document[method]) for method in _METHODS if method in document}
        parameters, body, form = self.parameters(document.get("parameters") or [])
        if parameters:
            result["parameters"] = parameters
        if body is not None or form:
            # In v3 a body belongs to an operation.
            for method in _METHODS:
                request = _request_body(body, form, document.get(method, {}).get("consumes") or self._consumes)
                if method in result and request is not None:
                    result[method].setdefault("requestBody", request)
        return result | _extensions(document)


def _value_schema(parameter: Object) -> Object:
    """The schema of a simple parameter, which v2 writes beside its name."""
    reserved = {*_PARAMETER_FIELDS, "collectionFormat"}
    return {name: _schema(value) for name, value in parameter.items() if name not in reserved and name[:2] != "x-"}


def _plain_parameter(parameter: Object) -> Object:
    result: Object = {name: parameter[name] for name in _PARAMETER_FIELDS if name in parameter}
    return {**result, "schema": _value_schema(parameter), **_extensions(parameter)}


def _request_body(body: Object | None, form: Sequence[Object], consumes: Sequence[str]) -> Object | None:
    if form:
        properties = {str(field.get("name", "")): _value_schema(field) for field in form}
        return {"content": {_FORM_MEDIA_TYPE: {"schema": {"type": "object", "properties": properties}}}}
    if body is None:
        return None
    content = {"schema": _schema(body.get("schema") or {})}
    # `*/*` is what servers write that take anything; a client needs a name to look for.
    names = _DEFAULT_MEDIA_TYPES if list(consumes) == ["*/*"] else consumes
    result: Object = {name: body[name] for name in ("description", "required") if name in body}
    result["content"] = {media_type: content for media_type in names}
    return result


def convert(spec: Object) -> Object:
    """A v3 document that says what the v2 document says. ValueError when the input is not an OpenAPI v2 document."""
    converter = _Converter(spec)
    try:
        return {
            "openapi": "3.0.0",
            "info": spec.get("info") or {"title": "", "version": ""},
            "paths": {path: converter.path_item(item) for path, item in (spec.get("paths") or {}).items()},
            "components": {
                "schemas": {name: _schema(schema) for name, schema in (spec.get("definitions") or {}).items()}
            },
        }
    except (AttributeError, TypeError) as error:
        raise ValueError(f"not an OpenAPI v2 document: {error}") from error
