"""Messages as declarations, and the decoder that they drive: wire values to the JSON form of an object."""

import base64
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from apimachinery.json_values import too_deep
from apimachinery.protobuf.wire import LENGTH, VARINT, Entry, ProtobufError, entries, signed
from apimachinery.types import Object

FIELD_LIMIT: Final = 100_000
"""The greatest number of fields in a body: two bytes on the wire can stand for an object in memory."""


class Kind(enum.Enum):
    """What a field holds, and so how its JSON form looks."""

    STRING = "string"
    BOOL = "bool"
    INT32 = "int32"
    INT64 = "int64"
    BYTES = "bytes"
    """JSON: base64."""
    TIME = "Time"
    """A message `{1: seconds, 2: nanos}`; JSON: RFC 3339 in whole seconds. An empty message is no time."""
    RAW = "raw"
    """A message `{1: JSON text}` (FieldsV1, RawExtension); JSON: that value."""
    STRINGS = "strings"
    """A message `{1: repeated string}` (ExtraValue); JSON: the list."""
    MESSAGE = "message"


class Label(enum.Enum):
    SINGLE = "optional"
    REPEATED = "repeated"
    MAP = "map"
    """Repeated entries `{1: string key, 2: value}`; JSON: an object."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message under its JSON name."""

    name: str
    kind: Kind = Kind.STRING
    message: "Message | None" = None
    """Of a field of kind MESSAGE."""
    label: Label = Label.SINGLE
    optional: bool = False
    """Presence carries meaning, so a zero is kept. Encoders write other scalars even when nobody set them."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """The fields of a message by their numbers. Declarations do not refer to themselves: depth is bounded by them."""

    fields: Mapping[int, Field]


def of(message: Message, name: str, label: Label = Label.SINGLE) -> Field:
    """A field that holds a message."""
    return Field(name, Kind.MESSAGE, message, label)


def read(message: Message, data: memoryview) -> Object:
    """The JSON form of a message; fields that it does not declare are passed over, as protobuf readers do.

    ProtobufError when the bytes are malformed, hold a value of the wrong type, or more than FIELD_LIMIT fields.
    """
    return _Reader().message(message, data, {})


@dataclass(slots=True)
class _Reader:
    _left: int = field(default=FIELD_LIMIT)

    def message(self, message: Message, data: memoryview, into: Object) -> Object:
        """Add what the bytes say to `into`: of a scalar the last value counts, messages are merged."""
        for entry in self._entries(data):
            declared = message.fields.get(entry.number)
            if declared is not None:
                self._add(declared, entry, into)
        return into

    def _entries(self, data: memoryview) -> Sequence[Entry]:
        found: list[Entry] = []
        for entry in entries(data):
            self._left -= 1
            if self._left < 0:
                raise ProtobufError(f"more than {FIELD_LIMIT} fields")
            found.append(entry)
        return found

    def _add(self, declared: Field, entry: Entry, into: Object) -> None:
        name = declared.name
        if declared.label is Label.REPEATED:
            into.setdefault(name, []).append(self._item(declared, entry, None))
        elif declared.label is Label.MAP:
            key, value = self._map_entry(declared, entry)
            into.setdefault(name, {})[key] = value
        else:
            value = self._item(declared, entry, into.get(name))
            if value is None or (value in ("", 0, False) and not declared.optional):
                into.pop(name, None)
            else:
                into[name] = value

    def _map_entry(self, declared: Field, entry: Entry) -> tuple[str, Any]:
        key, value = "", _empty(declared)
        for part in self._entries(_content(declared, entry)):
            if part.number == 1:
                key = _text(declared, part)
            elif part.number == 2:
                value = self._item(declared, part, None)
        return key, value

    def _item(self, declared: Field, entry: Entry, before: Any) -> Any:
        match declared.kind:
            case Kind.BOOL:
                return _number(declared, entry) != 0
            case Kind.INT32:
                return signed(_number(declared, entry), 32)
            case Kind.INT64:
                return signed(_number(declared, entry), 64)
            case Kind.STRING:
                return _text(declared, entry)
            case Kind.BYTES:
                return base64.b64encode(_content(declared, entry)).decode()
            case Kind.MESSAGE:
                assert declared.message is not None
                return self.message(declared.message, _content(declared, entry), {} if before is None else before)
            case Kind.TIME:
                return self._time(declared, entry)
            case Kind.RAW:
                return self._raw(declared, entry)
            case Kind.STRINGS:
                return [_text(declared, item) for item in self._entries(_content(declared, entry)) if item.number == 1]

    def _time(self, declared: Field, entry: Entry) -> str | None:
        parts = self._entries(_content(declared, entry))
        if not parts:
            return None
        seconds = 0
        for part in parts:
            if part.number == 1:
                seconds = signed(_number(declared, part), 64)
        try:
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
        except (ValueError, OverflowError, OSError):
            raise ProtobufError(f"field {declared.name}: {seconds} is not a time in the years 1 to 9999") from None

    def _raw(self, declared: Field, entry: Entry) -> Any:
        text = b""
        for part in self._entries(_content(declared, entry)):
            if part.number == 1:
                text = bytes(_content(declared, part))
        if not text:
            return None
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ProtobufError(f"field {declared.name}: {error}") from None
        if too_deep(value):
            raise ProtobufError(f"field {declared.name}: exceeded max depth")
        return value


def _empty(declared: Field) -> Any:
    """The value of a map entry that does not say one."""
    match declared.kind:
        case Kind.STRING | Kind.BYTES:
            return ""
        case Kind.STRINGS:
            return []
        case Kind.BOOL:
            return False
        case Kind.INT32 | Kind.INT64:
            return 0
        case _:
            return {}


def _number(declared: Field, entry: Entry) -> int:
    if entry.wire_type != VARINT or not isinstance(entry.value, int):
        raise _wrong_type(declared, entry)
    return entry.value


def _content(declared: Field, entry: Entry) -> memoryview:
    if entry.wire_type != LENGTH or isinstance(entry.value, int):
        raise _wrong_type(declared, entry)
    return entry.value


def _text(declared: Field, entry: Entry) -> str:
    try:
        return str(_content(declared, entry), "utf-8")
    except UnicodeDecodeError:
        raise ProtobufError(f"field {declared.name}: string is not valid UTF-8") from None


def _wrong_type(declared: Field, entry: Entry) -> ProtobufError:
    return ProtobufError(f"proto: wrong wireType = {entry.wire_type} for field {declared.name}")
