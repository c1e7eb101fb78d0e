"""Frames of HTTP/2 (RFC 9113 4, 6) as bytes, and the numbers in them. Pure."""

from collections.abc import Iterable
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
KINDS: Final = 10
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)
INADEQUATE_SECURITY: Final = 12
HTTP_1_1_REQUIRED: Final = 13
ENDED: Final = -1
"""No error code: nothing has to be said."""
_ERROR_NAMES: Final = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

DEFAULT_WINDOW: Final = 65535
LARGEST_WINDOW: Final = 2**31 - 1
FRAME_BYTES: Final = 16384
"""The largest frame that everybody takes; we neither ask for larger ones nor send them."""

_HEAD = Struct(">IBI")
pack_head = _HEAD.pack
unpack_head = _HEAD.unpack_from
"""(length << 8 | type, flags, stream) of a frame."""
_SETTING = Struct(">HI")
_NUMBER = Struct(">I")


class ConnectionFault(Exception):  # the peer's
    """The connection cannot go on; `code` and the words go into GOAWAY."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return pack_head(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def read_settings(payload: bytes) -> Iterable[tuple[int, int]]:
    return ((int(name), int(value)) for name, value in _SETTING.iter_unpack(payload))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(increment))


def rst_stream(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def goaway(last: int, code: int, words: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _NUMBER.pack(last) + _NUMBER.pack(code) + words.encode())


def number(payload: bytes) -> int:
    """The 31 bits that a payload of 4 bytes holds."""
    return int.from_bytes(payload, "big") & 0x7FFFFFFF


def error_name(code: int) -> str:
    """For words about an error that the peer has told."""
    return _ERROR_NAMES[code] if code < len(_ERROR_NAMES) else f"unknown error code 0x{code:x}"


def headers(stream: int, block: bytes, *, end: bool) -> list[bytes]:
    """HEADERS, and as many CONTINUATION as it takes."""
    size = len(block)
    flags = END_STREAM if end else 0
    if size <= FRAME_BYTES:
        return [pack_head(size << 8 | HEADERS, flags | END_HEADERS, stream), block]
    out = [frame(HEADERS, flags, stream, block[:FRAME_BYTES])]
    for start in range(FRAME_BYTES, size, FRAME_BYTES):
        last = END_HEADERS if start + FRAME_BYTES >= size else 0
        out.append(frame(CONTINUATION, last, stream, block[start : start + FRAME_BYTES]))
    return out


def data(stream: int, payload: bytes, *, end: bool) -> list[bytes]:
    """DATA frames with the payload; one at least."""
    size = len(payload)
    if size <= FRAME_BYTES:
        return [pack_head(size << 8 | DATA, END_STREAM if end else 0, stream), payload]
    out: list[bytes] = []
    for start in range(0, size, FRAME_BYTES):
        piece = payload[start : start + FRAME_BYTES]
        flags = END_STREAM if end and start + FRAME_BYTES >= size else 0
        out += (pack_head(len(piece) << 8 | DATA, flags, stream), piece)
    return out


def header_block(flags: int, payload: bytes) -> bytes:
    """What of HEADERS is about fields (RFC 9113 6.2). ConnectionFault."""
    if flags & PADDED:
        payload = unpadded(payload)
    if flags & HAS_PRIORITY:
        if len(payload) < 5:
            raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS too short for its priority")
        payload = payload[5:]
    return payload


def unpadded(payload: bytes) -> bytes:
    """What is between the pad length and the padding (RFC 9113 6.1). ConnectionFault."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR if payload else FRAME_SIZE_ERROR, "padding longer than the frame")
    return payload[1 : len(payload) - payload[0]]
