"""Decodes with a generic reader and field numbers written down apart from the encoder's tables."""

import json
import struct
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.openapi import protobuf, v2, wire
from apimachinery.openapi.model import ResourceModel
from apimachinery.types import Object

Fields = dict[int, list[Any]]


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def read(data: bytes) -> Fields:
    """One message: field number -> values; integers, doubles or raw bytes."""
    fields: Fields = {}
    position = 0
    while position < len(data):
        key, position = read_varint(data, position)
        number, wire_type = key >> 3, key & 7
        value: Any
        if wire_type == 0:
            value, position = read_varint(data, position)
        elif wire_type == 1:
            value = struct.unpack_from("<d", data, position)[0]
            position += 8
        else:
            assert wire_type == 2
            length, position = read_varint(data, position)
            value = data[position : position + length]
            assert len(value) == length
            position += length
        fields.setdefault(number, []).append(value)
    return fields


def named(values: list[bytes]) -> dict[str, Fields]:
    result = {}
    for value in values:
        entry = read(value)
        result[entry[1][0].decode()] = read(entry[2][0])
    return result


def extensions(values: list[bytes]) -> Object:
    return {name: yaml.safe_load(content[2][0]) for name, content in named(values).items()}


@given(st.integers(-(2**63), 2**63 - 1))
def test_varint(value: int) -> None:
    decoded, end = read_varint(wire.varint(value), 0)
    assert end == len(wire.varint(value))
    assert decoded == value % 2**64


def test_document(widget: ResourceModel, dummy: ResourceModel) -> None:
    document = v2.build([widget, dummy], title="shop", version="v1.2.3")
    decoded = read(protobuf.encode_v2(document))
    assert set(decoded) == {1, 2, 8, 9}
    assert decoded[1] == [b"2.0"]
    assert read(decoded[2][0]) == {1: [b"shop"], 2: [b"v1.2.3"]}
    assert list(named(read(decoded[8][0])[2])) == list(document["paths"])
    assert list(named(read(decoded[9][0])[1])) == list(document["definitions"])


def definitions(document: Object) -> dict[str, Fields]:
    return named(read(read(protobuf.encode_v2(document))[9][0])[1])


def test_resource_schema(widget: ResourceModel) -> None:
    schema = definitions(v2.build([widget], title="t", version="v"))["com.example.shop.v1.Widget"]
    assert schema[4] == [b"Widget is a thing."]
    assert read(schema[22][0]) == {1: [b"object"]}
    assert extensions(schema[31]) == {
        "x-kubernetes-group-version-kind": [{"group": "shop.example.com", "version": "v1", "kind": "Widget"}]
    }
    properties = named(read(schema[25][0])[1])
    assert list(properties) == ["apiVersion", "kind", "metadata", "spec", "status"]
    assert properties["metadata"][1] == [b"#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]
    spec = properties["spec"]
    assert spec[19] == [b"size"]
    fields = named(read(spec[25][0])[1])
    assert fields["size"][2] == [b"int32"]
    assert fields["size"][9] == [1.0]
    assert read(read(fields["tags"][23][0])[1][0]) == {22: [wire.delimited(1, b"string")]}
    assert extensions(fields["tags"][31]) == {"x-kubernetes-list-type": "set"}


def test_patch_operation(widget: ResourceModel) -> None:
    document = v2.build([widget], title="t", version="v")
    items = named(read(read(protobuf.encode_v2(document))[8][0])[2])
    item = items["/apis/shop.example.com/v1/widgets/{name}"]
    assert set(item) == {2, 3, 5, 8, 9}
    patch = read(item[8][0])
    assert patch[5] == [b"patchShopExampleComV1Widget"]
    assert b"application/apply-patch+yaml" in patch[7]
    assert extensions(patch[13])["x-kubernetes-action"] == "patch"
    body = read(read(read(patch[8][0])[1][0])[1][0])
    assert (body[2], body[3], body[4]) == ([b"body"], [b"body"], [1])
    query = read(read(read(read(patch[8][1])[1][0])[2][0])[3][0])
    assert (query[2], query[4], query[6]) == ([b"query"], [b"dryRun"], [b"string"])
    shared = read(read(read(read(item[9][0])[1][0])[2][0])[4][0])
    assert (shared[1], shared[2], shared[4], shared[5]) == ([1], [b"path"], [b"name"], [b"string"])
    responses = named(read(patch[9][0])[1])
    assert set(responses) == {"200", "201", "401"}
    ok = read(responses["200"][1][0])
    assert ok[1] == [b"OK"]
    assert read(read(ok[2][0])[1][0]) == {1: [b"#/definitions/com.example.shop.v1.Widget"]}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        pytest.param({"maxLength": 300, "minLength": 1}, {11: [300], 12: [1]}, id="lengths"),
        pytest.param({"maximum": 2.5, "exclusiveMaximum": True}, {7: [2.5], 8: [1]}, id="maximum"),
        pytest.param({"maximum": -1}, {7: [-1.0]}, id="negative"),
        pytest.param({"minLength": 0, "description": "", "uniqueItems": False}, {}, id="defaults take no room"),
        pytest.param({"enum": ["a", 1]}, {20: [b'\x12\x03"a"', b"\x12\x011"]}, id="enum"),
        pytest.param({"default": {"a": [1]}}, {5: [b'\x12\x0a{"a": [1]}']}, id="default"),
        pytest.param({"default": False}, {5: [b"\x12\x05false"]}, id="false default"),
        pytest.param({"additionalProperties": False}, {21: [b"\x10\x00"]}, id="no more properties"),
        pytest.param({"additionalProperties": True}, {21: [b"\x10\x01"]}, id="any more properties"),
        pytest.param({"additionalProperties": {"$ref": "x"}}, {21: [b"\x0a\x03\x0a\x01x"]}, id="map"),
        pytest.param({"type": ["a", "b"]}, {22: [b"\x0a\x01a\x0a\x01b"]}, id="types"),
        pytest.param({"allOf": [{"$ref": "x"}]}, {24: [b"\x0a\x01x"]}, id="all of"),
        pytest.param({"nullable": True, "oneOf": []}, {}, id="unknown"),
        pytest.param({"title": "ü"}, {3: ["ü".encode()]}, id="utf-8"),
    ],
)
def test_schema_fields(schema: Object, expected: Fields) -> None:
    assert definitions({"swagger": "2.0", "definitions": {"D": schema}})["D"] == expected


