"""Validation errors that name a field, in the wording of the Kubernetes API (rest.md A2)."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson


class ErrorType(enum.Enum):
    """(cause reason, text) of each kind of field error."""

    NOT_FOUND = ("FieldValueNotFound", "Not found")
    REQUIRED = ("FieldValueRequired", "Required value")
    DUPLICATE = ("FieldValueDuplicate", "Duplicate value")
    INVALID = ("FieldValueInvalid", "Invalid value")
    TYPE_INVALID = ("FieldValueTypeInvalid", "Invalid value")
    NOT_SUPPORTED = ("FieldValueNotSupported", "Unsupported value")
    FORBIDDEN = ("FieldValueForbidden", "Forbidden")
    TOO_LONG = ("FieldValueTooLong", "Too long")
    TOO_MANY = ("FieldValueTooMany", "Too many")
    INTERNAL = ("InternalError", "Internal error")

    @property
    def reason(self) -> str:
        return self.value[0]

    @property
    def text(self) -> str:
        return self.value[1]


class _Omitted:
    def __repr__(self) -> str:
        return "OMITTED"


OMITTED: Final = _Omitted()
"""Stands for a value that the message does not show."""

_WITHOUT_VALUE = {ErrorType.REQUIRED, ErrorType.FORBIDDEN, ErrorType.TOO_LONG, ErrorType.INTERNAL}


@dataclass(frozen=True, slots=True)
class Path:
    """A path to a field: `Path.of("spec").child("ports").index(0).key("a")` prints `spec.ports[0][a]`."""

    text: str = ""

    @classmethod
    def of(cls, *names: str) -> "Path":
        return cls(".".join(names))

    def child(self, *names: str) -> "Path":
        return Path(".".join([self.text, *names] if self.text else names))

    def index(self, position: int) -> "Path":
        return Path(f"{self.text}[{position}]")

    def key(self, name: str) -> "Path":
        return Path(f"{self.text}[{name}]")

    def __str__(self) -> str:
        return self.text or "<nil>"


def render_value(value: Any) -> str:
    """Show a value as the API does: strings quoted, scalars plain, null as `null`, anything else as JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int | float):
        return str(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def quote(text: str) -> str:
    """Quote like Go's %q for the characters that occur in practice."""
    out = ['"']
    for char in text:
        if char in ('"', "\\"):
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif char == "\t":
            out.append("\\t")
        elif char == "\r":
            out.append("\\r")
        elif char.isprintable():
            out.append(char)
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        else:
            out.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    out.append('"')
    return "".join(out)


@dataclass(frozen=True, slots=True)
class FieldError:
    type: ErrorType
    path: Path
    value: Any = OMITTED
    detail: str = ""

    @property
    def body(self) -> str:
        """The text after `<field>: `."""
        parts = [self.type.text]
        if self.type not in _WITHOUT_VALUE and self.value is not OMITTED:
            parts.append(render_value(self.value))
        if self.detail:
            parts.append(self.detail)
        return ": ".join(parts)

    def __str__(self) -> str:
        return f"{self.path}: {self.body}"

    def cause(self) -> dict[str, str]:
        """The entry of `status.details.causes` for this error."""
        return {"reason": self.type.reason, "message": self.body, "field": str(self.path)}


def required(path: Path, detail: str = "") -> FieldError:
    return FieldError(ErrorType.REQUIRED, path, OMITTED, detail)


def invalid(path: Path, value: Any, detail: str = "") -> FieldError:
    return FieldError(ErrorType.INVALID, path, value, detail)


def type_invalid(path: Path, value: Any, detail: str = "") -> FieldError:
    return FieldError(ErrorType.TYPE_INVALID, path, value, detail)


def duplicate(path: Path, value: Any) -> FieldError:
    return FieldError(ErrorType.DUPLICATE, path, value)


def forbidden(path: Path, detail: str = "") -> FieldError:
    return FieldError(ErrorType.FORBIDDEN, path, OMITTED, detail)


def not_supported(path: Path, value: Any, supported: Iterable[str]) -> FieldError:
    listed = ", ".join(quote(item) for item in supported)
    return FieldError(ErrorType.NOT_SUPPORTED, path, value, f"supported values: {listed}")


def too_long(path: Path, limit_bytes: int) -> FieldError:
    unit = "byte" if limit_bytes == 1 else "bytes"
    return FieldError(ErrorType.TOO_LONG, path, OMITTED, f"may not be more than {limit_bytes} {unit}")


def too_many(path: Path, count: int, limit: int) -> FieldError:
    unit = "item" if limit == 1 else "items"
    return FieldError(ErrorType.TOO_MANY, path, count, f"must have at most {limit} {unit}")
