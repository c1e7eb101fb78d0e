from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.api.apiservice_protobuf import APISERVICE
from apimachinery.protobuf import PREFIX, Field, Kind, Label, Message, ProtobufError, decode
from apimachinery.protobuf.message import FIELD_LIMIT, of
from apimachinery.protobuf.meta import DELETE_OPTIONS, OBJECT_META, STATUS
from apimachinery.protobuf.reviews import (
    SELF_SUBJECT_REVIEW,
    SELF_SUBJECT_RULES_REVIEW,
    SUBJECT_ACCESS_REVIEW,
    TOKEN_REVIEW,
)
from tests.support.protobuf import body, content, number, varint

EVERY_KIND = Message(
    {
        1: Field("text"),
        2: Field("flag", Kind.BOOL),
        3: Field("small", Kind.INT32),
        4: Field("large", Kind.INT64),
        5: Field("data", Kind.BYTES),
        6: Field("when", Kind.TIME),
        7: Field("raw", Kind.RAW),
        8: of(Message({1: Field("a"), 2: Field("b")}), "inner"),
        9: Field("texts", label=Label.REPEATED),
        10: Field("map", label=Label.MAP),
        11: Field("extra", Kind.STRINGS, label=Label.MAP),
        12: Field("maybe", Kind.INT32, optional=True),
        13: Field("maybeText", optional=True),
    }
)


def entry(key: str, value: bytes) -> bytes:
    return content(1, key) + value


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", {}),
        (content(1, "x") + content(1, "y"), {"text": "y"}),
        (content(1, "x") + content(1, ""), {}),
        (content(1, "grün"), {"text": "grün"}),
        (number(2, 1), {"flag": True}),
        (number(2, 0), {}),
        (number(3, 5), {"small": 5}),
        (number(3, -5), {"small": -5}),
        (number(3, 2**32 + 7), {"small": 7}),
        (number(4, -(2**63)), {"large": -(2**63)}),
        (number(4, 2**63 - 1), {"large": 2**63 - 1}),
        (content(5, b"\x00\xff"), {"data": "AP8="}),
        (content(6, number(1, 0) + number(2, 5)), {"when": "1970-01-01T00:00:00Z"}),
        (content(6, number(1, -62135596800)), {"when": "0001-01-01T00:00:00Z"}),
        (content(6, b""), {}),
        (content(7, content(1, '{"f:spec":{}}')), {"raw": {"f:spec": {}}}),
        (content(7, b""), {}),
        (content(8, b""), {"inner": {}}),
        (content(8, content(1, "x")) + content(8, content(2, "y")), {"inner": {"a": "x", "b": "y"}}),
        (content(9, "x") + content(9, "") + content(9, "y"), {"texts": ["x", "", "y"]}),
        (content(10, entry("k", content(2, "v"))) + content(10, entry("e", b"")), {"map": {"k": "v", "e": ""}}),
        (content(10, entry("k", content(2, "v"))) + content(10, entry("k", content(2, "w"))), {"map": {"k": "w"}}),
        (content(11, entry("k", content(2, content(1, "a") + content(1, "b")))), {"extra": {"k": ["a", "b"]}}),
        (number(12, 0) + content(13, ""), {"maybe": 0, "maybeText": ""}),
        (number(99, 1) + content(98, "x") + content(1, "y"), {"text": "y"}),
        (varint(97 << 3 | 5) + b"1234" + varint(96 << 3 | 1) + b"12345678", {}),
        (varint(20 << 3 | 3) + content(1, "hidden") + varint(20 << 3 | 4) + content(1, "seen"), {"text": "seen"}),
    ],
    ids=[
        "empty",
        "last-counts",
        "emptied",
        "utf-8",
        "true",
        "false",
        "int32",
        "negative-int32",
        "cut-int32",
        "least-int64",
        "greatest-int64",
        "bytes",
        "epoch",
        "first-year",
        "no-time",
        "raw",
        "no-raw",
        "empty-message",
        "merged-message",
        "repeated",
        "map",
        "map-last-counts",
        "map-of-lists",
        "presence",
        "unknown-fields",
        "unknown-fixed",
        "group",
    ],
)
def test_values(raw: bytes, expected: dict[str, Any]) -> None:
    assert decode(body(raw), EVERY_KIND) == expected


