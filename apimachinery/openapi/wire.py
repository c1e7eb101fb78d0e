"""The protobuf wire format, as far as it takes to write proto3 messages from tables of their fields."""

import struct
from collections.abc import Callable, Mapping
from typing import Any

VARINT, FIXED64, LENGTH = 0, 1, 2

Field = Callable[[Any], bytes]
"""Encodes the value of one field, tag included. Fields at their default value encode to nothing."""

Message = Callable[[Any], bytes]
"""Encodes the content of a message."""


def varint(value: int) -> bytes:
    """A base-128 integer; negative ones as 64-bit two's complement."""
    rest = value & 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def delimited(number: int, content: bytes) -> bytes:
    return tag(number, LENGTH) + varint(len(content)) + content


def string(number: int) -> Field:
    return lambda value: delimited(number, str(value).encode()) if value else b""


def strings(number: int) -> Field:
    return lambda values: b"".join(delimited(number, str(value).encode()) for value in values)


def boolean(number: int) -> Field:
    return lambda value: tag(number, VARINT) + b"\x01" if value else b""


def integer(number: int) -> Field:
    return lambda value: tag(number, VARINT) + varint(int(value)) if value else b""


def double(number: int) -> Field:
    return lambda value: tag(number, FIXED64) + struct.pack("<d", float(value)) if value else b""


def message(number: int, content: Message) -> Field:
    return lambda value: delimited(number, content(value))


def messages(number: int, content: Message) -> Field:
    return lambda values: b"".join(delimited(number, content(value)) for value in values)


def named(number: int, content: Message, members: Mapping[str, Any]) -> bytes:
    """A map as repeated messages of (1: name, 2: value)."""
    return b"".join(
        delimited(number, delimited(1, name.encode()) + delimited(2, content(value))) for name, value in members.items()
    )


def mapping(number: int, content: Message) -> Field:
    """A field whose message consists of one map, field 1."""
    return lambda members: delimited(number, named(1, content, members))
