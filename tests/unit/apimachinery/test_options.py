from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery import options
from apimachinery.options import DeleteOptions, OptionsKind, WriteOptions
from apimachinery.status import APIError
from apimachinery.types import Object

Query = dict[str, list[str]]


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        ("", {}),
        ("a=1&a=2&b=", {"a": ["1", "2"], "b": [""]}),
        ("watch", {"watch": [""]}),
        (b"a=%20b+c", {"a": [" b c"]}),
        (b"a=%ff", {"a": ["�"]}),
        ("fieldSelector=metadata.name%3Dx", {"fieldSelector": ["metadata.name=x"]}),
        ("&&=&a", {"": [""], "a": [""]}),
    ],
    ids=str,
)
def test_parse_query(raw: str | bytes, query: Query) -> None:
    assert options.parse_query(raw) == query


@pytest.mark.parametrize(
    ("text", "value"),
    [("", True), ("true", True), ("1", True), ("no", True), ("0", False), ("false", False), ("FALSE", False)],
)
def test_parse_bool(text: str, value: bool) -> None:
    assert options.parse_bool(text) is value


def write(query: Query, kind: OptionsKind = "CreateOptions", agent: str = "kubectl/1", **more: bool) -> WriteOptions:
    return options.parse_write_options(query, kind=kind, user_agent=agent, **more)


def test_write_defaults() -> None:
    assert write({}) == WriteOptions(dry_run=False, field_manager="kubectl", field_validation="Warn", force=None)


def test_write_all_given() -> None:
    query = {"dryRun": ["All", "All"], "fieldManager": ["me"], "fieldValidation": ["Strict"], "force": ["true"]}
    assert write(query, "PatchOptions", apply_patch=True) == WriteOptions(
        dry_run=True, field_manager="me", field_validation="Strict", force=True
    )


def test_force_means_nothing_outside_of_patches() -> None:
    assert write({"force": ["true"]}, "UpdateOptions").force is None


@pytest.mark.parametrize(
    ("agent", "manager"),
    [
        ("kubectl/v1.32.0 (linux/amd64)", "kubectl"),
        ("python", "python"),
        ("", "unknown"),
        ("/x", "unknown"),
        ("a\tb\x00c/1", "abc"),
        ("x" * 200, "x" * 128),
        ("ü" * 100, "ü" * 64),
        ("\u200b/1", "unknown"),
    ],
)
def test_default_field_manager(agent: str, manager: str) -> None:
    assert options.default_field_manager(agent) == manager


@pytest.mark.parametrize(
    ("kind", "query", "apply_patch", "message"),
    [
        pytest.param(
            "CreateOptions",
            {"dryRun": ["x"]},
            False,
            'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["x"]: supported values: "All"',
            id="dry run",
        ),
        pytest.param(
            "UpdateOptions",
            {"dryRun": ["All", ""]},
            False,
            'UpdateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["All",""]: supported values: "All"',
            id="dry run, one of several",
        ),
        pytest.param(
            "CreateOptions",
            {"fieldManager": ["m" * 129]},
            False,
            'CreateOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes',
            id="manager too long",
        ),
        pytest.param(
            "CreateOptions",
            {"fieldManager": ["ü\ta"]},
            False,
            'CreateOptions.meta.k8s.io "" is invalid: fieldManager: Invalid value: "ü\\ta": '
            "invalid character U+0009 (at position 2)",
            id="manager not printable",
        ),
        pytest.param(
            "CreateOptions",
            {"fieldValidation": ["strict"]},
            False,
            'CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "strict": '
            'supported values: "", "Ignore", "Strict", "Warn"',
            id="field validation",
        ),
        pytest.param(
            "PatchOptions",
            {"force": ["false"]},
            False,
            'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch',
            id="force without apply",
        ),
        pytest.param(
            "PatchOptions",
            {},
            True,
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
            id="apply without manager",
        ),
        pytest.param(
            "PatchOptions",
            {"force": ["1"], "dryRun": ["a"]},
            False,
            'PatchOptions.meta.k8s.io "" is invalid: [force: Forbidden: may not be specified for non-apply patch, '
            'dryRun: Unsupported value: ["a"]: supported values: "All"]',
            id="several faults",
        ),
    ],
)
def test_write_errors(kind: OptionsKind, query: Query, apply_patch: bool, message: str) -> None:
    with pytest.raises(APIError) as caught:
        write(query, kind, apply_patch=apply_patch)
    assert (caught.value.code, caught.value.reason, caught.value.message) == (422, "Invalid", message)
    details = caught.value.status["details"]
    assert (details["group"], details["kind"]) == ("meta.k8s.io", kind)
    assert "name" not in details


