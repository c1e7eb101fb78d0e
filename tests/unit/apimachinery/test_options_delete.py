"""The options of deletions."""

from typing import Any

import pytest

from apimachinery import options
from apimachinery.options import DeleteOptions
from apimachinery.status import APIError
from apimachinery.types import Object

Query = dict[str, list[str]]


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        pytest.param({}, None, DeleteOptions(), id="nothing"),
        pytest.param({}, {}, DeleteOptions(), id="empty body"),
        pytest.param(
            {"gracePeriodSeconds": ["0"], "propagationPolicy": ["Orphan"], "dryRun": ["All"]},
            None,
            DeleteOptions(grace_period_seconds=0, propagation_policy="Orphan", dry_run=True),
            id="query",
        ),
        pytest.param(
            {"orphanDependents": ["false"]}, None, DeleteOptions(orphan_dependents=False), id="orphan in the query"
        ),
        pytest.param(
            {"propagationPolicy": ["Orphan"]},
            {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"},
            DeleteOptions(propagation_policy="Background"),
            id="a body hides the query",
        ),
        pytest.param(
            {},
            {
                "gracePeriodSeconds": 5,
                "orphanDependents": True,
                "dryRun": ["All"],
                "preconditions": {"uid": "u", "resourceVersion": "7"},
            },
            DeleteOptions(grace_period_seconds=5, orphan_dependents=True, dry_run=True, uid="u", resource_version="7"),
            id="body",
        ),
        pytest.param({}, {"preconditions": None, "gracePeriodSeconds": None}, DeleteOptions(), id="nulls"),
    ],
)
def test_delete_options(query: Query, body: Object | None, expected: DeleteOptions) -> None:
    assert options.parse_delete_options(query, body) == expected


DELETE_INVALID = 'DeleteOptions.meta.k8s.io "" is invalid: '
UNREADABLE = 'DeleteOptions in version "v1" cannot be handled as a DeleteOptions: json: cannot unmarshal '


@pytest.mark.parametrize(
    ("query", "body", "code", "message"),
    [
        pytest.param(
            {"propagationPolicy": ["x"]},
            None,
            422,
            DELETE_INVALID + 'propagationPolicy: Unsupported value: "x": '
            'supported values: "Foreground", "Background", "Orphan", "nil"',
            id="policy",
        ),
        pytest.param(
            {},
            {"propagationPolicy": "Orphan", "orphanDependents": False},
            422,
            DELETE_INVALID + 'propagationPolicy: Invalid value: "Orphan": '
            "orphanDependents and deletionPropagation cannot be both set",
            id="policy twice",
        ),
        pytest.param(
            {},
            {"dryRun": ["Some"]},
            422,
            DELETE_INVALID + 'dryRun: Unsupported value: ["Some"]: supported values: "All"',
            id="dry run",
        ),
        pytest.param(
            {"gracePeriodSeconds": ["x"]}, None, 400, 'strconv.ParseInt: parsing "x": invalid syntax', id="grace"
        ),
        pytest.param({}, {"kind": "Pod"}, 400, "decoded object cannot be converted to DeleteOptions", id="kind"),
        pytest.param(
            {},
            {"gracePeriodSeconds": "5"},
            400,
            UNREADABLE + "string into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
            id="grace is text",
        ),
        pytest.param(
            {},
            {"gracePeriodSeconds": True},
            400,
            UNREADABLE + "bool into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
            id="grace is a bool",
        ),
        pytest.param(
            {},
            {"preconditions": {"uid": 5}},
            400,
            UNREADABLE + "number into Go struct field DeleteOptions.preconditions.uid of type types.UID",
            id="uid is a number",
        ),
        pytest.param(
            {},
            {"dryRun": "All"},
            400,
            UNREADABLE + "string into Go struct field DeleteOptions.dryRun of type []string",
            id="dry run is text",
        ),
        pytest.param(
            {},
            {"dryRun": [1]},
            400,
            UNREADABLE + "number into Go struct field DeleteOptions.dryRun of type string",
            id="dry run of numbers",
        ),
    ],
)
def test_delete_errors(query: Query, body: Object | None, code: int, message: str) -> None:
    with pytest.raises(APIError) as caught:
        options.parse_delete_options(query, body)
    assert (caught.value.code, caught.value.message) == (code, message)


def test_delete_body_that_is_no_object() -> None:
    body: Any = ["x"]
    with pytest.raises(APIError, match="decoded object cannot be converted to DeleteOptions"):
        options.parse_delete_options({}, body)
