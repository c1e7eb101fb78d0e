"""The entry point: media types, documents that are no patch, results that are no object."""

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.json_values import MAX_DEPTH
from apimachinery.patch import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, apply_patch
from apimachinery.schema.object_meta import Schema
from apimachinery.status import APIError
from apimachinery.types import Object

TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH)
SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "parts": {
                    "type": "array",
                    "items": {"type": "object"},
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        }
    },
}
LIVE: Object = {
    "apiVersion": "example.com/v1",
    "kind": "Widget",
    "metadata": {"name": "w", "finalizers": ["a/b"], "labels": {"x": "y"}},
    "spec": {"parts": [{"name": "a", "v": 1}], "free": {"k": [1]}},
}


def error_of(media_type: str, body: bytes, live: Object = LIVE) -> APIError:
    with pytest.raises(APIError) as caught:
        apply_patch(media_type, live, body, SCHEMA)
    return caught.value


@pytest.mark.parametrize(
    ("media_type", "patch", "parts"),
    [
        (
            JSON_PATCH,
            [{"op": "add", "path": "/spec/parts/-", "value": {"name": "b"}}],
            [{"name": "a", "v": 1}, {"name": "b"}],
        ),
        (MERGE_PATCH, {"spec": {"parts": [{"name": "b"}]}}, [{"name": "b"}]),
        (STRATEGIC_MERGE_PATCH, {"spec": {"parts": [{"name": "b"}]}}, [{"name": "b"}, {"name": "a", "v": 1}]),
    ],
)
def test_each_type_has_its_way_with_lists(media_type: str, patch: Any, parts: list[Object]) -> None:
    before = copy.deepcopy(LIVE)
    result = apply_patch(media_type, LIVE, orjson.dumps(patch), SCHEMA)
    assert before == LIVE
    assert result == {**LIVE, "spec": {**LIVE["spec"], "parts": parts}}


def test_strategic_merge_knows_the_lists_of_metadata() -> None:
    body = orjson.dumps({"metadata": {"finalizers": ["c/d"], "ownerReferences": [{"uid": "1"}]}})
    result = apply_patch(STRATEGIC_MERGE_PATCH, LIVE, body, SCHEMA)
    assert result["metadata"]["finalizers"] == ["c/d", "a/b"]
    body = orjson.dumps({"metadata": {"ownerReferences": [{"uid": "1", "name": "x"}, {"uid": "2"}]}})
    result = apply_patch(STRATEGIC_MERGE_PATCH, result, body, SCHEMA)
    assert result["metadata"]["ownerReferences"] == [{"uid": "1", "name": "x"}, {"uid": "2"}]


@pytest.mark.parametrize("media_type", [APPLY_PATCH, "application/json", "", "application/merge-patch+json; a=b"])
def test_other_media_types(media_type: str) -> None:
    error = error_of(media_type, b"{}")
    assert (error.code, error.reason) == (415, "UnsupportedMediaType")
    assert error.message == (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nope",
        b"\xff\xfe",
        b'{"a":1}x',
        b'{"a":NaN}',
        b'{"a":"\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 5000,
    ],
    ids=lambda body: f"{body!r:.24}",
)
@pytest.mark.parametrize("media_type", TYPES)
def test_bodies_that_do_not_decode(media_type: str, body: bytes) -> None:
    error = error_of(media_type, body)
    assert (error.code, error.reason) == (400, "BadRequest")
    assert error.message.startswith("error decoding patch: ")
    assert len(error.message) < 300


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize("media_type", [MERGE_PATCH, STRATEGIC_MERGE_PATCH])
def test_depth(media_type: str) -> None:
    assert apply_patch(media_type, LIVE, nested(MAX_DEPTH), SCHEMA)["a"]
    assert apply_patch(media_type, apply_patch(media_type, LIVE, nested(MAX_DEPTH), SCHEMA), nested(MAX_DEPTH), SCHEMA)
    error = error_of(media_type, nested(MAX_DEPTH + 1))
    assert (error.code, error.message) == (400, "error decoding patch: exceeded max depth")


def test_a_patch_must_not_build_a_deep_object() -> None:
    path = "/spec/free" + "/a" * 190
    deep = orjson.loads(nested(190))
    patch = [
        {"op": "add", "path": "/spec/free/a", "value": deep["a"]},
        {"op": "replace", "path": path, "value": deep},
    ]
    assert error_of(JSON_PATCH, orjson.dumps(patch)).code == 422


@pytest.mark.parametrize("media_type", [MERGE_PATCH, STRATEGIC_MERGE_PATCH])
@pytest.mark.parametrize(("body", "kind"), [(b"[]", "array"), (b"null", "null"), (b'"x"', "string"), (b"1", "integer")])
def test_merge_patches_are_objects(media_type: str, body: bytes, kind: str) -> None:
    error = error_of(media_type, body)
    assert (error.code, error.message) == (400, f"error decoding patch: expected a JSON object, got {kind}")


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_a_result_is_an_object(value: Any) -> None:
    error = error_of(JSON_PATCH, orjson.dumps([{"op": "replace", "path": "", "value": value}]))
    assert (error.code, error.reason) == (422, "Invalid")


KEYS = st.sampled_from(
    [
        *("spec", "parts", "free", "metadata", "finalizers", "name", "uid", "ownerReferences", "$patch", "$retainKeys"),
        "$setElementOrder/parts",
        "$deleteFromPrimitiveList/finalizers",
        "$setElementOrder/finalizers",
        "$setElementOrder",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["a", "merge", "replace", "delete", "a/b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=14,
)


def outcome(media_type: str, body: bytes) -> Object | int:
    """The patched object, or the code of the error."""
    try:
        return apply_patch(media_type, LIVE, body, SCHEMA)
    except APIError as error:
        return error.code


@given(st.sampled_from(TYPES), JSON | st.dictionaries(KEYS, JSON, max_size=4))
def test_any_patch_applies_or_is_an_api_error(media_type: str, patch: Any) -> None:
    before = copy.deepcopy(LIVE)
    result = outcome(media_type, orjson.dumps(patch))
    assert isinstance(result, dict) or result in (400, 422)
    spoil(result)
    assert before == LIVE


@given(st.sampled_from(TYPES), st.binary(max_size=40))
def test_any_body_applies_or_is_an_api_error(media_type: str, body: bytes) -> None:
    result = outcome(media_type, body)
    assert isinstance(result, dict) or result in (400, 422)


def spoil(value: Any) -> None:
    """Change every container inside of a value."""
    for item in list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()):
        spoil(item)
    if isinstance(value, dict):
        value["spoiled"] = True
    elif isinstance(value, list):
        value.append("spoiled")
