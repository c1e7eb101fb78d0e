"""A writer of protobuf bytes for tests; bodies are put together field by field."""

from apimachinery.protobuf import PREFIX


def varint(value: int) -> bytes:
    """A non-negative number below 2**64; negative ones are written as their two's complement, as encoders do."""
    value &= 2**64 - 1
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def content(field: int, data: bytes | str) -> bytes:
    """A string, bytes or message."""
    raw = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def body(raw: bytes, api_version: str = "", kind: str = "") -> bytes:
    """A request body: the envelope as Go clients write it, empty members included."""
    type_meta = content(1, api_version) + content(2, kind)
    return PREFIX + content(1, type_meta) + content(2, raw) + content(3, "") + content(4, "")
