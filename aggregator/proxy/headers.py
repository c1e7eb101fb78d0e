"""What happens to header fields on their way through (aggregator.md 2.7). Pure, except for bounded memo tables.

A field's fate depends on its name alone and names recur, so it is looked up by the bytes as received; only a name
never seen before is normalised and classified.
"""

import enum
from collections.abc import Iterable

from apimachinery.identity import RequestHeaderNames, User, to_headers

Headers = list[tuple[bytes, bytes]]

_MEMO_LIMIT = 2048
_MEMO_BYTES = 64
"""Names remembered per table, and how long they may be; others are classified each time, so that invented names cannot
fill memory."""


class Fate(enum.IntEnum):
    PASS = 0
    DROP = 1
    CONTENT_LENGTH = 2
    TRANSFER_ENCODING = 3
    CONNECTION = 4
    UPGRADE = 5
    HOST = 6
    EXPECT = 7
    FORWARDED_FOR = 8
    IMPERSONATE = 9
    TE = 10
    TRAILER = 11
    WEBSOCKET_PROTOCOL = 12
    LOCATION = 13
    CACHE_CONTROL = 14
    AUDIT_ID = 15
    AUTHORIZATION = 16


_PASS, _DROP = int(Fate.PASS), int(Fate.DROP)

_REQUEST_FATES = {
    b"authorization": Fate.AUTHORIZATION,
    b"keep-alive": Fate.DROP,
    b"proxy-connection": Fate.DROP,
    b"proxy-authenticate": Fate.DROP,
    b"proxy-authorization": Fate.DROP,
    b"audit-id": Fate.AUDIT_ID,
    b"http2-settings": Fate.DROP,
    b"x-forwarded-uri": Fate.DROP,
    b"x-forwarded-host": Fate.DROP,
    b"x-forwarded-proto": Fate.DROP,
    b"x-forwarded-for": Fate.FORWARDED_FOR,
    b"content-length": Fate.CONTENT_LENGTH,
    b"transfer-encoding": Fate.TRANSFER_ENCODING,
    b"connection": Fate.CONNECTION,
    b"upgrade": Fate.UPGRADE,
    b"host": Fate.HOST,
    b"expect": Fate.EXPECT,
    b"te": Fate.TE,
    b"trailer": Fate.TRAILER,
    b"sec-websocket-protocol": Fate.WEBSOCKET_PROTOCOL,
}

_RESPONSE_FATES = {
    b"keep-alive": Fate.DROP,
    b"proxy-connection": Fate.DROP,
    b"proxy-authenticate": Fate.DROP,
    b"proxy-authorization": Fate.DROP,
    b"te": Fate.DROP,
    b"audit-id": Fate.DROP,
    b"access-control-allow-credentials": Fate.DROP,
    b"access-control-allow-headers": Fate.DROP,
    b"access-control-allow-methods": Fate.DROP,
    b"access-control-allow-origin": Fate.DROP,
    b"upgrade": Fate.UPGRADE,
    b"connection": Fate.CONNECTION,
    b"content-length": Fate.CONTENT_LENGTH,
    b"transfer-encoding": Fate.TRANSFER_ENCODING,
    b"trailer": Fate.TRAILER,
    b"location": Fate.LOCATION,
    b"cache-control": Fate.CACHE_CONTROL,
}

_NOT_IN_TRAILERS = frozenset((b"set-cookie", b"content-encoding", b"content-type", b"content-range", b"cookie"))
_CONNECTION_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"trailer", b"http2-settings", b""))
_UPGRADES = frozenset((b"websocket", b"spdy/3.1"))
_BEARER_PROTOCOL = b"base64url.bearer.authorization.k8s.io."
_CONTROL = frozenset(range(32)) | {127}


