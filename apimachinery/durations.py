"""Durations in Go's notation, as in `?timeout=1m30s`."""

import re
from typing import Final

from apimachinery.field_errors import quote

_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
"""Nanoseconds per unit; the two micro signs are U+00B5 and U+03BC."""

_TERM = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)", re.ASCII)
_MAX_NANOSECONDS = 2**63 - 1
_MAX_DIGITS = 19


def _term_nanoseconds(match: re.Match[str], text: str) -> int:
    whole, fraction, unit = match.group(1), match.group(2) or "", match.group(3)
    if not whole and not fraction:
        raise ValueError(f"time: invalid duration {quote(text)}")
    if not unit:
        raise ValueError(f"time: missing unit in duration {quote(text)}")
    if unit not in _UNITS:
        raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
    digits = whole.lstrip("0")
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"time: invalid duration {quote(text)}")
    scale = _UNITS[unit]
    kept = fraction[:_MAX_DIGITS]
    part = int(kept) * scale // 10 ** len(kept) if kept else 0
    return int(digits or "0") * scale + part


def parse_go_duration(text: str) -> float:
    """Seconds of a duration such as `34s`, `1m30s`, `1.5h`, `-2ms` or `0`. ValueError with Go's text otherwise."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0.0
    if not rest:
        raise ValueError(f"time: invalid duration {quote(text)}")
    total = 0
    position = 0
    while position < len(rest):
        match = _TERM.match(rest, position)
        if match is None or match.end() == position:
            raise ValueError(f"time: invalid duration {quote(text)}")
        total += _term_nanoseconds(match, text)
        position = match.end()
    if total > _MAX_NANOSECONDS:
        raise ValueError(f"time: invalid duration {quote(text)}")
    return sign * total / 10**9
