"""The grammar of names, labels and keys; every function returns fault texts, none means valid (aggregator.md 1.3).

The texts are the detail part of an `Invalid value` field error. Lengths always count UTF-8 bytes, although the texts
for names speak of characters.
"""

import re
from collections.abc import Iterable
from typing import Final

MAX_SUBDOMAIN: Final = 253
"""Longest DNS-1123 subdomain in bytes."""
MAX_LABEL: Final = 63
"""Longest DNS label, label value or name part of a qualified name in bytes."""

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE: Final = f"({_QUALIFIED})?"

_is_label = re.compile(_LABEL).fullmatch
_is_subdomain = re.compile(_SUBDOMAIN).fullmatch
_is_label_1035 = re.compile(_LABEL_1035).fullmatch
_is_qualified = re.compile(_QUALIFIED).fullmatch
_is_label_value = re.compile(_LABEL_VALUE).fullmatch

_ENDS = "and must start and end with an alphanumeric character"


def _grammar(message: str, pattern: str, examples: Iterable[str]) -> str:
    """A fault text with examples; the odd `'a',  or 'b', ` spacing is how the original lists several."""
    listed = " or ".join(f"'{example}', " for example in examples)
    return f"{message} (e.g. {listed}regex used for validation is '{pattern}')"


_SUBDOMAIN_FAULT: Final = _grammar(
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {_ENDS}",
    _SUBDOMAIN,
    ("example.com",),
)
_LABEL_FAULT: Final = _grammar(
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {_ENDS}",
    _LABEL,
    ("my-name", "123-abc"),
)
_LABEL_1035_FAULT: Final = _grammar(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character",
    _LABEL_1035,
    ("my-name", "abc-123"),
)
_QUALIFIED_FAULT: Final = _grammar(
    f"must consist of alphanumeric characters, '-', '_' or '.', {_ENDS}",
    _QUALIFIED,
    ("MyName", "my.name", "123-abc"),
)
_LABEL_VALUE_FAULT: Final = _grammar(
    f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {_ENDS}",
    _LABEL_VALUE,
    ("MyValue", "my_value", "12345"),
)


def _length_faults(value: str, limit: int, unit: str) -> list[str]:
    # surrogatepass: a lone surrogate is a fault of the grammar, not a reason to fail here.
    if len(value.encode(errors="surrogatepass")) > limit:
        return [f"must be no more than {limit} {unit}"]
    return []


def validate_dns1123_subdomain(value: str) -> list[str]:
    """The faults of a dot-separated lower-case DNS name of at most 253 characters; the usual rule for object names."""
    return _subdomain_faults(value, "characters")


def _subdomain_faults(value: str, unit: str) -> list[str]:
    faults = _length_faults(value, MAX_SUBDOMAIN, unit)
    if not _is_subdomain(value):
        faults.append(_SUBDOMAIN_FAULT)
    return faults


def validate_dns1123_label(value: str) -> list[str]:
    """The faults of a lower-case DNS label of at most 63 characters; the rule for namespace names."""
    faults = _length_faults(value, MAX_LABEL, "characters")
    if not _is_label(value):
        faults.append("must not contain dots" if _is_subdomain(value) else _LABEL_FAULT)
    return faults


def validate_dns1035_label(value: str) -> list[str]:
    """The faults of a DNS label that starts with a letter; the rule for API versions and plural names."""
    faults = _length_faults(value, MAX_LABEL, "characters")
    if not _is_label_1035(value):
        faults.append(_LABEL_1035_FAULT)
    return faults


def validate_qualified_name(value: str) -> list[str]:
    """The faults of `[prefix/]name`, a DNS subdomain and a name of at most 63 bytes; label keys, finalizers."""
    parts = value.split("/")
    if len(parts) > 2:
        text = f"a valid label key {_QUALIFIED_FAULT}"
        return [f"{text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    faults: list[str] = []
    if len(parts) == 2:
        if parts[0]:
            faults.extend(f"prefix part {fault}" for fault in _subdomain_faults(parts[0], "bytes"))
        else:
            faults.append("prefix part must be non-empty")
    name = parts[-1]
    if name:
        faults.extend(f"name part {fault}" for fault in _length_faults(name, MAX_LABEL, "bytes"))
    else:
        faults.append("name part must be non-empty")
    if not _is_qualified(name):
        faults.append(f"name part {_QUALIFIED_FAULT}")
    return faults


def validate_label_value(value: str) -> list[str]:
    """The faults of a label value: empty, or at most 63 bytes in the alphabet of names."""
    faults = _length_faults(value, MAX_LABEL, "bytes")
    if not _is_label_value(value):
        faults.append(_LABEL_VALUE_FAULT)
    return faults


def validate_path_segment_name(value: str) -> list[str]:
    """The faults of a name as one segment of a URL path: not `.` or `..`, no `/`, no `%`. An empty name passes."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{char}'" for char in "/%" if char in value]
