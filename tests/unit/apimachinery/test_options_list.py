"""The options of lists and watches."""

import pytest

from apimachinery import options
from apimachinery.status import APIError

Query = dict[str, list[str]]


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
