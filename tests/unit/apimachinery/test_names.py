"""Grammar of names: which pass, and the exact text for those that do not."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery import names

SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_1035 = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
QUALIFIED = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)

Validator = Callable[[str], list[str]]

VALID: list[tuple[Validator, list[str]]] = [
    (
        names.validate_dns1123_subdomain,
        ["a", "0", "a.b", "a-b.c-d", "1.2.3", "a" * 253, ".".join(["a" * 63] * 3), "a" * 64, "a--b"],
    ),
    (names.validate_dns1123_label, ["a", "0", "a-b", "a--b", "a" * 63, "123-abc"]),
    (names.validate_dns1035_label, ["a", "v1", "v1beta2", "a" * 63, "a-1"]),
    (
        names.validate_qualified_name,
        [
            "a",
            "A",
            "MyName",
            "my.name",
            "my_name",
            "a/b",
            "example.com/MyName",
            "a" * 63,
            f"{'a' * 253}/{'b' * 63}",
            "1.2",
        ],
    ),
    (names.validate_label_value, ["", "a", "A_b-c.d", "5", "a" * 63]),
    (names.validate_path_segment_name, ["", "a", "...", "v1.example.com", "v1.", "Über", "a b", ".a"]),
]


@pytest.mark.parametrize(
    ("validator", "value"),
    [(validator, value) for validator, values in VALID for value in values],
    ids=lambda item: f"{item:.24}" if isinstance(item, str) else item.__name__.removeprefix("validate_"),
)
def test_valid(validator: Validator, value: str) -> None:
    assert validator(value) == []


INVALID: list[tuple[str, Validator, str, list[str]]] = [
    ("empty subdomain", names.validate_dns1123_subdomain, "", [SUBDOMAIN]),
    ("upper case", names.validate_dns1123_subdomain, "A", [SUBDOMAIN]),
    ("leading dash", names.validate_dns1123_subdomain, "-a", [SUBDOMAIN]),
    ("trailing dash", names.validate_dns1123_subdomain, "a-", [SUBDOMAIN]),
    ("empty label inside", names.validate_dns1123_subdomain, "a..b", [SUBDOMAIN]),
    ("trailing dot", names.validate_dns1123_subdomain, "a.", [SUBDOMAIN]),
    ("underscore", names.validate_dns1123_subdomain, "a_b", [SUBDOMAIN]),
    ("slash", names.validate_dns1123_subdomain, "a/b", [SUBDOMAIN]),
    ("space", names.validate_dns1123_subdomain, "a b", [SUBDOMAIN]),
    ("final newline", names.validate_dns1123_subdomain, "a\n", [SUBDOMAIN]),
    ("foreign digit", names.validate_dns1123_subdomain, "٣", [SUBDOMAIN]),
    ("long subdomain", names.validate_dns1123_subdomain, "a" * 254, ["must be no more than 253 characters"]),
    ("long and bad", names.validate_dns1123_subdomain, "A" * 254, ["must be no more than 253 characters", SUBDOMAIN]),
    (
        "length in bytes",
        names.validate_dns1123_subdomain,
        "ü" * 127,
        ["must be no more than 253 characters", SUBDOMAIN],
    ),
    ("lone surrogate", names.validate_dns1123_subdomain, "\ud800", [SUBDOMAIN]),
    ("empty label", names.validate_dns1123_label, "", [LABEL]),
    ("dots", names.validate_dns1123_label, "a.b", ["must not contain dots"]),
    ("dots and bad", names.validate_dns1123_label, "a.B", [LABEL]),
    ("long label", names.validate_dns1123_label, "a" * 64, ["must be no more than 63 characters"]),
    ("long label newline", names.validate_dns1123_label, "a\n", [LABEL]),
    ("digit first", names.validate_dns1035_label, "1a", [LABEL_1035]),
    ("1035 empty", names.validate_dns1035_label, "", [LABEL_1035]),
    ("1035 dot", names.validate_dns1035_label, "a.b", [LABEL_1035]),
    ("1035 dash end", names.validate_dns1035_label, "a-", [LABEL_1035]),
    ("1035 long", names.validate_dns1035_label, "a" * 64, ["must be no more than 63 characters"]),
    ("empty key", names.validate_qualified_name, "", ["name part must be non-empty", f"name part {QUALIFIED}"]),
    ("empty prefix", names.validate_qualified_name, "/a", ["prefix part must be non-empty"]),
    ("empty name", names.validate_qualified_name, "a/", ["name part must be non-empty", f"name part {QUALIFIED}"]),
    ("bad prefix", names.validate_qualified_name, "A/b", [f"prefix part {SUBDOMAIN}"]),
    ("long prefix", names.validate_qualified_name, f"{'a' * 254}/b", ["prefix part must be no more than 253 bytes"]),
    ("long name", names.validate_qualified_name, "a" * 64, ["name part must be no more than 63 bytes"]),
    ("bad name", names.validate_qualified_name, "a/-", [f"name part {QUALIFIED}"]),
    (
        "two slashes",
        names.validate_qualified_name,
        "a/b/c",
        [f"a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"],
    ),
    ("label dash", names.validate_label_value, "-", [LABEL_VALUE]),
    ("label space", names.validate_label_value, "a b", [LABEL_VALUE]),
    ("label newline", names.validate_label_value, "a\n", [LABEL_VALUE]),
    ("label long", names.validate_label_value, "a" * 64, ["must be no more than 63 bytes"]),
    ("dot", names.validate_path_segment_name, ".", ["may not be '.'"]),
    ("two dots", names.validate_path_segment_name, "..", ["may not be '..'"]),
    ("path slash", names.validate_path_segment_name, "a/b", ["may not contain '/'"]),
    ("percent", names.validate_path_segment_name, "a%b", ["may not contain '%'"]),
    ("slash and percent", names.validate_path_segment_name, "%/", ["may not contain '/'", "may not contain '%'"]),
]


@pytest.mark.parametrize(
    ("validator", "value", "faults"), [row[1:] for row in INVALID], ids=[row[0] for row in INVALID]
)
def test_invalid(validator: Validator, value: str, faults: list[str]) -> None:
    assert validator(value) == faults


@pytest.mark.parametrize("char", ["a", "A", "-", "a.", "/"], ids=repr)
@pytest.mark.parametrize("validator", [validator for validator, _ in VALID], ids=lambda item: item.__name__)
def test_huge_names_end_quickly(validator: Validator, char: str) -> None:
    assert isinstance(validator(char * 500_000 + "!"), list)


@given(st.text(max_size=80))
def test_labels_are_subdomains_and_label_values(value: str) -> None:
    if not names.validate_dns1123_label(value):
        assert names.validate_dns1123_subdomain(value) == []
        assert names.validate_label_value(value) == []
    if not names.validate_dns1035_label(value):
        assert names.validate_dns1123_label(value) == []
