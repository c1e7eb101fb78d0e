"""OpenAPI v2 documents in protobuf: the message `openapi.v2.Document` of the gnostic project.

Go clients take the v2 document in this form only. Each message is a table of its fields; what a table does not name and
begins with `x-` becomes a vendor extension, everything else is left out, as it has no place in the message.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from apimachinery.openapi import wire
from apimachinery.openapi.wire import Field
from apimachinery.types import Object


def _any_content(value: Any) -> bytes:
    # `Any` holds YAML text, and JSON is YAML.
    return wire.delimited(2, json.dumps(value, ensure_ascii=False).encode())


def _any(number: int) -> Field:
    return lambda value: wire.delimited(number, _any_content(value))


def _anys(number: int) -> Field:
    return lambda values: b"".join(wire.delimited(number, _any_content(value)) for value in values)


def _extensions(number: int, document: Object) -> bytes:
    found = {name: value for name, value in document.items() if name.startswith("x-")}
    return wire.named(number, _any_content, found)


def _fields(table: Mapping[str, Field], document: Object, extensions: int) -> bytes:
    known = b"".join(encode(document[name]) for name, encode in table.items() if name in document)
    return known + _extensions(extensions, document)


def _boolean_or_schema(value: Any) -> bytes:
    if isinstance(value, bool):
        # In a oneof, false is a value too and must be written.
        return wire.tag(2, wire.VARINT) + wire.varint(value)
    return wire.delimited(1, _schema(value))


def _type_item(value: Any) -> bytes:
    return wire.strings(1)([value] if isinstance(value, str) else value)


def _items_item(value: Any) -> bytes:
    return wire.messages(1, _schema)([value] if isinstance(value, dict) else value)


def _external_docs(document: Object) -> bytes:
    return _fields({"description": wire.string(1), "url": wire.string(2)}, document, 3)


def _schema(document: Object) -> bytes:
    return _fields(_SCHEMA, document, 31)


_SCHEMA: Final[Mapping[str, Field]] = {
    "$ref": wire.string(1),
    "format": wire.string(2),
    "title": wire.string(3),
    "description": wire.string(4),
    "default": _any(5),
    "multipleOf": wire.double(6),
    "maximum": wire.double(7),
    "exclusiveMaximum": wire.boolean(8),
    "minimum": wire.double(9),
    "exclusiveMinimum": wire.boolean(10),
    "maxLength": wire.integer(11),
    "minLength": wire.integer(12),
    "pattern": wire.string(13),
    "maxItems": wire.integer(14),
    "minItems": wire.integer(15),
    "uniqueItems": wire.boolean(16),
    "maxProperties": wire.integer(17),
    "minProperties": wire.integer(18),
    "required": wire.strings(19),
    "enum": _anys(20),
    "additionalProperties": wire.message(21, _boolean_or_schema),
    "type": wire.message(22, _type_item),
    "items": wire.message(23, _items_item),
    "allOf": wire.messages(24, _schema),
    "properties": wire.mapping(25, _schema),
    "discriminator": wire.string(26),
    "readOnly": wire.boolean(27),
    "externalDocs": wire.message(29, _external_docs),
    "example": _any(30),
}


def _value_fields(first: int) -> dict[str, Field]:
    """The fields that say what a simple value may be; they stand in this order in five messages."""
    encoders: list[tuple[str, Callable[[int], Field]]] = [
        ("type", wire.string),
        ("format", wire.string),
        ("items", lambda number: wire.message(number, _primitive_items)),
        ("collectionFormat", wire.string),
        ("default", _any),
        ("maximum", wire.double),
        ("exclusiveMaximum", wire.boolean),
        ("minimum", wire.double),
        ("exclusiveMinimum", wire.boolean),
        ("maxLength", wire.integer),
        ("minLength", wire.integer),
        ("pattern", wire.string),
        ("maxItems", wire.integer),
        ("minItems", wire.integer),
        ("uniqueItems", wire.boolean),
        ("enum", _anys),
        ("multipleOf", wire.double),
    ]
    return {name: encoder(first + position) for position, (name, encoder) in enumerate(encoders)}


def _primitive_items(document: Object) -> bytes:
    return _fields(_value_fields(1), document, 18)


_PARAMETER_HEAD: Final[Mapping[str, Field]] = {
    "required": wire.boolean(1),
    "in": wire.string(2),
    "description": wire.string(3),
    "name": wire.string(4),
}
# Header and path parameters may not be empty; query and form parameters may, so their fields count on from one more.
_STRICT_PARAMETER: Final[Mapping[str, Field]] = {**_PARAMETER_HEAD, **_value_fields(5)}
_LOOSE_PARAMETER: Final[Mapping[str, Field]] = {
    **_PARAMETER_HEAD,
    "allowEmptyValue": wire.boolean(5),
    **_value_fields(6),
}
_BODY_PARAMETER: Final[Mapping[str, Field]] = {
    "description": wire.string(1),
    "name": wire.string(2),
    "in": wire.string(3),
    "required": wire.boolean(4),
    "schema": wire.message(5, _schema),
}
_NON_BODY_NUMBER: Final = {"header": 1, "formData": 2, "query": 3, "path": 4}


def _parameter(document: Object) -> bytes:
    location = document.get("in")
    if location == "body":
        return wire.delimited(1, _fields(_BODY_PARAMETER, document, 6))
    number = _NON_BODY_NUMBER.get(str(location))
    if number is None:
        raise ValueError(f"a parameter cannot be in {location!r}")
    if number in (2, 3):
        content = _fields(_LOOSE_PARAMETER, document, 23)
    else:
        content = _fields(_STRICT_PARAMETER, document, 22)
    return wire.delimited(2, wire.delimited(number, content))


def _json_reference(document: Object) -> bytes:
    return wire.string(1)(document["$ref"]) + wire.string(2)(document.get("description"))


def _parameters_item(document: Object) -> bytes:
    return (
        wire.delimited(2, _json_reference(document)) if "$ref" in document else wire.delimited(1, _parameter(document))
    )


def _header(document: Object) -> bytes:
    return _fields({**_value_fields(1), "description": wire.string(18)}, document, 19)


def _schema_item(document: Object) -> bytes:
    return wire.delimited(1, _schema(document))


_RESPONSE: Final[Mapping[str, Field]] = {
    "description": wire.string(1),
    "schema": wire.message(2, _schema_item),
    "headers": wire.mapping(3, _header),
    "examples": wire.mapping(4, _any_content),
}


def _response(document: Object) -> bytes:
    return _fields(_RESPONSE, document, 5)


def _response_value(document: Object) -> bytes:
    return (
        wire.delimited(2, _json_reference(document)) if "$ref" in document else wire.delimited(1, _response(document))
    )


def _responses(document: Object) -> bytes:
    codes = {name: value for name, value in document.items() if not name.startswith("x-")}
    return wire.named(1, _response_value, codes) + _extensions(2, document)


def _security_requirement(document: Object) -> bytes:
    return wire.named(1, wire.strings(1), document)


_OPERATION: Final[Mapping[str, Field]] = {
    "tags": wire.strings(1),
    "summary": wire.string(2),
    "description": wire.string(3),
    "externalDocs": wire.message(4, _external_docs),
    "operationId": wire.string(5),
    "produces": wire.strings(6),
    "consumes": wire.strings(7),
    "parameters": wire.messages(8, _parameters_item),
    "responses": wire.message(9, _responses),
    "schemes": wire.strings(10),
    "deprecated": wire.boolean(11),
    "security": wire.messages(12, _security_requirement),
}


def _operation(document: Object) -> bytes:
    return _fields(_OPERATION, document, 13)


_PATH_ITEM: Final[Mapping[str, Field]] = {
    "$ref": wire.string(1),
    "get": wire.message(2, _operation),
    "put": wire.message(3, _operation),
    "post": wire.message(4, _operation),
    "delete": wire.message(5, _operation),
    "options": wire.message(6, _operation),
    "head": wire.message(7, _operation),
    "patch": wire.message(8, _operation),
    "parameters": wire.messages(9, _parameters_item),
}


def _path_item(document: Object) -> bytes:
    return _fields(_PATH_ITEM, document, 10)


def _paths(document: Object) -> bytes:
    items = {name: value for name, value in document.items() if not name.startswith("x-")}
    return _extensions(1, document) + wire.named(2, _path_item, items)


def _contact(document: Object) -> bytes:
    return _fields({"name": wire.string(1), "url": wire.string(2), "email": wire.string(3)}, document, 4)


def _license(document: Object) -> bytes:
    return _fields({"name": wire.string(1), "url": wire.string(2)}, document, 3)


_INFO: Final[Mapping[str, Field]] = {
    "title": wire.string(1),
    "version": wire.string(2),
    "description": wire.string(3),
    "termsOfService": wire.string(4),
    "contact": wire.message(5, _contact),
    "license": wire.message(6, _license),
}


def _info(document: Object) -> bytes:
    return _fields(_INFO, document, 7)


def _security_definition(document: Object) -> bytes:
    """Basic authentication and API keys. OAuth 2 schemes do not occur in these documents and are left empty."""
    match document.get("type"):
        case "basic":
            return wire.delimited(1, _fields({"type": wire.string(1), "description": wire.string(2)}, document, 3))
        case "apiKey":
            table = {
                "type": wire.string(1),
                "name": wire.string(2),
                "in": wire.string(3),
                "description": wire.string(4),
            }
            return wire.delimited(2, _fields(table, document, 5))
        case _:
            return b""


def _tag_object(document: Object) -> bytes:
    table = {"name": wire.string(1), "description": wire.string(2), "externalDocs": wire.message(3, _external_docs)}
    return _fields(table, document, 4)


_DOCUMENT: Final[Mapping[str, Field]] = {
    "swagger": wire.string(1),
    "info": wire.message(2, _info),
    "host": wire.string(3),
    "basePath": wire.string(4),
    "schemes": wire.strings(5),
    "consumes": wire.strings(6),
    "produces": wire.strings(7),
    "paths": wire.message(8, _paths),
    "definitions": wire.mapping(9, _schema),
    "parameters": wire.mapping(10, _parameter),
    "responses": wire.mapping(11, _response),
    "security": wire.messages(12, _security_requirement),
    "securityDefinitions": wire.mapping(13, _security_definition),
    "tags": wire.messages(14, _tag_object),
    "externalDocs": wire.message(15, _external_docs),
}


def encode_v2(doc: Object) -> bytes:
    """The wire form of an OpenAPI v2 document. ValueError when something in it has another type than OpenAPI says."""
    try:
        return _fields(_DOCUMENT, doc, 16)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not an OpenAPI v2 document: {error}") from error
