"""YAML documents as JSON values, with bounds on depth and on what aliases expand to."""

import math
import re
from typing import Any, Final

import yaml

NODE_LIMIT: Final = 1_000_000
"""The greatest number of values in a document, aliases expanded: a few lines of aliases can stand for billions."""

DEPTH_LIMIT: Final = 200
"""How deep a document may nest."""

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", re.ASCII)
_TRUE_WORDS = frozenset({"yes", "true", "on"})
_INT64_DIGITS = 19

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        """Values that happen to be shared in memory are written out each time."""
        return True


def dump(value: Any) -> bytes:
    """YAML in block style with sorted keys, without anchors."""
    text: bytes = yaml.dump(
        value, Dumper=_Dumper, encoding="utf-8", allow_unicode=True, default_flow_style=False, sort_keys=True
    )
    return text


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a number that JSON can hold")
    return value


def _integer(text: str) -> int | float:
    """An integer, or the nearest float when 64 bits cannot hold it, as in JSON."""
    if len(text.lstrip("+-")) <= _INT64_DIGITS and -(2**63) <= int(text) < 2**63:
        return int(text)
    return _finite(text)


def _plain(text: str) -> Any:
    """A scalar without quotes and tag: what JSON can say, so no dates and no sexagesimal or octal numbers."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() in _TRUE_WORDS
    if _INT.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _finite(text)
    return text


def _scalar(event: Any) -> Any:
    if event.tag == "!":
        return event.value
    if event.tag is None:
        return _plain(event.value) if event.implicit[0] else event.value
    match event.tag.removeprefix(_TAG):
        case "str" | "binary":
            return event.value
        case "null" | "bool" | "int" | "float":
            return _plain(event.value)
        case _:
            raise ValueError(f"line {event.start_mark.line + 1}: unsupported tag {event.tag}")


class _Builder:
    """Builds a value from parser events. The recursion is bounded by DEPTH_LIMIT, the size by NODE_LIMIT."""

    def __init__(self, data: bytes) -> None:
        self._parser = _Parser(data)
        self._nodes = 0
        self._anchors: dict[str, tuple[Any, int]] = {}
        """The value and the number of nodes of each finished anchor."""
        self.duplicates: list[str] = []

    def document(self) -> Any:
        try:
            self._next()
            if self._parser.check_event(yaml.StreamEndEvent):
                return None
            self._next()
            value = self._value(self._next(), 0)
            self._next()
            if not self._parser.check_event(yaml.StreamEndEvent):
                raise ValueError("expected a single document in the stream")
            return value
        finally:
            self._parser.dispose()

    def _next(self) -> Any:
        return self._parser.get_event()

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > NODE_LIMIT:
            raise ValueError("document contains excessive aliasing")

    def _value(self, event: Any, depth: int) -> Any:
        if depth > DEPTH_LIMIT:
            raise ValueError("exceeded max depth")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._nodes
        self._count(1)
        value: Any
        if isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(depth)
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(depth)
        else:
            value = _scalar(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes - before)
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise ValueError(f"line {event.start_mark.line + 1}: unknown anchor {event.anchor!r}")
        value, nodes = self._anchors[event.anchor]
        self._count(nodes)
        return _copy(value)

    def _sequence(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise ValueError(f"line {line}: a map key must be a scalar")
            value = self._value(self._next(), depth + 1)
            if event.value == "<<" and event.implicit[0]:
                merged = _merge_sources(value, line) | merged
                continue
            if event.value in own:
                self.duplicates.append(f'line {line}: key "{event.value}" already set in map')
            own[event.value] = value
        return merged | own


def _merge_sources(value: Any, line: int) -> dict[str, Any]:
    """What a merge key (`<<`) brings in; of several sources the first one wins."""
    result: dict[str, Any] = {}
    for source in value if isinstance(value, list) else [value]:
        if not isinstance(source, dict):
            raise ValueError(f"line {line}: map merge requires map or sequence of maps as the value")
        result = source | result
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def load(data: bytes) -> tuple[Any, list[str]]:
    """The value of a single document and a sentence for each repeated key, of which the last value counts.

    An empty stream is None. ValueError when it does not parse or exceeds a bound.
    """
    try:
        # The parser reads the first bytes, and may refuse them, when it is made.
        builder = _Builder(data)
        return builder.document(), builder.duplicates
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