def test_list_defaults() -> None:
    parsed = options.parse_list_options({})
    assert parsed.label_selector.empty
    assert parsed.field_selector.empty
    assert (parsed.limit, parsed.continue_, parsed.resource_version, parsed.resource_version_match) == (0, "", "", "")
    assert (parsed.timeout_seconds, parsed.watch, parsed.allow_watch_bookmarks) == (None, False, False)
    assert parsed.send_initial_events is None


def test_list_all_given() -> None:
    parsed = options.parse_list_options(
        {
            "labelSelector": ["a=b"],
            "fieldSelector": ["metadata.name=x"],
            "limit": ["500"],
            "resourceVersion": ["12"],
            "resourceVersionMatch": ["NotOlderThan"],
            "timeoutSeconds": ["30"],
            "watch": [""],
            "allowWatchBookmarks": ["true"],
            "sendInitialEvents": ["true"],
        }
    )
    assert parsed.label_selector.matches({"a": "b"})
    assert not parsed.label_selector.matches({"a": "c"})
    assert parsed.field_selector.exact("metadata.name") == "x"
    assert (parsed.limit, parsed.resource_version, parsed.resource_version_match) == (500, "12", "NotOlderThan")
    assert (parsed.timeout_seconds, parsed.watch, parsed.allow_watch_bookmarks) == (30, True, True)
    assert parsed.send_initial_events is True


@pytest.mark.parametrize(
    ("query", "limit", "timeout"),
    [
        ({"limit": ["-1"], "timeoutSeconds": ["0"]}, 0, None),
        ({"limit": ["+7"], "timeoutSeconds": ["-5"]}, 7, None),
        ({"limit": ["9223372036854775807"]}, 2**63 - 1, None),
        ({"limit": ["0" * 5000 + "3"]}, 3, None),
    ],
    ids=["none", "signs", "greatest", "leading zeros"],
)
def test_list_numbers(query: Query, limit: int, timeout: int | None) -> None:
    parsed = options.parse_list_options(query)
    assert (parsed.limit, parsed.timeout_seconds) == (limit, timeout)