class RequestHead:
    """What the fields of one request say; `lines` are the ones to forward as they are."""

    __slots__ = (
        "audit_id",
        "authorization",
        "chunked",
        "connection",
        "content_length",
        "expect",
        "forwarded_for",
        "host",
        "hosts",
        "impersonation",
        "lines",
        "transfer_encodings",
        "upgrade",
        "websocket_protocols",
    )

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.content_length = -1
        self.transfer_encodings = 0
        self.chunked = False
        self.connection = b""
        self.upgrade = b""
        self.host = b""
        self.hosts = 0
        self.expect = False
        self.forwarded_for = b""
        self.audit_id = b""
        self.authorization = b""
        self.websocket_protocols = b""
        self.impersonation: list[tuple[str, str]] = []
        """The impersonation headers, names in lower case."""

    @property
    def has_body(self) -> bool:
        return self.chunked or self.content_length > 0

    @property
    def wants_upgrade(self) -> bool:
        """A switch to a protocol that is spliced; h2c and unknown ones are served as plain requests instead."""
        return (
            bool(self.upgrade) and self.upgrade.strip().lower() in _UPGRADES and b"upgrade" in _tokens(self.connection)
        )

    @property
    def asked_upgrade(self) -> bool:
        """Any switch of protocol was asked for: where a body starts is then in doubt for HTTP/1.1 parsers."""
        return bool(self.upgrade) and b"upgrade" in self.connection.lower()

    def framing_error(self, http_version: str) -> str | None:
        """Why the request is ambiguous or malformed beyond what the parser refuses (RFC 9112 3.2, 6.1), or None."""
        if http_version != "1.1" and http_version != "1.0":
            return "unsupported protocol version"
        if self.hosts != 1 and (self.hosts > 1 or http_version == "1.1"):
            return "a request needs exactly one Host header" if self.hosts else "missing required Host header"
        if self.transfer_encodings:
            if not self.chunked or self.transfer_encodings > 1:
                return "unsupported transfer encoding"
            if self.content_length >= 0:
                return "both Content-Length and Transfer-Encoding"
            if http_version == "1.0":
                return "Transfer-Encoding in HTTP/1.0"
        if self.asked_upgrade and self.has_body:
            return "a request for an upgrade may not have a body"
        return None


