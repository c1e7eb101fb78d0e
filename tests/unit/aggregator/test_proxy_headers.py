"""Request fields on their way through."""

import pytest

from aggregator.proxy.headers import HeaderRules, identity_lines, sane_audit_id
from apimachinery.identity import RequestHeaderNames, User

RULES = HeaderRules()


def kept(*pairs: tuple[str, str]) -> list[str]:
    head = RULES.request([(name.encode(), value.encode("latin-1")) for name, value in pairs])
    return [line.decode("latin-1").removesuffix("\r\n") for line in head.lines if line]


@pytest.mark.parametrize(
    "name",
    [
        "X-Remote-User",
        "x-remote-user",
        "X-REMOTE-USER",
        "X_Remote_User",
        "x_remote_user",
        "X-Remote_User",
        "X_REMOTE-GROUP",
        "X-Remote-Group",
        "X-Remote-Uid",
        "X-Remote-Extra-Scopes",
        "X-Remote-Extra-a%2Fb",
        "x_remote_extra_scopes",
        "X-Remote-Extra-",
        "X-Remote-Anything",
        "Authorization",
        "AUTHORIZATION",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "HTTP2-Settings",
        "X-Forwarded-Uri",
        "X-Forwarded-Host",
        "X_Forwarded_Host",
        "X-Forwarded-Proto",
        "X_Forwarded_For",
        "Content_Length",
        "Transfer_Encoding",
        "Audit_Id",
        "Connection",
        "Upgrade",
        "Host",
        "Te",
    ],
)
def test_these_request_fields_do_not_travel(name: str) -> None:
    assert kept((name, "1")) == []


@pytest.mark.parametrize(
    "name",
    [
        "Accept",
        "accept-encoding",
        "User-Agent",
        "Content-Type",
        "Cookie",
        "If-None-Match",
        "X-Request-Id",
        "X_Custom",
        "traceparent",
        "tracestate",
        "baggage",
        "Kubectl-Command",
        "X-Remot",
        "XX-Remote-User",
        "X-RemoteUser",
        "Forwarded",
        "Sec-WebSocket-Key",
        "Expect",
        "Trailer",
        "Range",
        "Origin",
    ],
)
def test_these_request_fields_travel_untouched(name: str) -> None:
    assert kept((name, " a,b;c=\xe9 ")) == [f"{name}:  a,b;c=\xe9 "]


def test_custom_identity_headers_are_dropped_too() -> None:
    names = RequestHeaderNames(username=("X-Proxy-User",), group=("X-Proxy-Groups",), extra_prefix=("X-Proxy-Extra-",))
    rules = HeaderRules(names)
    fields = [(b"X-Proxy-User", b"a"), (b"x_proxy_groups", b"b"), (b"X-Proxy-Extra-k", b"c"), (b"X-Remote-User", b"d")]
    assert rules.request([*fields, (b"X-Proxy-Other", b"e")]).lines == [b"X-Proxy-Other: e\r\n"]


@pytest.mark.parametrize(
    ("connection", "left"),
    [
        ("close", ["X-A: 1", "X-B: 2"]),
        ("keep-alive", ["X-A: 1", "X-B: 2"]),
        ("X-A", ["X-B: 2"]),
        ("close, x-a", ["X-B: 2"]),
        ("keep-alive,X-B , x-a", []),
        ("", ["X-A: 1", "X-B: 2"]),
    ],
)
def test_what_connection_names_is_dropped(connection: str, left: list[str]) -> None:
    assert kept(("X-A", "1"), ("Connection", connection), ("X-B", "2")) == left


def test_every_connection_line_counts() -> None:
    assert kept(("Connection", "close"), ("X-A", "1"), ("Connection", "x-a")) == []


def test_te_keeps_trailers_only() -> None:
    assert kept(("TE", "gzip, Trailers")) == ["TE: trailers"]


def test_forwarded_for_is_collected() -> None:
    head = RULES.request([(b"X-Forwarded-For", b"1.1.1.1"), (b"x-forwarded-for", b"2.2.2.2")])
    assert (head.forwarded_for, head.lines) == (b"1.1.1.1, 2.2.2.2", [])


@pytest.mark.parametrize(
    ("offered", "left"),
    [
        ("a, b", ["Sec-WebSocket-Protocol: a, b"]),
        ("base64url.bearer.authorization.k8s.io.dG9rZW4, a", ["Sec-WebSocket-Protocol: a"]),
        ("base64url.bearer.authorization.k8s.io.dG9rZW4", []),
    ],
)
def test_a_bearer_token_among_subprotocols_does_not_travel(offered: str, left: list[str]) -> None:
    assert kept(("Sec-WebSocket-Protocol", offered)) == left


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ([], []),
        ([("Impersonate-User", "bob")], [("impersonate-user", "bob")]),
        (
            [("impersonate-group", "g"), ("IMPERSONATE-USER", "b")],
            [("impersonate-group", "g"), ("impersonate-user", "b")],
        ),
        ([("Impersonate-Uid", "1")], [("impersonate-uid", "1")]),
        ([("Impersonate_Extra_x", "1")], [("impersonate_extra_x", "1")]),
    ],
)
def test_impersonation_is_noticed(fields: list[tuple[str, str]], wanted: list[tuple[str, str]]) -> None:
    head = RULES.request([(name.encode(), value.encode()) for name, value in fields])
    assert (head.impersonation, head.lines) == (wanted, [])