INVALID = 'ListOptions.meta.k8s.io "" is invalid: '


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        pytest.param({"limit": ["abc"]}, 400, 'strconv.ParseInt: parsing "abc": invalid syntax', id="limit"),
        pytest.param({"limit": [""]}, 400, 'strconv.ParseInt: parsing "": invalid syntax', id="limit empty"),
        pytest.param({"limit": ["１"]}, 400, 'strconv.ParseInt: parsing "１": invalid syntax', id="wide digit"),
        pytest.param({"timeoutSeconds": ["1.5"]}, 400, 'strconv.ParseInt: parsing "1.5": invalid syntax', id="timeout"),
        pytest.param(
            {"limit": ["9223372036854775808"]},
            400,
            'strconv.ParseInt: parsing "9223372036854775808": value out of range',
            id="limit too great",
        ),
        pytest.param({"limit": ["9" * 5000]}, 400, "value out of range", id="limit enormous"),
        pytest.param({"labelSelector": ["a b"]}, 400, "unable to parse requirement: ", id="label selector"),
        pytest.param({"fieldSelector": ["a"]}, 400, "invalid selector: 'a'; can't understand 'a'", id="field selector"),
        pytest.param(
            {"continue": ["t"], "resourceVersion": ["5"]},
            400,
            "specifying resource version is not allowed when using continue",
            id="continue with version",
        ),
        pytest.param(
            {"resourceVersionMatch": ["Exact"]},
            422,
            INVALID
            + "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            id="match without version",
        ),
        pytest.param(
            {"resourceVersionMatch": ["Exact"], "resourceVersion": ["0"]},
            422,
            INVALID
            + 'resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
            id="exactly zero",
        ),
        pytest.param(
            {"resourceVersionMatch": ["x"], "resourceVersion": ["1"]},
            422,
            INVALID + 'resourceVersionMatch: Unsupported value: "x": supported values: "Exact", "NotOlderThan", ""',
            id="match unknown",
        ),
        pytest.param(
            {"resourceVersionMatch": ["NotOlderThan"], "resourceVersion": ["1"], "continue": ["t"]},
            422,
            INVALID + "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
            id="match with continue",
        ),
        pytest.param(
            {"sendInitialEvents": ["true"]},
            422,
            INVALID + "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            id="initial events in a list",
        ),
        pytest.param(
            {"watch": ["1"], "sendInitialEvents": ["false"]},
            422,
            INVALID + "resourceVersionMatch: Forbidden: "
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            id="initial events without match",
        ),
        pytest.param(
            {"watch": ["1"], "resourceVersionMatch": ["NotOlderThan"]},
            422,
            INVALID + "resourceVersionMatch: Forbidden: "
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            id="match in a watch",
        ),
        pytest.param(
            {"watch": ["1"], "resourceVersionMatch": ["Exact"], "sendInitialEvents": ["true"]},
            422,
            INVALID + "[resourceVersionMatch: Forbidden: "
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, "
            'resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]',
            id="wrong match in a watch",
        ),
        pytest.param(
            {"watch": ["1"], "resourceVersionMatch": ["NotOlderThan"], "sendInitialEvents": ["1"], "continue": ["t"]},
            422,
            INVALID + "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
            id="continue in a watch",
        ),
    ],
)
def test_list_errors(query: Query, code: int, message: str) -> None:
    with pytest.raises(APIError) as caught:
        options.parse_list_options(query)
    assert caught.value.code == code
    if message.endswith((": ", "range")):
        assert message in caught.value.message
    else:
        assert caught.value.message == message


def test_continue_goes_with_version_zero() -> None:
    assert options.parse_list_options({"continue": ["t"], "resourceVersion": ["0"]}).continue_ == "t"


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


PARAMETERS = st.sampled_from(
    [
        "dryRun",
        "fieldManager",
        "fieldValidation",
        "force",
        "limit",
        "continue",
        "labelSelector",
        "fieldSelector",
        "resourceVersion",
        "resourceVersionMatch",
        "sendInitialEvents",
        "timeoutSeconds",
        "watch",
        "gracePeriodSeconds",
        "propagationPolicy",
        "orphanDependents",
    ]
)
VALUES = st.text(max_size=8) | st.sampled_from(["All", "true", "1", "a=b", "a in (b)", "Exact", "-1", "!"])


@given(st.dictionaries(PARAMETERS, st.lists(VALUES, max_size=2), max_size=6))
def test_queries_raise_nothing_but_api_errors(query: Query) -> None:
    outcomes: list[object] = []
    for parse in (
        lambda: write(query, "PatchOptions"),
        lambda: options.parse_list_options(query),
        lambda: options.parse_delete_options(query, None),
    ):
        try:
            outcomes.append(parse())
        except APIError as error:
            outcomes.append(error.status)
    assert len(outcomes) == 3


@given(st.binary(max_size=60))
def test_any_bytes_are_a_query(raw: bytes) -> None:
    parsed = options.parse_query(raw)
    assert all(values for values in parsed.values())
