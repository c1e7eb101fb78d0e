"""Query parameters, and the options of writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery import options
from apimachinery.options import OptionsKind, WriteOptions
from apimachinery.status import APIError

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
