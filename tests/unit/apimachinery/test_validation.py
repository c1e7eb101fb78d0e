"""Rules for metadata on create and update: exact texts, and no surprise for odd input."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.field_errors import Path
from apimachinery.names import validate_dns1123_subdomain, validate_path_segment_name
from apimachinery.types import Object
from apimachinery.validation import validate_field_manager, validate_object_meta, validate_object_meta_update

OWNER = {"apiVersion": "apps/v1", "kind": "Thing", "name": "t", "uid": "1"}
SUBDOMAIN = validate_dns1123_subdomain("A")[0]


def errors_of(meta: Object, *, namespaced: bool = False) -> list[str]:
    before = copy.deepcopy(meta)
    found = validate_object_meta(meta, namespaced=namespaced, validate_name=validate_dns1123_subdomain)
    assert meta == before
    return [str(error) for error in found]


@pytest.mark.parametrize(
    "meta",
    [
        {"name": "a"},
        {"name": "a.b-c"},
        {"name": "a", "namespace": ""},
        {"name": "a", "generateName": "a-"},
        {"name": "a", "generation": 0},
        {"name": "a", "labels": {"k": "", "example.com/K": "v_1"}},
        {"name": "a", "labels": None, "annotations": None, "finalizers": None, "ownerReferences": None},
        {"name": "a", "annotations": {"Example.COM/Key": "any text\nat all"}},
        {"name": "a", "annotations": {"k": "x" * (256 * 1024 - 1)}},
        {"name": "a", "finalizers": ["example.com/x", "orphan"]},
        {"name": "a", "ownerReferences": [OWNER, {**OWNER, "controller": True}]},
        {"name": "a", "ownerReferences": [{**OWNER, "apiVersion": "v1"}]},
        {"name": "a", "managedFields": [{"manager": "m", "operation": "Apply", "fieldsType": "FieldsV1"}]},
    ],
    ids=",".join,
)
def test_good_metadata(meta: Object) -> None:
    assert errors_of(meta) == []


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({}, ["metadata.name: Required value: name or generateName is required"]),
        ({"name": ""}, ["metadata.name: Required value: name or generateName is required"]),
        ({"name": "A"}, [f'metadata.name: Invalid value: "A": {SUBDOMAIN}']),
        ({"name": "a", "generateName": "-"}, [f'metadata.generateName: Invalid value: "-": {SUBDOMAIN}']),
        ({"name": "a", "generateName": "A-"}, [f'metadata.generateName: Invalid value: "A-": {SUBDOMAIN}']),
        ({"name": "a", "namespace": "b"}, ["metadata.namespace: Forbidden: not allowed on this type"]),
        (
            {"name": "a", "generation": -1},
            ["metadata.generation: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            {"name": "a", "annotations": {"k": "x" * (256 * 1024)}},
            ["metadata.annotations: Too long: may not be more than 262144 bytes"],
        ),
        (
            {"name": "a", "annotations": {"k": "ü" * (128 * 1024)}},
            ["metadata.annotations: Too long: may not be more than 262144 bytes"],
        ),
        (
            {"name": "a", "finalizers": ["orphan", "foregroundDeletion"]},
            [
                'metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: '
                "finalizer orphan and foregroundDeletion cannot be both set"
            ],
        ),
        (
            {"name": "a", "ownerReferences": [{}]},
            [
                "metadata.ownerReferences[0].apiVersion: Required value: must not be empty",
                "metadata.ownerReferences[0].kind: Required value: must not be empty",
                "metadata.ownerReferences[0].name: Required value: must not be empty",
                "metadata.ownerReferences[0].uid: Required value: must not be empty",
            ],
        ),
        (
            {"name": "a", "ownerReferences": [{**OWNER, "apiVersion": "a/b/c"}]},
            ['metadata.ownerReferences[0].apiVersion: Invalid value: "a/b/c": must be <group>/<version> or <version>'],
        ),
        (
            {"name": "a", "ownerReferences": [{**OWNER, "apiVersion": "a/"}]},
            ['metadata.ownerReferences[0].apiVersion: Invalid value: "a/": must be <group>/<version> or <version>'],
        ),
        (
            {"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "1"}]},
            [
                'metadata.ownerReferences[0]: Invalid value: {"apiVersion":"v1","kind":"Event","name":"e","uid":"1"}: '
                "/v1, Kind=Event is disallowed from being an owner"
            ],
        ),
        (
            {"name": "a", "managedFields": [{}]},
            ["metadata.managedFields[0].operation: Required value: must not be empty"],
        ),
        (
            {"name": "a", "managedFields": [{"operation": "Steal", "fieldsType": "V2", "subresource": "s" * 257}]},
            [
                'metadata.managedFields[0].operation: Unsupported value: "Steal": supported values: "Apply", "Update"',
                'metadata.managedFields[0].fieldsType: Invalid value: "V2": must be `FieldsV1`',
                "metadata.managedFields[0].subresource: Too long: may not be more than 256 bytes",
            ],
        ),
    ],
)
def test_bad_metadata(meta: Object, expected: list[str]) -> None:
    assert errors_of(meta) == expected


@pytest.mark.parametrize(
    ("meta", "path"),
    [
        ({"name": "a", "labels": {"-": "v"}}, "metadata.labels"),
        ({"name": "a", "labels": {"k": "-"}}, "metadata.labels"),
        ({"name": "a", "annotations": {"/k": "v"}}, "metadata.annotations"),
        ({"name": "a", "finalizers": ["a/b/c"]}, "metadata.finalizers"),
        ({"name": "a", "finalizers": [""]}, "metadata.finalizers"),
    ],
)
def test_keys_follow_the_grammar_of_names(meta: Object, path: str) -> None:
    errors = errors_of(meta)
    assert errors
    assert all(error.startswith(f"{path}: Invalid value: ") for error in errors)


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [
        (None, ["metadata.namespace: Required value"]),
        ("", ["metadata.namespace: Required value"]),
        ("ok", []),
        ("a.b", ['metadata.namespace: Invalid value: "a.b": must not contain dots']),
    ],
)
def test_namespaced(namespace: str | None, expected: list[str]) -> None:
    meta: Object = {"name": "a"} if namespace is None else {"name": "a", "namespace": namespace}
    assert errors_of(meta, namespaced=True) == expected


def test_two_controllers() -> None:
    owners = [{**OWNER, "controller": True}, {**OWNER, "name": "u", "controller": True}]
    (error,) = errors_of({"name": "a", "ownerReferences": owners})
    assert error.startswith("metadata.ownerReferences: Invalid value: [{")
    assert error.endswith(
        'Only one reference can have Controller set to true. Found "true" in references for Thing/t and Thing/u'
    )


def test_the_rule_for_names_is_the_callers() -> None:
    errors = validate_object_meta({"name": "v1."}, namespaced=False, validate_name=validate_path_segment_name)
    assert errors == []
    errors = validate_object_meta(
        {"name": "a%/b"}, namespaced=False, validate_name=validate_path_segment_name, path=Path.of("m")
    )
    assert [str(error) for error in errors] == [
        """m.name: Invalid value: "a%/b": may not contain '/'""",
        """m.name: Invalid value: "a%/b": may not contain '%'""",
    ]


OLD: Object = {
    "name": "a",
    "namespace": "n",
    "uid": "1",
    "resourceVersion": "5",
    "generation": 3,
    "creationTimestamp": "2026-01-02T03:04:05Z",
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"labels": {"a": "b"}}, []),
        ({"generation": 4}, []),
        ({"finalizers": ["example.com/x"]}, []),
        ({"name": "b"}, ['metadata.name: Invalid value: "b": field is immutable']),
        ({"namespace": None}, ['metadata.namespace: Invalid value: "": field is immutable']),
        ({"uid": "2"}, ['metadata.uid: Invalid value: "2": field is immutable']),
        (
            {"creationTimestamp": None},
            ["metadata.creationTimestamp: Invalid value: null: field is immutable"],
        ),
        (
            {"deletionTimestamp": "2026-01-02T03:04:05Z"},
            ['metadata.deletionTimestamp: Invalid value: "2026-01-02T03:04:05Z": field is immutable'],
        ),
        (
            {"deletionGracePeriodSeconds": 0},
            ["metadata.deletionGracePeriodSeconds: Invalid value: 0: field is immutable"],
        ),
        (
            {"resourceVersion": ""},
            ['metadata.resourceVersion: Invalid value: "": must be specified for an update'],
        ),
        ({"generation": 2}, ["metadata.generation: Invalid value: 2: must not be decremented"]),
        (
            {"generation": -1},
            [
                "metadata.generation: Invalid value: -1: must be greater than or equal to 0",
                "metadata.generation: Invalid value: -1: must not be decremented",
            ],
        ),
        ({"managedFields": [{}]}, ["metadata.managedFields[0].operation: Required value: must not be empty"]),
    ],
)
def test_update(change: Object, expected: list[str]) -> None:
    errors = validate_object_meta_update({**OLD, **change}, OLD)
    assert [str(error) for error in errors] == expected


def test_update_while_deleting() -> None:
    old = {**OLD, "deletionTimestamp": "2026-01-02T03:04:05Z", "finalizers": ["a/x", "a/y"]}
    assert validate_object_meta_update({**old, "finalizers": ["a/y"]}, old) == []
    errors = validate_object_meta_update({**old, "finalizers": ["a/y", "b/z", "b/q"]}, old)
    assert [str(error) for error in errors] == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"b/q", "b/z"}'
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", []),
        ("kubectl-client-side-apply", []),
        ("ü" * 64, []),
        ("a" * 129, ["fieldManager: Too long: may not be more than 128 bytes"]),
        ("ü\n", [r'fieldManager: Invalid value: "ü\n": invalid character U+000A (at position 2)']),
        (
            "\t\u200b",
            [
                r'fieldManager: Invalid value: "\t\u200b": invalid character U+0009 (at position 0)',
                r'fieldManager: Invalid value: "\t\u200b": invalid character U+200B (at position 1)',
            ],
        ),
    ],
)
def test_field_manager(name: str, expected: list[str]) -> None:
    assert [str(error) for error in validate_field_manager(name, Path.of("fieldManager"))] == expected


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["name", "generateName", "namespace", "uid", "labels", "annotations", "finalizers", "ownerReferences"]


@given(st.dictionaries(st.sampled_from([*FIELDS, "managedFields", "generation", "deletionTimestamp"]), JUNK), JUNK)
def test_any_metadata_is_answered(meta: dict[str, Any], label: Any) -> None:
    meta = (
        {**meta, "labels": {"x": label, **(meta.get("labels") or {})}} if isinstance(meta.get("labels"), dict) else meta
    )
    before = copy.deepcopy(meta)
    validate_object_meta(meta, namespaced=True, validate_name=validate_dns1123_subdomain)
    validate_object_meta_update(meta, OLD)
    validate_object_meta_update(OLD, meta)
    assert repr(meta) == repr(before)
