from datetime import datetime
from typing import Any

import pytest

from apimachinery import table
from apimachinery.status import APIError
from apimachinery.table import AGE_COLUMN, DEFAULT_COLUMNS, NAME_COLUMN, Column
from apimachinery.types import Object

MINUTE, HOUR, DAY = 60, 3600, 86400
YEAR = 365 * DAY


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"),
        (-1.9, "0s"),
        (-1, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (10 * MINUTE - 1, "9m59s"),
        (10 * MINUTE, "10m"),
        (10 * MINUTE + 5, "10m"),
        (180 * MINUTE - 1, "179m"),
        (180 * MINUTE, "3h"),
        (3 * HOUR + 5 * MINUTE, "3h5m"),
        (8 * HOUR - 1, "7h59m"),
        (8 * HOUR, "8h"),
        (48 * HOUR - 1, "47h"),
        (48 * HOUR, "2d"),
        (2 * DAY + HOUR, "2d1h"),
        (8 * DAY - 1, "7d23h"),
        (8 * DAY, "8d"),
        (2 * YEAR - 1, "729d"),
        (2 * YEAR, "2y"),
        (2 * YEAR + DAY, "2y1d"),
        (8 * YEAR - 1, "7y364d"),
        (8 * YEAR, "8y"),
        (100 * YEAR, "100y"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    assert table.human_duration(seconds) == text


CREATED = "2026-01-02T03:04:05Z"
CREATED_AT = datetime.fromisoformat(CREATED).timestamp()


@pytest.mark.parametrize(
    ("timestamp", "text"),
    [
        (CREATED, "5m"),
        ("2026-01-02T04:04:05+01:00", "5m"),
        ("2026-01-02T03:04:05", "5m"),
        (None, "<unknown>"),
        ("", "<unknown>"),
        ("yesterday", "<unknown>"),
        (7, "<unknown>"),
        ("2026-01-02T03:10:05Z", "<invalid>"),
    ],
    ids=["utc", "offset", "naive", "null", "empty", "text", "number", "future"],
)
def test_age(timestamp: Any, text: str) -> None:
    assert table.age({"metadata": {"creationTimestamp": timestamp}}, CREATED_AT + 300) == text


def test_age_without_metadata() -> None:
    assert table.age({}, 0) == "<unknown>"


OBJECT: Object = {
    "apiVersion": "a/v1",
    "kind": "Thing",
    "metadata": {"name": "x", "creationTimestamp": CREATED},
    "spec": {"size": 3},
}
SIZE = Column("Size", "integer", lambda obj, now: obj["spec"]["size"], description="How big", priority=1)


def test_build_default_shape() -> None:
    document = table.build((NAME_COLUMN, SIZE), [OBJECT], list_meta={"resourceVersion": "7"}, now=CREATED_AT)
    assert document == {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "7"},
        "columnDefinitions": [
            {
                "name": "Name",
                "type": "string",
                "format": "name",
                "description": NAME_COLUMN.description,
                "priority": 0,
            },
            {"name": "Size", "type": "integer", "format": "", "description": "How big", "priority": 1},
        ],
        "rows": [
            {
                "cells": ["x", 3],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": OBJECT["metadata"],
                },
            }
        ],
    }


@pytest.mark.parametrize(
    ("include", "version", "row_object"),
    [
        ("None", "v1", None),
        ("Object", "v1", OBJECT),
        (
            "Metadata",
            "v1beta1",
            {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1beta1",
                "metadata": OBJECT["metadata"],
            },
        ),
    ],
)
def test_build_include_object(include: table.IncludeObject, version: str, row_object: Object | None) -> None:
    document = table.build(
        DEFAULT_COLUMNS, [OBJECT], list_meta={}, now=CREATED_AT + 5, include_object=include, version=version
    )
    assert document["apiVersion"] == f"meta.k8s.io/{version}"
    assert document["rows"] == [{"cells": ["x", "5s"], "object": row_object}]


def test_build_without_headers_keeps_cells() -> None:
    document = table.build((AGE_COLUMN,), [OBJECT, {}], list_meta={}, now=CREATED_AT, headers=False)
    assert document["columnDefinitions"] == []
    assert [row["cells"] for row in document["rows"]] == [["0s"], ["<unknown>"]]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("", "Metadata"), ("Metadata", "Metadata"), ("None", "None"), ("Object", "Object")],
    ids=["empty", "metadata", "none", "object"],
)
def test_parse_include_object(text: str, meaning: str) -> None:
    assert table.parse_include_object(text) == meaning


def test_parse_include_object_unknown() -> None:
    with pytest.raises(APIError) as caught:
        table.parse_include_object("object")
    assert caught.value.code == 400
    assert caught.value.message == (
        "Unable to convert to Table as requested: includeObject: "
        "Invalid value: \"object\": must be 'Metadata', 'Object', 'None', or empty"
    )


def test_partial_object_metadata_list() -> None:
    document = table.partial_object_metadata_list({"resourceVersion": "9"}, [OBJECT])
    assert document == {
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "9"},
        "items": [
            {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": OBJECT["metadata"]},
        ],
    }