def test_the_envelope_names_the_kind() -> None:
    found = decode(body(content(1, "x"), "apps/v1", "Deployment"), EVERY_KIND)
    assert found == {"apiVersion": "apps/v1", "kind": "Deployment", "text": "x"}
    assert decode(PREFIX + content(1, content(2, "K")), EVERY_KIND) == {"kind": "K"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty data"),
        (b'{"kind":"x"}', r"does not appear to be a protobuf message, expected prefix \[107 56 115 0\]"),
        (b"k8s", "does not appear to be a protobuf message"),
        (PREFIX, "empty body"),
        (body(content(1, "abc"))[:-6], "unexpected EOF"),
        (body(varint(1 << 3 | 2) + varint(2**40) + b"x"), "unexpected EOF"),
        (body(b"\xff" * 10), "integer overflow"),
        (body(b"\xff" * 9 + b"\x7f"), "integer overflow"),
        (body(varint(0)), "illegal tag 0"),
        (body(varint(1 << 3 | 6)), "illegal wireType 6"),
        (body(varint(1 << 3 | 5) + b"123"), "unexpected EOF"),
        (body(varint(5 << 3 | 4)), "unexpected end of group"),
        (body(varint(5 << 3 | 3)), "unexpected EOF"),
        (body(number(1, 5)), "wrong wireType = 0 for field text"),
        (body(content(3, "x")), "wrong wireType = 2 for field small"),
        (body(number(10, 1)), "wrong wireType = 0 for field map"),
        (body(content(1, b"\xff")), "field text: string is not valid UTF-8"),
        (body(content(6, number(1, 2**62))), "field when: .* is not a time in the years 1 to 9999"),
        (body(content(7, content(1, "{"))), "field raw: unexpected end of data"),
        (body(content(7, content(1, "[" * 500 + "]" * 500))), "field raw: exceeded max depth"),
        (body(content(9, "") * (FIELD_LIMIT + 1)), f"more than {FIELD_LIMIT} fields"),
        (body(content(10, content(1, "") * 60_000) * 2), f"more than {FIELD_LIMIT} fields"),
    ],
    ids=[
        "empty",
        "json",
        "short-prefix",
        "prefix-alone",
        "truncated",
        "huge-length",
        "endless-varint",
        "65-bits",
        "field-0",
        "wire-type-6",
        "short-fixed",
        "stray-end",
        "open-group",
        "number-for-text",
        "text-for-number",
        "number-for-map",
        "utf-8",
        "time",
        "raw",
        "deep-raw",
        "many-fields",
        "many-fields-below",
    ],
)
def test_hostile_bodies(data: bytes, message: str) -> None:
    with pytest.raises(ProtobufError, match=message):
        decode(data, EVERY_KIND)


_MESSAGES = [EVERY_KIND, APISERVICE, DELETE_OPTIONS, STATUS, TOKEN_REVIEW, SUBJECT_ACCESS_REVIEW]


@given(data=st.binary(max_size=200), message=st.sampled_from(_MESSAGES))
def test_any_bytes_are_read_or_refused(data: bytes, message: Message) -> None:
    for candidate in (PREFIX + data, body(data)):
        try:
            found = decode(candidate, message)
        except ProtobufError:
            continue
        assert isinstance(found, dict)


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_survive(value: int) -> None:
    assert decode(body(number(4, value)), EVERY_KIND).get("large", 0) == value


_OWNER = content(1, "Zone") + content(3, "z") + content(4, "u1") + content(5, "v1") + number(6, 1) + number(7, 0)
_MANAGED = (
    content(1, "kubectl")
    + content(2, "Update")
    + content(3, "v1")
    + content(4, number(1, 60))
    + content(6, "FieldsV1")
    + content(7, content(1, '{"f:spec":{}}'))
    + content(8, "")
)


