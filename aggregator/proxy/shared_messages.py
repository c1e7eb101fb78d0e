"""Requests and responses between the form of HTTP/1.1, which exchanges speak, and that of HTTP/2. Pure."""

import re

from aggregator.proxy.headers import Headers
from aggregator.proxy.http2_hpack import Fields, encode_line, encode_name, encode_value
from aggregator.proxy.http2_request import MalformedRequest, read_fields

_METHODS = {b"GET": b"\x82", b"POST": b"\x83"}
_SCHEME = b"\x87"
_METHOD, _PATH, _AUTHORITY = encode_name(b":method"), encode_name(b":path"), encode_name(b":authority")
_EVER_NEW = {name + b":": encode_name(name.lower()) for name in (b"Audit-ID", b"X-Forwarded-Uri")}
"""Names of our own lines that differ from request to request: to remember their encoded form would be a waste."""
_CHUNKED = b"transfer-encoding: chunked"
_LENGTH = b"content-length:"
_CODE = re.compile(rb"[1-5][0-9][0-9]")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_canonical: dict[bytes, bytes] = {}
_CANONICAL_LIMIT = 2048
CHUNKED = -1
"""The length of a body that comes in chunks."""


class MalformedResponse(Exception):  # a backend's fault
    """Says why."""


def request_block(head: bytes) -> tuple[bytes, int]:
    """The fields of a request's head, encoded, and the length of its body: 0 without one, or CHUNKED.

    The head is one of ours: request line, Host, fields that are fit for a backend.
    """
    line, *lines = head.split(b"\r\n")
    method, target, _ = line.split(b" ")
    authority = b""
    length = 0
    pieces: list[bytes] = []
    for line in lines:
        name = line[: line.index(b":") + 1]
        fresh = _EVER_NEW.get(name)
        if fresh is not None:
            pieces.append(fresh + encode_value(line[len(name) + 1 :]))
        elif name == b"Host:":
            authority = line[6:]
        else:
            lowered = name.lower()
            if lowered == b"transfer-encoding:":
                length = CHUNKED
                continue
            if lowered == _LENGTH:
                length = int(line[len(name) :])
            pieces.append(encode_line(line))
    control = (
        _METHODS.get(method) or _METHOD + encode_value(method),
        _SCHEME,
        _PATH + encode_value(target),
        _AUTHORITY + encode_value(authority),
    )
    return b"".join((*control, *pieces)), length


def unchunked(data: bytes) -> tuple[list[bytes], bytes | None]:
    """The contents of whole chunks, and the lines of the trailers if the last chunk is among them."""
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        end = data.index(b"\r\n", position)
        size = int(data[position:end], 16)
        position = end + 2
        if not size:
            return pieces, data[position:-2]
        pieces.append(data[position : position + size])
        position += size + 2
    return pieces, None


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
    if len(_canonical) < _CANONICAL_LIMIT:
        _canonical[name] = written
    return written