def test_rest_of_a_document() -> None:
    document = {
        "swagger": "2.0",
        "info": {"title": "t", "version": "v", "contact": {"name": "c"}, "license": {"name": "l"}, "x-i": 1},
        "host": "h",
        "basePath": "/b",
        "schemes": ["https"],
        "security": [{"token": ["a"]}],
        "securityDefinitions": {"token": {"type": "apiKey", "in": "header", "name": "authorization"}},
        "tags": [{"name": "t", "description": "d"}],
        "parameters": {"p": {"in": "header", "name": "h", "type": "array", "items": {"type": "string"}}},
        "responses": {"r": {"description": "d", "headers": {"H": {"type": "string", "description": "x"}}}},
        "paths": {
            "/p": {"get": {"parameters": [{"$ref": "#/parameters/p"}], "responses": {"200": {"$ref": "#/responses/r"}}}}
        },
        "x-d": {"a": None},
    }
    decoded = read(protobuf.encode_v2(document))
    info = read(decoded[2][0])
    assert (read(info[5][0]), read(info[6][0]), extensions(info[7])) == ({1: [b"c"]}, {1: [b"l"]}, {"x-i": 1})
    assert (decoded[3], decoded[4], decoded[5]) == ([b"h"], [b"/b"], [b"https"])
    header = read(read(named(read(decoded[10][0])[1])["p"][2][0])[1][0])
    assert (header[2], header[4], header[5], read(header[7][0])) == ([b"header"], [b"h"], [b"array"], {1: [b"string"]})
    response = named(read(decoded[11][0])[1])["r"]
    assert named(read(response[3][0])[1])["H"] == {1: [b"string"], 18: [b"x"]}
    assert named(read(decoded[12][0])[1]) == {"token": {1: [b"a"]}}
    key = read(named(read(decoded[13][0])[1])["token"][2][0])
    assert key == {1: [b"apiKey"], 2: [b"authorization"], 3: [b"header"]}
    assert read(decoded[14][0]) == {1: [b"t"], 2: [b"d"]}
    operation = read(named(read(decoded[8][0])[2])["/p"][2][0])
    assert read(read(operation[8][0])[2][0]) == {1: [b"#/parameters/p"]}
    assert read(named(read(operation[9][0])[1])["200"][2][0]) == {1: [b"#/responses/r"]}
    assert extensions(decoded[16]) == {"x-d": {"a": None}}


@given(st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab: #\"'ü"), st.lists, max_leaves=5))
def test_extension_values_are_yaml(value: Any) -> None:
    document = {"swagger": "2.0", "x-v": value}
    content = named(read(protobuf.encode_v2(document))[16])["x-v"][2][0]
    assert json.loads(content) == value
    assert yaml.safe_load(content) == value


@pytest.mark.parametrize(
    "document",
    [
        {"definitions": []},
        {"definitions": {"D": {"required": True}}},
        {"paths": {"/p": {"get": {"parameters": [{"in": "cookie"}]}}}},
        {"paths": {"/p": {"get": []}}},
        {"definitions": {"D": {"maxLength": "x"}}},
    ],
    ids=str,
)
def test_malformed(document: Any) -> None:
    with pytest.raises(ValueError):
        protobuf.encode_v2(document)