def test_object_meta() -> None:
    raw = (
        content(1, "a")
        + content(2, "")
        + content(3, "ns")
        + content(5, "u0")
        + content(6, "7")
        + number(7, 2)
        + content(8, b"")
        + content(9, number(1, 60))
        + number(10, 0)
        + content(11, entry("x", content(2, "y")))
        + content(12, entry("note", content(2, "")))
        + content(13, _OWNER)
        + content(14, "example.com/hold")
        + content(17, _MANAGED)
    )
    assert decode(body(raw), OBJECT_META) == {
        "name": "a",
        "namespace": "ns",
        "uid": "u0",
        "resourceVersion": "7",
        "generation": 2,
        "deletionTimestamp": "1970-01-01T00:01:00Z",
        "deletionGracePeriodSeconds": 0,
        "labels": {"x": "y"},
        "annotations": {"note": ""},
        "ownerReferences": [
            {
                "kind": "Zone",
                "name": "z",
                "uid": "u1",
                "apiVersion": "v1",
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
        "finalizers": ["example.com/hold"],
        "managedFields": [
            {
                "manager": "kubectl",
                "operation": "Update",
                "apiVersion": "v1",
                "time": "1970-01-01T00:01:00Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {}},
            }
        ],
    }


def test_delete_options() -> None:
    raw = number(1, 0) + content(2, content(1, "u") + content(2, "7")) + content(4, "Orphan") + content(5, "All")
    assert decode(body(raw, "v1", "DeleteOptions"), DELETE_OPTIONS) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u", "resourceVersion": "7"},
        "propagationPolicy": "Orphan",
        "dryRun": ["All"],
    }
    assert decode(body(number(3, 0)), DELETE_OPTIONS) == {"orphanDependents": False}


def test_api_service() -> None:
    service = content(1, "ns") + content(2, "svc") + number(3, 7443)
    spec = content(1, service) + content(2, "g.example.com") + content(3, "v1") + number(4, 0) + content(5, b"PEM")
    condition = (
        content(1, "Available") + content(2, "True") + content(3, number(1, 0)) + content(4, "R") + content(5, "m")
    )
    raw = (
        content(1, content(1, "v1.g.example.com"))
        + content(2, spec + number(7, 100) + number(8, 10))
        + content(3, content(1, condition))
    )
    assert decode(body(raw), APISERVICE) == {
        "metadata": {"name": "v1.g.example.com"},
        "spec": {
            "service": {"namespace": "ns", "name": "svc", "port": 7443},
            "group": "g.example.com",
            "version": "v1",
            "caBundle": "UEVN",
            "groupPriorityMinimum": 100,
            "versionPriority": 10,
        },
        "status": {
            "conditions": [
                {
                    "type": "Available",
                    "status": "True",
                    "lastTransitionTime": "1970-01-01T00:00:00Z",
                    "reason": "R",
                    "message": "m",
                }
            ]
        },
    }


@pytest.mark.parametrize(
    ("message", "raw", "expected"),
    [
        (TOKEN_REVIEW, content(2, content(1, "t") + content(2, "a")), {"spec": {"token": "t", "audiences": ["a"]}}),
        (
            SUBJECT_ACCESS_REVIEW,
            content(2, content(1, content(2, "get") + content(5, "pods")) + content(3, "u") + content(6, "id")),
            {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}, "user": "u", "uid": "id"}},
        ),
        (SELF_SUBJECT_RULES_REVIEW, content(2, content(1, "ns")), {"spec": {"namespace": "ns"}}),
        (
            SELF_SUBJECT_REVIEW,
            content(2, content(1, content(4, entry("k", content(2, content(1, "v")))))),
            {"status": {"userInfo": {"extra": {"k": ["v"]}}}},
        ),
        (
            STATUS,
            content(2, "Failure") + content(5, number(5, 3)) + number(6, 404),
            {
                "status": "Failure",
                "details": {"retryAfterSeconds": 3},
                "code": 404,
            },
        ),
    ],
    ids=["token", "access", "rules", "self", "status"],
)
def test_reviews(message: Message, raw: bytes, expected: dict[str, Any]) -> None:
    assert decode(body(raw), message) == expected
