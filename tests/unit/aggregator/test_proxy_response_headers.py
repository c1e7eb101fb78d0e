"""Response fields on their way through."""

import pytest

from aggregator.proxy import headers, lines
from aggregator.proxy.headers import HeaderRules, relative_location

RULES = HeaderRules()


@pytest.mark.parametrize(
    "name",
    [
        "Keep-Alive",
        "Proxy-Authenticate",
        "Audit-Id",
        "Access-Control-Allow-Origin",
        "access-control-allow-credentials",
        "Access-Control-Allow-Headers",
        "Access-Control-Allow-Methods",
        "Upgrade",
        "Connection",
        "TE",
    ],
)
def test_these_response_fields_do_not_travel(name: str) -> None:
    assert headers.response([(name.encode(), b"1")], b"b:1").lines == []


@pytest.mark.parametrize(
    "name", ["Content-Type", "ETag", "Date", "Server", "Set-Cookie", "Access-Control-Expose-Headers", "Warning", "Vary"]
)
def test_these_response_fields_travel(name: str) -> None:
    assert headers.response([(name.encode(), b"1")], b"b:1").lines == [f"{name}: 1\r\n".encode()]


@pytest.mark.parametrize("value", [b"gzip", b"gzip, chunked", b"identity", b""])
def test_response_codings_that_cannot_be_forwarded(value: bytes) -> None:
    with pytest.raises(ValueError, match="unsupported transfer encoding"):
        headers.response([(b"Transfer-Encoding", value)], b"b:1")


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("https://b:1/x?y", "/x?y"),
        ("http://B:1/x", "/x"),
        ("//b:1/x", "/x"),
        ("https://b:1", "/"),
        ("/x", "/x"),
        ("x/y", "x/y"),
        ("https://other/x", "https://other/x"),
        ("https://b:12/x", "https://b:12/x"),
        ("https://b:1.evil/x", "https://b:1.evil/x"),
        ("https://b:1//evil/x", "https://b:1//evil/x"),
        ("https://b:1/\\evil", "https://b:1/\\evil"),
    ],
)
def test_a_location_at_the_backend_becomes_relative(location: str, sent: str) -> None:
    assert relative_location(location.encode(), b"b:1") == sent.encode()


def test_trailers() -> None:
    fields = [(b"X-Sum", b"1"), (b"Content-Length", b"2"), (b"X-Remote-User", b"x"), (b"Set-Cookie", b"y")]
    assert RULES.trailers(fields) == b"X-Sum: 1\r\n"
    assert headers.response_trailers([*fields[:2], fields[3]]) == b"X-Sum: 1\r\n"


@pytest.mark.parametrize(
    ("head", "plain"),
    [
        ("HTTP/1.1 200 OK|Content-Length: 2", True),
        ("HTTP/1.1 404 Not Found|Content-Length: 2|Connection: keep-alive", True),
        ("HTTP/1.1 200 |Content-Length: 2", True),
        ("HTTP/1.1 200 OK|Content-Length: 2|Connection: close", False),
        ("HTTP/1.1 200 OK|Content-Length: 2|Content-Length: 2", False),
        ("HTTP/1.1 200 OK|Content-Length: 2|Transfer-Encoding: chunked", False),
        ("HTTP/1.1 200 OK|Content-Length: +2", False),
        ("HTTP/1.1 200 OK|Content-Length: 2, 2", False),
        ("HTTP/1.1 200 OK", False),
        ("HTTP/1.1 204 No Content|Content-Length: 0", False),
        ("HTTP/1.1 100 Continue|Content-Length: 0", False),
        ("HTTP/1.1 302 Found|Content-Length: 0", False),
        ("HTTP/1.1 201 Created|Content-Length: 0|Location: /x", False),
        ("HTTP/1.0 200 OK|Content-Length: 2", False),
        ("HTTP/1.1 20 OK|Content-Length: 2", False),
        ("HTTP/1.1 2000 OK|Content-Length: 2", False),
        ("HTTP/1.1 200 OK|X A: 1|Content-Length: 2", False),
        ("HTTP/1.1 200 OK|X-A: 1\x00|Content-Length: 2", False),
        ("HTTP/1.1 200 OK|X-A: 1\n|Content-Length: 2", False),
        ("HTTP/1.1 200 OK\r|Content-Length: 2", False),
    ],
)
def test_plain_responses(head: str, plain: bool) -> None:
    data = head.replace("|", "\r\n").encode() + b"\r\n\r\nok"
    for _ in range(2):
        found = lines.plain_response(data)
        assert (found is not None) is plain
        if found is not None:
            assert data[found[4] :] == b"ok"
            assert found[3] == 2


def test_a_plain_response_loses_what_must_not_travel() -> None:
    data = b"HTTP/1.1 200 OK\r\nAudit-Id: b\r\nContent-Length: 0\r\nCache-Control: max-age=1\r\nKeep-Alive: x\r\n\r\n"
    assert lines.plain_response(data) == (
        200,
        [b"HTTP/1.1 200 OK", b"Content-Length: 0", b"Cache-Control: max-age=1"],
        True,
        0,
        len(data),
    )