class HeaderRules:
    """Rewrites request fields; `names` adds a front proxy's identity headers to those always dropped."""

    def __init__(self, names: RequestHeaderNames | None = None) -> None:
        names = names or RequestHeaderNames()
        exact = (*names.username, *names.uid, *names.group)
        self._exact = frozenset(_normal(name.encode()) for name in exact)
        self._prefixes = (b"x-remote-", *(_normal(prefix.encode()) for prefix in names.extra_prefix))
        self._memo: dict[bytes, int] = {}

    def classify(self, name: bytes) -> int:
        """The fate of a request field. Underscores count as hyphens: some backends cannot tell them apart."""
        normal = _normal(name)
        if normal in self._exact or normal.startswith(self._prefixes):
            return _DROP
        if normal.startswith(b"impersonate-"):
            return Fate.IMPERSONATE
        fate = _REQUEST_FATES.get(name.lower())
        if fate is None:
            # An underscore twin of a field that we interpret or drop must not reach a backend that confuses the two.
            fate = Fate.DROP if normal in _REQUEST_FATES else Fate.PASS
        return int(fate)

    def request(self, headers: Iterable[tuple[bytes, bytes]]) -> RequestHead:
        head = RequestHead()
        append = head.lines.append
        memo = self._memo
        for name, value in headers:
            fate = memo.get(name)
            if fate is None:
                fate = self.classify(name)
                if len(name) <= _MEMO_BYTES and len(memo) < _MEMO_LIMIT:
                    memo[name] = fate
            if fate == 0:
                append(b"%b: %b\r\n" % (name, value))
            elif fate != 1:
                _note_request(head, fate, name, value)
        if head.connection and not _CONNECTION_OPTIONS.issuperset(_tokens(head.connection)):
            named = set(_tokens(head.connection))
            head.lines = [line for line in head.lines if line.partition(b":")[0].lower() not in named]
        return head

    def trailers(self, trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The request trailers that may travel on, as lines."""
        kept = []
        for name, value in trailers:
            if self.classify(name) == _PASS and name.lower() not in _NOT_IN_TRAILERS:
                kept.append(b"%b: %b\r\n" % (name, value))
        return b"".join(kept)


def _note_request(head: RequestHead, fate: int, name: bytes, value: bytes) -> None:
    if fate == Fate.EXPECT or fate == Fate.TRAILER:
        head.expect = head.expect or fate == Fate.EXPECT
        head.lines.append(b"%b: %b\r\n" % (name, value))
    elif fate == Fate.HOST:
        head.hosts += 1
        head.host = value
    elif fate == Fate.CONTENT_LENGTH:
        head.content_length = int(value)
    elif fate == Fate.TRANSFER_ENCODING:
        head.transfer_encodings += 1
        head.chunked = value.strip(b" \t").lower() == b"chunked"
    elif fate == Fate.CONNECTION:
        head.connection = b"%b,%b" % (head.connection, value) if head.connection else value
    elif fate == Fate.UPGRADE:
        head.upgrade = b"%b,%b" % (head.upgrade, value) if head.upgrade else value
    elif fate == Fate.FORWARDED_FOR:
        head.forwarded_for = b"%b, %b" % (head.forwarded_for, value) if head.forwarded_for else value
    elif fate == Fate.AUDIT_ID:
        head.audit_id = value
    elif fate == Fate.IMPERSONATE:
        head.impersonation.append((name.decode("latin-1").lower(), value.decode("utf-8", "replace")))
    elif fate == Fate.AUTHORIZATION:
        head.authorization = head.authorization or value
    elif fate == Fate.TE and b"trailers" in _tokens(value):
        head.lines.append(b"TE: trailers\r\n")
    elif fate == Fate.WEBSOCKET_PROTOCOL:
        offered = head.websocket_protocols
        head.websocket_protocols = b"%b,%b" % (offered, value) if offered else value
        head.lines.append(_without_bearer(name, value))


def _without_bearer(name: bytes, value: bytes) -> bytes:
    """The subprotocols that a WebSocket client offers, without the one that carries its token."""
    kept = [item for item in (part.strip() for part in value.split(b",")) if not item.startswith(_BEARER_PROTOCOL)]
    return b"%b: %b\r\n" % (name, b", ".join(kept)) if kept else b""


class ResponseHead:
    """What the fields of one response say; `lines` are the ones to forward as they are."""

    __slots__ = ("cache_control", "chunked", "connection", "content_length", "lines", "location", "upgrade")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.content_length = -1
        self.chunked = False
        self.connection = b""
        self.upgrade = b""
        self.cache_control = False
        self.location: bytes | None = None


_response_memo: dict[bytes, int] = {}


def response_fate(name: bytes) -> int:
    """The fate of a response field."""
    return int(_RESPONSE_FATES.get(name.lower(), Fate.PASS))


def response(headers: Iterable[tuple[bytes, bytes]], authority: bytes) -> ResponseHead:
    """Rewrite response fields. `authority` is the backend's host:port as sent in Host.

    A Location that names the backend itself becomes relative, since clients know only us. ValueError for a transfer
    coding that cannot be forwarded.
    """
    head = ResponseHead()
    append = head.lines.append
    memo = _response_memo
    for name, value in headers:
        fate = memo.get(name)
        if fate is None:
            fate = response_fate(name)
            if len(name) <= _MEMO_BYTES and len(memo) < _MEMO_LIMIT:
                memo[name] = fate
        if fate == 0:
            append(b"%b: %b\r\n" % (name, value))
        elif fate != 1:
            _note_response(head, fate, name, value, authority)
    if head.connection and not _CONNECTION_OPTIONS.issuperset(_tokens(head.connection)):
        named = set(_tokens(head.connection))
        head.lines = [line for line in head.lines if line.partition(b":")[0].lower() not in named]
    return head


def _note_response(head: ResponseHead, fate: int, name: bytes, value: bytes, authority: bytes) -> None:
    if fate == Fate.CONTENT_LENGTH:
        head.content_length = int(value)
    elif fate == Fate.CACHE_CONTROL:
        head.cache_control = True
        head.lines.append(b"%b: %b\r\n" % (name, value))
    elif fate == Fate.CONNECTION:
        head.connection = b"%b,%b" % (head.connection, value) if head.connection else value
    elif fate == Fate.TRANSFER_ENCODING:
        if head.chunked or value.strip(b" \t").lower() != b"chunked":
            raise ValueError("unsupported transfer encoding")
        head.chunked = True
    elif fate == Fate.UPGRADE:
        head.upgrade = value
    elif fate == Fate.TRAILER:
        head.lines.append(b"%b: %b\r\n" % (name, value))
    elif fate == Fate.LOCATION:
        head.location = value
        head.lines.append(b"%b: %b\r\n" % (name, relative_location(value, authority)))


def response_trailers(trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
    kept = []
    for name, value in trailers:
        lowered = name.lower()
        if lowered not in _RESPONSE_FATES and lowered not in _NOT_IN_TRAILERS:
            kept.append(b"%b: %b\r\n" % (name, value))
    return b"".join(kept)


def relative_location(value: bytes, authority: bytes) -> bytes:
    """Strip scheme and host from a Location that points at the backend itself; leave any other untouched."""
    for scheme in (b"https://", b"http://", b"//"):
        start = len(scheme)
        if value[:start].lower() == scheme and value[start : start + len(authority)].lower() == authority.lower():
            rest = value[start + len(authority) :]
            if not rest:
                return b"/"
            # `//host//x` must not become `//x`, which names another host.
            if rest.startswith(b"/") and not rest.startswith((b"//", b"/\\")):
                return rest
    return value


def identity_lines(user: User) -> bytes:
    """The X-Remote-* lines of a user. ValueError when a value cannot stand in a header."""
    lines = []
    for name, value in to_headers(user):
        encoded = value.encode()
        if _CONTROL.intersection(encoded):
            raise ValueError("the identity holds control characters")
        lines.append(b"%b: %b\r\n" % (name.encode(), encoded))
    return b"".join(lines)


_AUDIT_ID_CHARACTERS = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._:+/=")


def sane_audit_id(value: bytes) -> bool:
    """Whether a client's audit id may be used: short, and nothing that could confuse a log or a header."""
    return 0 < len(value) <= 64 and _AUDIT_ID_CHARACTERS.issuperset(value)


def _normal(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip(b" \t") for token in value.lower().split(b",")]
