"""Requests and responses between the form of HTTP/1.1, which exchanges speak, and that of HTTP/2. Pure."""

import re

from aggregator.proxy.headers import Headers, ResponseHead
from aggregator.proxy.http2_hpack import Fields, encode_line, encode_name, encode_value
from aggregator.proxy.http2_request import MalformedRequest, read_fields
from aggregator.proxy.wire import status_line

_METHODS = {b"GET": b"\x82", b"POST": b"\x83"}
_SCHEME = b"\x87"
_METHOD, _PATH, _AUTHORITY = encode_name(b":method"), encode_name(b":path"), encode_name(b":authority")
_AUDIT_ID, _URI = encode_name(b"audit-id"), encode_name(b"x-forwarded-uri")
_CODE = re.compile(rb"[1-5][0-9][0-9]")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_canonical: dict[bytes, bytes] = {}
_CANONICAL_LIMIT = 2048
_CANONICAL_BYTES = 64
CHUNKED = -1
"""The length of a body that comes in chunks."""


class MalformedResponse(Exception):  # a backend's fault
    """Says why."""


_SHARED_HEAD = 8000
_SHARED_LINE = 4000
"""Heads and lines up to which every server takes a request. A larger one is a fault of the connection for many (nginx:
4 or 8 kB a line; h2 in Python: 64 kB a head), and would end the requests of all others there."""
_starts: dict[bytes, tuple[bytes, int]] = {}
_rests: dict[bytes, tuple[bytes, int]] = {}
_MEMO_LIMIT = 2048
_MEMO_BYTES = 2048


def shareable(head: bytes) -> bool:
    """Whether a head, or trailers, of this size can do no harm to the connection."""
    size = len(head)
    return size <= _SHARED_LINE or (size <= _SHARED_HEAD and max(map(len, head.split(b"\r\n"))) <= _SHARED_LINE)


def request_block(head: bytes) -> tuple[bytes, int]:
    """The fields of a request's head, encoded, and the length of its body: 0 without one, or CHUNKED.

    The head is one of ours: request line, Host, fields that are fit for a backend. What is before and what is behind
    its Audit-ID recurs from request to request, so its encoded form is looked up.
    """
    start, _, rest = head.partition(b"\r\nAudit-ID: ")
    audit_id, _, rest = rest.partition(b"\r\n")
    first, length = _starts.get(start) or _remember(_starts, start, _start(start))
    second, more = _rests.get(rest) or _remember(_rests, rest, _fields(rest))
    # Most heads have their length, if any, behind the Audit-ID.
    return b"".join((first, _AUDIT_ID, encode_value(audit_id), second)), more or length


def _remember(memo: dict[bytes, tuple[bytes, int]], key: bytes, value: tuple[bytes, int]) -> tuple[bytes, int]:
    if len(key) <= _MEMO_BYTES and b"cookie:" not in key.lower():
        if len(memo) >= _MEMO_LIMIT:
            memo.clear()
        memo[key] = value
    return value


def _start(start: bytes) -> tuple[bytes, int]:
    """Request line and the fields behind it."""
    line, _, rest = start.partition(b"\r\n")
    method, target, _ = line.split(b" ")
    host, _, rest = rest.partition(b"\r\n")
    block, length = _fields(rest)
    control = (
        _METHODS.get(method) or _METHOD + encode_value(method),
        _SCHEME,
        _PATH + encode_value(target),
        _AUTHORITY + encode_value(host.removeprefix(b"Host: ")),
    )
    return b"".join((*control, block)), length


def _fields(lines: bytes) -> tuple[bytes, int]:
    length = 0
    pieces: list[bytes] = []
    for line in lines.split(b"\r\n") if lines else ():
        name, _, value = line.partition(b":")
        lowered = name.lower()
        if lowered == b"transfer-encoding":
            length = CHUNKED
        elif lowered == b"x-forwarded-uri":
            # Ever new: to remember it as well would be a waste.
            pieces.append(_URI + encode_value(value[1:]))
        else:
            if lowered == b"content-length":
                length = int(value)
            pieces.append(encode_line(line))
    return b"".join(pieces), length


def unchunked(data: bytes) -> tuple[bytes, bytes | None]:
    """The contents of whole chunks, and the lines of the trailers if the last chunk is among them."""
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        end = data.index(b"\r\n", position)
        size = int(data[position:end], 16)
        position = end + 2
        if not size:
            return b"".join(pieces), data[position:-2]
        pieces.append(data[position : position + size])
        position += size + 2
    return b"".join(pieces), None


def plain_lines(code: int, head: ResponseHead) -> list[bytes]:
    """Status line and fields of a response whose length is known, as exchanges take them as `response_lines`."""
    lines = [line[:-2] for line in head.lines]
    return [status_line(code)[:-2], *lines, b"Content-Length: %d" % head.content_length]


def read_head(fields: Fields) -> tuple[int, Headers]:
    """The code of a response, and its fields with the names as they are written in HTTP/1.1. MalformedResponse."""
    if not fields or fields[0][0] != b":status" or _CODE.fullmatch(fields[0][1]) is None:
        raise MalformedResponse("no usable :status")
    code = int(fields[0][1])
    if code == 101:
        raise MalformedResponse("101 in HTTP/2")
    found = read_regular(fields[1:])
    lengths = [value for name, value in found if name == b"Content-Length"]
    if lengths and (len(lengths) > 1 or _DIGITS.fullmatch(lengths[0]) is None):
        raise MalformedResponse("no usable Content-Length")
    return code, found


def read_regular(fields: Fields) -> Headers:
    """The same for fields that say nothing of the message as a whole, such as trailers."""
    try:
        read_fields(fields)
    except MalformedRequest as error:
        raise MalformedResponse(str(error)) from None
    return [(_canonical.get(name) or _as_written(name), value) for name, value in fields]


def _as_written(name: bytes) -> bytes:
    written = name.title()
    if len(name) <= _CANONICAL_BYTES and len(_canonical) < _CANONICAL_LIMIT:
        _canonical[name] = written
    return written
