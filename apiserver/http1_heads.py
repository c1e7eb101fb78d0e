"""Heads of HTTP/1.1 messages as a server reads and writes them: refusals, targets, framing. Pure, bar a memo table."""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import unquote

Headers = list[tuple[bytes, bytes]]


class Refusal(NamedTuple):
    """Why a request is answered by the server itself; the connection ends with it."""

    code: int
    reason: str


HEAD_TOO_LARGE: Final = Refusal(431, "the request's head is too large")
_MALFORMED: Final = 400

_CONTROLLED: Final = frozenset((b"host", b"transfer-encoding", b"expect"))
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://[^/?]+(.*)")
_TARGET: Final = re.compile(rb"[\x21-\x7e]+")


class RequestFields:
    """The fields of one request head as they arrive, names in lower case."""

    __slots__ = ("coding", "codings", "expects_continue", "hosts", "lines")

    def __init__(self) -> None:
        self.lines: Headers = []
        self.hosts = 0
        self.codings = 0
        self.coding = b""
        self.expects_continue = False

    def add(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.strip(b" \t")
        if name in _CONTROLLED:
            if name == b"host":
                self.hosts += 1
            elif name == b"expect":
                self.expects_continue = value.lower() == b"100-continue"
            else:
                self.codings += 1
                self.coding = value.lower()
        self.lines.append((name, value))

    @property
    def size(self) -> int:
        """Bytes on the wire, without the request line."""
        return sum(len(name) + len(value) + 4 for name, value in self.lines)


def refusal(method: bytes, target: bytes, version: str, fields: RequestFields) -> Refusal | None:
    """What the parser lets through and two servers could read differently (RFC 9112 3.2, 6.1, 6.3)."""
    if version not in ("1.1", "1.0"):
        return Refusal(505, f"HTTP/{version} is not spoken here")
    if method == b"CONNECT":
        return Refusal(405, "CONNECT is not served")
    if not _TARGET.fullmatch(target):
        return Refusal(_MALFORMED, "the request target holds characters that are not allowed")
    if fields.hosts != 1 and (version == "1.1" or fields.hosts):
        return Refusal(_MALFORMED, "one Host field is required")
    if fields.codings:
        if version == "1.0" or fields.codings > 1:
            return Refusal(_MALFORMED, "bad Transfer-Encoding")
        if fields.coding != b"chunked":
            return Refusal(501, "the only transfer coding served is chunked")
    return None


def split_target(target: bytes) -> tuple[str, bytes, bytes]:
    """Decoded path, raw path and query; of an absolute target the part after the authority."""
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is not None:
            rest = absolute.group(1)
            target = rest if rest.startswith(b"/") else b"/" + rest
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    return (unquote(path) if "%" in path else path), raw_path, query


class Framing(NamedTuple):
    """An encoded response head, and how its body follows."""

    head: bytes
    length: int
    """Bytes of body to come; -1 when the head does not say."""
    chunked: bool
    bodiless: bool
    """Whatever the application sends as a body is left out."""
    close: bool
    """The connection ends with this response."""


_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_FRAMING_NAMES: Final = frozenset((b"content-length", b"transfer-encoding", b"connection", b"date"))
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_MEMO_LIMIT: Final = 1024
_good_names: set[bytes] = set()


def response_head(
    code: int,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    method: str,
    version: str,
    whole: int,
    close: bool,
    date: bytes,
) -> Framing:
    """The head of a response and the framing it promises. `whole` is the length of a body that is complete, else -1.

    ValueError for what no response may hold: line ends and other control characters, names that are no tokens, lengths
    that contradict each other, framing that is not the application's to choose.
    """
    if not 200 <= code <= 999:
        raise ValueError(f"{code} is no status of a final response")
    own, length, closing = _own_lines(headers)
    close = close or closing
    bodiless = method == "HEAD" or code in (204, 304)
    if code == 204:
        length = -1
    elif length < 0 and whole >= 0 and not bodiless:
        length = whole
    chunked = length < 0 and not bodiless and version == "1.1"
    close = close or (length < 0 and not bodiless and not chunked)
    lines = [b"HTTP/1.1 %d %b" % (code, _PHRASES.get(code, b"")), b"date: %b" % date, *own]
    if chunked:
        lines.append(b"transfer-encoding: chunked")
    elif length >= 0:
        lines.append(b"content-length: %d" % length)
    if close:
        lines.append(b"connection: close")
    lines.append(b"\r\n")
    return Framing(b"\r\n".join(lines), length, chunked, bodiless, close)


def _own_lines(headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[bytes], int, bool]:
    """The application's fields as lines; the length it declares, else -1; whether it ends the connection."""
    lines = []
    length = -1
    close = False
    for name, value in headers:
        if name not in _good_names:
            lowered = _checked(name)
            if lowered == b"content-length":
                length = _length(value, length)
                continue
            if lowered == b"connection":
                close = close or value.lower() == b"close"
                continue
            if lowered == b"transfer-encoding":
                raise ValueError("an application may not set Transfer-Encoding")
            if lowered == b"date":
                continue
        if _CONTROL.search(value):
            raise ValueError(f"the value of {name.decode('latin-1')} holds control characters")
        lines.append(b"%b: %b" % (name, value))
    return lines, length, close


def _checked(name: bytes) -> bytes:
    """The name in lower case; ValueError unless it is a token."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name.decode('latin-1')!r} is no header name")
    lowered = name.lower()
    if lowered not in _FRAMING_NAMES and len(_good_names) < _MEMO_LIMIT:
        _good_names.add(name)
    return lowered


def _length(value: bytes, known: int) -> int:
    if not value.isdigit() or len(value) > 18:
        raise ValueError("Content-Length is no number")
    length = int(value)
    if known not in (-1, length):
        raise ValueError("Content-Length is set twice")
    return length


def chunk(data: bytes) -> Sequence[bytes]:
    return (b"%x\r\n" % len(data), data, b"\r\n")


def refused(answer: Refusal, date: bytes) -> bytes:
    """The whole response of a refusal."""
    body = f"{answer.code} {answer.reason}\n".encode()
    headers = ((b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff"))
    framing = response_head(answer.code, headers, method="GET", version="1.1", whole=len(body), close=True, date=date)
    return framing.head + body
