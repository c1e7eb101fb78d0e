"""The protobuf wire format: bytes to numbered values, without knowledge of any message."""

from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
GROUP: Final = 3
GROUP_END: Final = 4
FIXED32: Final = 5

_VARINT_BYTES = 10
_MAX_FIELD_NUMBER = 2**29 - 1
_FIXED_SIZES: Final = {FIXED64: 8, FIXED32: 4}


class ProtobufError(ValueError):
    """Bytes that are not the message they should be; the text is for the client."""


class Entry(NamedTuple):
    number: int
    wire_type: int
    value: int | memoryview
    """The number of a varint, the content of anything else."""


def entries(data: memoryview) -> Iterator[Entry]:
    """The fields of a message in the order of the wire; groups, which no Kubernetes message has, are passed over.

    ProtobufError where the bytes end early or say what no encoder writes.
    """
    position, depth = 0, 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number <= _MAX_FIELD_NUMBER:
            raise ProtobufError(f"proto: illegal tag {number} (wire type {wire_type})")
        if wire_type in (GROUP, GROUP_END):
            depth += 1 if wire_type == GROUP else -1
            if depth < 0:
                raise ProtobufError("proto: unexpected end of group")
            continue
        value, position = _value(data, position, wire_type)
        if depth == 0:
            yield Entry(number, wire_type, value)
    if depth:
        raise ProtobufError("unexpected EOF")


def signed(value: int, bits: int) -> int:
    """A varint as a signed integer of 32 or 64 bits: what is above them is cut, as in the originals."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _value(data: memoryview, position: int, wire_type: int) -> tuple[int | memoryview, int]:
    if wire_type == VARINT:
        return _varint(data, position)
    if wire_type == LENGTH:
        size, position = _varint(data, position)
    else:
        found = _FIXED_SIZES.get(wire_type)
        if found is None:
            raise ProtobufError(f"proto: illegal wireType {wire_type}")
        size = found
    if size > len(data) - position:
        raise ProtobufError("unexpected EOF")
    return data[position : position + size], position + size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_VARINT_BYTES):
        if position >= len(data):
            raise ProtobufError("unexpected EOF")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >> 64:
                break
            return value, position
    raise ProtobufError("proto: integer overflow")