def test_credentials_are_kept_apart_from_what_travels_on() -> None:
    fields = [(b"Authorization", b"Bearer a"), (b"AUTHORIZATION", b"Bearer b"), (b"X-A", b"1")]
    head = RULES.request(fields)
    assert (head.authorization, head.lines) == (b"Bearer a", [b"X-A: 1\r\n"])
    head = RULES.request([(b"Sec-WebSocket-Protocol", b"a"), (b"Sec-WebSocket-Protocol", b"b")])
    assert head.websocket_protocols == b"a,b"


@pytest.mark.parametrize(
    ("fields", "version", "error"),
    [
        ([("Host", "a")], "1.1", None),
        ([], "1.0", None),
        ([], "1.1", "missing required Host header"),
        ([("Host", "a"), ("host", "a")], "1.1", "a request needs exactly one Host header"),
        ([("Host", "a"), ("Transfer-Encoding", "chunked")], "1.1", None),
        ([("Host", "a"), ("Transfer-Encoding", " Chunked\t")], "1.1", None),
        ([("Host", "a"), ("Transfer-Encoding", "gzip, chunked")], "1.1", "unsupported transfer encoding"),
        ([("Host", "a"), ("Transfer-Encoding", "identity")], "1.1", "unsupported transfer encoding"),
        ([("Host", "a"), ("Transfer-Encoding", "xchunked")], "1.1", "unsupported transfer encoding"),
        ([("Host", "a"), ("Transfer-Encoding", "")], "1.1", "unsupported transfer encoding"),
        (
            [("Host", "a"), ("Transfer-Encoding", "identity"), ("Transfer-Encoding", "chunked")],
            "1.1",
            "unsupported transfer encoding",
        ),
        (
            [("Host", "a"), ("Content-Length", "0"), ("Transfer-Encoding", "chunked")],
            "1.1",
            "both Content-Length and Transfer-Encoding",
        ),
        ([("Host", "a"), ("Transfer-Encoding", "chunked")], "1.0", "Transfer-Encoding in HTTP/1.0"),
        (
            [("Host", "a"), ("Connection", "Upgrade"), ("Upgrade", "h2c"), ("Content-Length", "3")],
            "1.1",
            "a request for an upgrade may not have a body",
        ),
        ([("Host", "a"), ("Upgrade", "h2c"), ("Content-Length", "3")], "1.1", None),
    ],
)
def test_framing_that_could_be_read_in_two_ways(fields: list[tuple[str, str]], version: str, error: str | None) -> None:
    head = RULES.request([(name.encode(), value.encode()) for name, value in fields])
    assert head.framing_error(version) == error


@pytest.mark.parametrize(
    ("connection", "upgrade", "wanted"),
    [
        ("Upgrade", "websocket", True),
        ("keep-alive, upgrade", "WebSocket", True),
        ("upgrade", "SPDY/3.1", True),
        ("upgrade", "h2c", False),
        ("upgrade", "websocket, h2c", False),
        ("keep-alive", "websocket", False),
        ("upgrade", "", False),
        ("upgraded", "websocket", False),
    ],
)
def test_upgrades_that_are_spliced(connection: str, upgrade: str, wanted: bool) -> None:
    head = RULES.request([(b"Connection", connection.encode()), (b"Upgrade", upgrade.encode())])
    assert head.wants_upgrade is wanted


def test_identity_lines() -> None:
    user = User("jo", "u1", ("a", "b"), {"example.org/k": ("1", "2")})
    assert identity_lines(user) == (
        b"X-Remote-User: jo\r\nX-Remote-Uid: u1\r\nX-Remote-Group: a\r\nX-Remote-Group: b\r\n"
        b"X-Remote-Extra-example.org%2Fk: 1\r\nX-Remote-Extra-example.org%2Fk: 2\r\n"
    )


@pytest.mark.parametrize("name", ["a\r\nX-Remote-Group: system:masters", "a\nb", "a\0", "a\x7f"])
def test_an_identity_with_control_characters_cannot_travel(name: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        identity_lines(User(name))


@pytest.mark.parametrize(
    ("value", "sane"),
    [
        ("2f1c4c9e-7a53-4d0b-9c5e-3a2b1c0d9e8f", True),
        ("trace:1/2+3=", True),
        ("", False),
        ("a b", False),
        ('a"b', False),
        ("é", False),
        ("a" * 64, True),
        ("a" * 65, False),
    ],
)
def test_audit_ids_of_clients(value: str, sane: bool) -> None:
    assert sane_audit_id(value.encode()) is sane
