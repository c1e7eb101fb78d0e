"""What is remembered of what others say: no more than a table's size times the length of what is worth it."""

import tracemalloc
from collections.abc import Callable

import hpack
import pytest

from aggregator.proxy import headers, http2_hpack, lines, shared_messages

RULES = headers.HeaderRules()
REQUEST_LINES = lines.RequestLines(RULES)
LONG = b"x" * 100_000
TABLES: dict[str, Callable[[bytes], object]] = {
    "request-names": lambda long: RULES.request([(long, b"1")]),
    "response-names": lambda long: headers.response([(long, b"1")], b"b:1"),
    "canonical-names": lambda long: shared_messages.read_regular([(long, b"1")]),
    "request-lines": lambda long: REQUEST_LINES.learn(b"X: " + long),
    "response-lines": lambda long: lines.response_lines.learn(b"X: " + long),
    "status-lines": lambda long: lines.response_lines.learn_status(b"HTTP/1.1 200 " + long),
    "shared-heads": lambda long: shared_messages.request_block(
        b"GET /%b HTTP/1.1\r\nHost: b\r\nAudit-ID: 1\r\nX: %b" % (long, long)
    ),
    "encoded-lines": lambda long: http2_hpack.encode_line(b"X: " + long),
}


@pytest.mark.parametrize("learn", TABLES.values(), ids=TABLES.keys())
def test_what_is_long_is_not_remembered(learn: Callable[[bytes], object]) -> None:
    learn(b"short")
    tracemalloc.start()
    try:
        for number in range(20):
            learn(LONG + b"%d" % number)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < len(LONG)


@pytest.mark.parametrize("name", [b"cookie", b"set-cookie", b"authorization", b"audit-id"])
def test_secrets_are_not_remembered(name: bytes) -> None:
    field = (name, b"secret-of-" + name)
    assert http2_hpack.Decoder(4096).decode(hpack.Encoder().encode([field], huffman=True)) == [field]
    assert field[1] not in http2_hpack._huffman.values()
