"""The ini format as Grafana reads it, with line numbers. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

DEFAULT_SECTION = "DEFAULT"
"""The section of keys that stand before the first section header."""

_SECTION = re.compile(r"\[(?P<name>[^\]]*)\]\s*(?:[#;].*)?")
_KEY = re.compile(r"(?P<key>[^=:]+?)\s*[=:]\s*(?P<value>.*)")
QUOTES = ('"""', '"', "'", "`")


class IniError(ValueError):
    """A line that cannot be read; the text begins with `<file>:<line>: `."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key = value` line; `line` counts from 1. A `[section]` line alone has the key `""`."""

    section: str
    key: str
    value: str
    line: int


def parse(text: str, file: str) -> list[Entry]:
    """The entries in order, each section header included. `file` only serves the error text."""
    return list(_entries(text.removeprefix("\ufeff"), file))


def _entries(text: str, file: str) -> Iterator[Entry]:
    section = DEFAULT_SECTION
    # Not splitlines(): it also breaks at characters that mean nothing to an editor's line count.
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            header = _SECTION.fullmatch(line)
            if header is None or not header["name"].strip():
                raise IniError(f"{file}:{number}: a section header looks like [name]")
            section = header["name"].strip()
            yield Entry(section, "", "", number)
            continue
        pair = _KEY.fullmatch(line)
        if pair is None:
            raise IniError(f"{file}:{number}: neither a comment, a [section] nor key = value")
        try:
            yield Entry(section, pair["key"].strip(), _value(pair["value"]), number)
        except ValueError as error:
            raise IniError(f"{file}:{number}: [{section}] {pair['key'].strip()}: {error}") from None


def _value(text: str) -> str:
    """The value without comment and quotes. As in Grafana, `#` and `;` begin a comment anywhere outside quotes."""
    for quote in QUOTES:
        if text.startswith(quote):
            end = text.find(quote, len(quote))
            if end < 0:
                raise ValueError(f"the closing {quote} is missing")
            rest = text[end + len(quote) :].strip()
            if rest and rest[0] not in "#;":
                raise ValueError(f"text after the closing {quote}")
            return text[len(quote) : end]
    return re.split(r"[#;]", text, maxsplit=1)[0].strip()
