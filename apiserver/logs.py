"""Structured logs: one event per line on one stream, as logfmt or JSON.

Every line has `ts` (UTC, RFC 3339, milliseconds), `level`, `logger` and `msg`, then the event's own fields. Standard
`logging` does the work underneath, so lines of other libraries come out in the same format. Values of fields whose
name says secret are masked, as are bearer tokens and private keys inside any text.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, TextIO

Format = Literal["logfmt", "json"]

MASK: Final = "***"

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_SECRET_NAMES: Final = frozenset(
    ("token", "password", "passwd", "passphrase", "secret", "key", "authorization", "cookie", "credentials")
)
_SECRET_ENDINGS: Final = tuple(f"_{name}" for name in _SECRET_NAMES)
_SECRET_TEXT: Final = re.compile(
    r"(?P<scheme>\bbearer\s+)[A-Za-z0-9._~+/=-]{12,}"
    r"|-----BEGIN (?P<label>[A-Z ]*PRIVATE KEY)-----.*?(?:-----END (?P=label)-----|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_BARE: Final = re.compile(r'[^\s"=\\\x00-\x1f\x7f-\xa0\u2028\u2029]+')
_LINE_BREAKING: Final = re.compile(r"[\x7f-\x9f\u2028\u2029]")
_MEMO_LENGTH: Final = 128
_RESERVED: Final = frozenset(("ts", "level", "logger", "msg"))


class Log:
    """Writes events of one component; fields given to `bind` appear on every line."""

    __slots__ = ("_fields", "_logger")

    def __init__(self, logger: logging.Logger, fields: Mapping[str, Any] | None = None) -> None:
        self._logger = logger
        self._fields = dict(fields or {})

    def bind(self, **fields: Any) -> "Log":
        """The same log with more fields on every line, such as a request's audit id."""
        return Log(self._logger, {**self._fields, **fields})

    def enabled(self, level: int) -> bool:
        return self._logger.isEnabledFor(level)

    def debug(self, event: str, /, **fields: Any) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: Any) -> None:
        """An error with the traceback of the exception being handled."""
        if self._logger.isEnabledFor(logging.ERROR):
            extra = {"event_fields": {**self._fields, **fields}}
            self._logger.error("%s", event, exc_info=True, extra=extra)

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            if self._fields:
                fields = {**self._fields, **fields}
            self._logger.log(level, "%s", event, extra={"event_fields": fields})


def get(component: str) -> Log:
    return Log(logging.getLogger(component))


def parse_level(name: str) -> int:
    """The numeric level of a name such as `info`; ValueError lists the accepted names."""
    level = _LEVELS.get(name.strip().lower())
    if level is None:
        raise ValueError(f"unknown log level {name!r}: expected one of debug, info, warning, error, critical")
    return level


def configure(level: str = "info", format: Format = "logfmt", stream: TextIO | None = None) -> None:
    """Send all logging of the process to `stream` (standard error by default). Calling it again replaces the setup.

    ValueError for an unknown level or format.
    """
    if format not in ("logfmt", "json"):
        raise ValueError(f"unknown log format {format!r}: expected logfmt or json")
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(_Formatter(format))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(parse_level(level))
    # asyncio reports its choice of selector and slow callbacks at levels that are of no use to an operator.
    logging.getLogger("asyncio").setLevel(max(root.level, logging.WARNING))
    logging.captureWarnings(True)


def name_process(name: str) -> None:
    """Add the field `process` to every line from here on, where several processes write to one stream."""

    def named(record: logging.LogRecord) -> bool:
        record.event_fields = {"process": name, **getattr(record, "event_fields", {})}
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(named)


def mask_text(text: str) -> str:
    """The text without bearer tokens and private keys."""
    return _SECRET_TEXT.sub(lambda match: f"{match.group('scheme') or ''}{MASK}", text)


def is_secret(name: str) -> bool:
    """Whether the value of a field of this name must not be shown."""
    plain = name.lower().replace("-", "_")
    return plain in _SECRET_NAMES or plain.endswith(_SECRET_ENDINGS)


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record in order of output, masked; values are JSON scalars."""
    fields: dict[str, Any] = {
        "ts": timestamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "msg": mask_text(record.getMessage()),
    }
    for name, value in getattr(record, "event_fields", {}).items():
        shown = MASK if is_secret(name) and value not in (None, "") else _scalar(value)
        fields[f"{name}_" if name in _RESERVED else name] = shown
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        fields.setdefault("error", _scalar(error))
        fields["traceback"] = mask_text("".join(traceback.format_exception(error)).rstrip())
    return fields


def timestamp(seconds: float) -> str:
    """The form of `ts`: UTC, RFC 3339, milliseconds."""
    whole = int(seconds)
    return f"{utc(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=16)
def utc(seconds: int) -> str:
    """Date and time of a second, RFC 3339 without the zone; many lines have the same."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _scalar(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, BaseException):
        text = str(value)
        return mask_text(f"{type(value).__name__}: {text}" if text else type(value).__name__)
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(_text(_scalar(item)) for item in value)
    try:
        return mask_text(str(value))
    except Exception:
        return f"<unprintable {type(value).__name__}>"


def _text(value: str | int | float | bool | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _quoted(text: str) -> str:
    encoded = json.dumps(text, ensure_ascii=False)
    return _LINE_BREAKING.sub(lambda match: f"\\u{ord(match.group()):04x}", encoded)


def line(fields: Mapping[str, str | int | float | bool | None], format: Format) -> str:
    """One line of the given fields, without its end. Nothing is masked here."""
    if format == "json":
        return json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
    parts = []
    for name, value in fields.items():
        text = value if isinstance(value, str) else _text(value)
        if name == "msg":
            shown = _quoted(text)
        else:
            shown = _remembered(text) if len(text) <= _MEMO_LENGTH else _logfmt(text)
        parts.append(f"{name}={shown}")
    return " ".join(parts)


def _logfmt(text: str) -> str:
    return text if _BARE.fullmatch(text) else _quoted(text)


_remembered = lru_cache(maxsize=2048)(_logfmt)
"""Most values are the same from line to line."""


class _Formatter(logging.Formatter):
    def __init__(self, format: Format) -> None:
        super().__init__()
        self._format = format

    def format(self, record: logging.LogRecord) -> str:
        return line(_fields_of(record), self._format)
