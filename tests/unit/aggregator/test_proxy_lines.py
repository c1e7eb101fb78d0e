"""Plain reading of heads, line by line, agrees with full reading."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.proxy import lines
from aggregator.proxy.headers import HeaderRules

RULES = HeaderRules()

_NAMES = st.sampled_from(
    [
        "Host",
        "Accept",
        "X-Remote-User",
        "x_remote_group",
        "Authorization",
        "AUTHORIZATION",
        "Connection",
        "User-Agent",
        "X-Forwarded-Uri",
    ]
)
_VALUES = st.sampled_from(["a", "keep-alive", "close", "x y", "", "é", "a:b", "Bearer a", "bearer a"])


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=6))
def test_plain_reading_never_forwards_more_or_less_than_full_reading(fields: list[tuple[str, str]]) -> None:
    raw = [f"{name}: {value}".encode("latin-1") for name, value in fields]
    plain = lines.plain_request(lines.RequestLines(RULES), list(raw))
    full = RULES.request([(name.encode(), value.encode("latin-1")) for name, value in fields])
    if plain is None:
        names = [name.lower() for name, _ in fields]
        assert full.hosts != 1 or "connection" in names or names.count("authorization") > 1
    else:
        kept, authorization = plain
        assert full.hosts == 1
        assert [line + b"\r\n" for line in kept] == full.lines
        assert authorization[lines.CREDENTIALS :].strip(b" \t") == full.authorization


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Connection: x-a",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"X-Forwarded-For: 1.1.1.1",
        b"Audit-ID: x",
        b"Impersonate-User: x",
        b"TE: trailers",
        b"Trailer: x",
        b"X-A: a\rb",
        b"X-A: a\nb",
        b"X-A: a\x00b",
        b"X-A: a\x01b",
        b"X A: b",
        b"X-A : b",
        b" X-A: b",
        b"\tX-A: b",
        b": b",
        b"X-A",
        b"",
        b"X-\xe9: b",
        b"X-A: \x7f",
    ],
)
def test_lines_that_are_left_to_the_full_parser(line: bytes) -> None:
    memo = lines.RequestLines(RULES)
    for _ in range(2):
        assert lines.plain_request(memo, [b"Host: a", line]) is None


def test_secrets_are_not_remembered() -> None:
    memo = lines.RequestLines(RULES)
    given = [b"Host: a", b"Authorization: Bearer t", b"Cookie: c"]
    assert lines.plain_request(memo, given) == ([b"Cookie: c"], b"Authorization: Bearer t")
    assert list(memo.known) == [b"Host: a"]


def test_a_flood_of_new_lines_does_not_fill_memory() -> None:
    memo = lines.RequestLines(RULES)
    for number in range(10000):
        memo.learn(b"X-%d: 1" % number)
    assert len(memo.known) <= 4096
