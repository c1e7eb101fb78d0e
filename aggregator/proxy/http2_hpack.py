"""Header compression for HTTP/2 (RFC 7541). Pure, except for bounded memo tables.

Decoding takes time in proportion to the block, whatever is in it; Huffman code and static table are those of `hpack`.
Encoding keeps no table at all: a response's lines recur from message to message, so a line's encoded form is looked up.
"""

import re
from collections import deque

from hpack import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

Fields = list[tuple[bytes, bytes]]

TABLE_BYTES = 4096
"""The default of SETTINGS_HEADER_TABLE_SIZE, which we leave alone."""
NO_TABLE = b"\x20"
"""A table size update to nothing: said once, before our first block, since a peer may have asked for less than the
default."""

_OVERHEAD = 32
"""What RFC 7541 4.1 adds to the length of a field."""
PATIENCE = 4
"""A block that comes to so many times the limit is not even read to its end."""
_LONGEST_INTEGER = 4
_STATIC = HeaderTable.STATIC_TABLE
_STATIC_COUNT = len(_STATIC)
_MEMO_LIMIT = 4096
_MEMO_BYTES = 256
_NOT_REMEMBERED = frozenset(
    (b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"sec-websocket-protocol", b"audit-id")
)
"""Secret, or different each time."""


class HpackError(Exception):
    """The block cannot be decoded; neither can any that follows on the connection."""


class TooLarge(Exception):  # an answer, not a fault of ours
    """The fields exceed the limit; the decoder's state is as it should be."""


class Decoder:
    """The decoder of one connection."""

    __slots__ = ("_entries", "_limit", "_most", "_size", "generation")

    def __init__(self, limit: int) -> None:
        """`limit` is for the fields of one block, in bytes as RFC 7541 4.1 counts them."""
        self.generation = 0
        """Counts the changes of the dynamic table: equal blocks mean the same while it stays."""
        self._entries: deque[tuple[bytes, bytes]] = deque()
        self._size = 0
        self._most = TABLE_BYTES
        self._limit = limit

    def decode(self, block: bytes) -> Fields:
        """The fields in order. HpackError, or TooLarge."""
        fields: Fields = []
        total = position = 0
        end = len(block)
        limit = self._limit
        try:
            while position < end:
                first = block[position]
                if first & 0x80:
                    index, position = _integer(block, position, 0x7F)
                    field = self._field(index)
                elif first & 0xE0 == 0x20:
                    if total:
                        raise HpackError("table size update behind a field")
                    size, position = _integer(block, position, 0x1F)
                    self._resize(size)
                    continue
                else:
                    index, position = _integer(block, position, 0x3F if first & 0x40 else 0x0F)
                    if index:
                        name = self._field(index)[0]
                    else:
                        name, position = _string(block, position)
                    value, position = _string(block, position, memorable=name not in _NOT_REMEMBERED)
                    field = (name, value)
                    if first & 0x40:
                        self._add(field)
                total += len(field[0]) + len(field[1]) + _OVERHEAD
                if total <= limit:
                    fields.append(field)
                elif total > limit * PATIENCE:
                    raise HpackError("far too many fields")
        except IndexError:
            raise HpackError("truncated block or unknown index") from None
        except HPACKDecodingError as error:
            raise HpackError(str(error)) from None
        if total > limit:
            raise TooLarge
        return fields

    def _field(self, index: int) -> tuple[bytes, bytes]:
        if index > _STATIC_COUNT:
            return self._entries[index - _STATIC_COUNT - 1]
        if index == 0:
            raise HpackError("index 0")
        return _STATIC[index - 1]

    def _add(self, field: tuple[bytes, bytes]) -> None:
        self.generation += 1
        self._entries.appendleft(field)
        self._size += len(field[0]) + len(field[1]) + _OVERHEAD
        self._evict()

    def _resize(self, size: int) -> None:
        if size > TABLE_BYTES:
            raise HpackError("table size above the maximum")
        self.generation += 1
        self._most = size
        self._evict()

    def _evict(self) -> None:
        while self._size > self._most:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def _integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """An integer whose first bits are those of `mask`, and the position behind it (RFC 7541 5.1)."""
    value = block[position] & mask
    position += 1
    if value < mask:
        return value, position
    for shift in range(0, 7 * _LONGEST_INTEGER, 7):
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise HpackError("integer too large")


_huffman: dict[bytes, bytes] = {}


def _string(block: bytes, position: int, *, memorable: bool = True) -> tuple[bytes, int]:
    compressed = block[position] & 0x80
    length, position = _integer(block, position, 0x7F)
    end = position + length
    if end > len(block):
        raise HpackError("truncated block")
    data = block[position:end]
    if not compressed:
        return data, end
    found = _huffman.get(data)
    if found is None:
        found = decode_huffman(data)
        if memorable and length <= _MEMO_BYTES:
            if len(_huffman) >= _MEMO_LIMIT:
                _huffman.clear()
            _huffman[data] = found
    return found, end


# Encoding

_NAMES: dict[bytes, int] = {}
for _index, (_name, _) in enumerate(_STATIC, 1):
    _NAMES.setdefault(_name, _index)
_STATUS = {200: b"\x88", 204: b"\x89", 206: b"\x8a", 304: b"\x8b", 400: b"\x8c", 404: b"\x8d", 500: b"\x8e"}
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_COOKIES = frozenset((b"cookie", b"set-cookie"))
_lines: dict[bytes, bytes] = {}


def _length(prefix: int, mask: int, value: int) -> bytes:
    if value < mask:
        return bytes((prefix | value,))
    encoded = bytearray((prefix | mask,))
    value -= mask
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_name(name: bytes) -> bytes:
    """The start of a literal field without indexing; `name` is in lower case."""
    index = _NAMES.get(name)
    if index is not None:
        return _length(0, 0x0F, index)
    return b"\0%b%b" % (_length(0, 0x7F, len(name)), name)


def encode_value(value: bytes) -> bytes:
    return _length(0, 0x7F, len(value)) + value


def encode_line(line: bytes) -> bytes:
    """A `Name: value` line of HTTP/1.1, without its end; nothing for a value that HTTP/2 cannot carry."""
    found = _lines.get(line)
    if found is not None:
        return found
    name, _, value = line.partition(b":")
    value = value.strip(b" \t")
    encoded = encode_name(name.lower()) + encode_value(value) if _VALUE.fullmatch(value) else b""
    if len(line) <= _MEMO_BYTES and name.lower() not in _COOKIES:
        if len(_lines) >= _MEMO_LIMIT:
            _lines.clear()
        _lines[line] = encoded
    return encoded


def encode_status(code: int) -> bytes:
    return _STATUS.get(code) or b"\x08\x03%d" % code
