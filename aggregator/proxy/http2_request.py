"""What makes the fields of an HTTP/2 request well formed (RFC 9113 8.2, 8.3), and their HTTP/1.1 form. Pure."""

import re

from aggregator.proxy.bearers import Bearers
from aggregator.proxy.headers import Headers
from aggregator.proxy.http2_hpack import Fields
from aggregator.proxy.lines import CREDENTIALS, RequestLines, plain_request

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_CONNECTION_FIELDS = frozenset((b"connection", b"transfer-encoding", b"keep-alive", b"proxy-connection", b"upgrade"))
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
_PLAIN_METHODS = frozenset((b"GET", b"HEAD", b"DELETE", b"OPTIONS"))


class MalformedRequest(Exception):  # a client's fault
    """Says why."""


class Http2Request:
    """A well-formed request without its body. Shared by all requests of a connection that look the same."""

    __slots__ = ("bearer", "content_length", "fields", "line", "method", "plain", "tail", "target")

    def __init__(self, method: bytes, target: bytes, fields: Headers, content_length: int) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        """`host` is the first of them."""
        self.content_length = content_length
        """-1 if not said."""
        self.line = b"%b %b HTTP/1.1" % (method, target)
        self.plain: list[bytes] = []
        self.tail: bytes | None = None
        """The lines to forward and the end of the head, if there is nothing special among them and no body; `plain`
        are the same lines."""
        self.bearer = b""
        """What the credentials of a plain request are remembered by; empty when it has none."""

    def look_for_plainness(self, memo: RequestLines, bearers: Bearers) -> None:
        """Set `tail`, if it can be."""
        if self.method in _PLAIN_METHODS and self.content_length < 0:
            found = plain_request(memo, [b"%b: %b" % field for field in self.fields])
            if found is not None:
                self.plain, authorization = found
                self.tail = b"\r\n".join((*self.plain, b"\r\n"))
                self.bearer = bearers.digest(authorization[CREDENTIALS:]) if authorization and bearers else b""


def read_request(fields: Fields) -> Http2Request:
    """Check the fields of a request. MalformedRequest for what RFC 9113 8.1.1 calls so."""
    pseudo: dict[bytes, bytes] = {}
    position = 0
    for name, value in fields:
        if name[:1] != b":":
            break
        if name not in _PSEUDO or name in pseudo:
            raise MalformedRequest("unknown or repeated pseudo-header field")
        if _VALUE.fullmatch(value) is None:
            raise MalformedRequest("a pseudo-header field with control characters or outer white space")
        pseudo[name] = value
        position += 1
    method, target = _control(pseudo)
    regular = read_fields(fields[position:])
    return Http2Request(method, target, *_regular(regular, pseudo.get(b":authority")))


def _control(pseudo: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    method = pseudo.get(b":method", b"")
    if _METHOD.fullmatch(method) is None:
        raise MalformedRequest("no usable :method")
    scheme, target = pseudo.get(b":scheme"), pseudo.get(b":path")
    if method == b"CONNECT":
        if scheme is not None or target is not None or not pseudo.get(b":authority"):
            raise MalformedRequest("CONNECT with :scheme or :path, or without :authority")
        return method, b""
    if scheme not in (b"https", b"http"):
        raise MalformedRequest("no usable :scheme")
    if target is None or _TARGET.fullmatch(target) is None:
        raise MalformedRequest("no usable :path")
    return method, target


def read_fields(fields: Fields) -> Fields:
    """Check regular fields, be they a request's or trailers."""
    for name, value in fields:
        if _NAME.fullmatch(name) is None:
            raise MalformedRequest("a field name that is empty, upper case, out of order or has forbidden characters")
        if _VALUE.fullmatch(value) is None:
            raise MalformedRequest("a field value with control characters or outer white space")
        if name in _CONNECTION_FIELDS:
            raise MalformedRequest("a field that is about the connection")
        if name == b"te" and value.lower() != b"trailers":
            raise MalformedRequest("TE may only say trailers")
    return fields


def _regular(fields: Fields, authority: bytes | None) -> tuple[Headers, int]:
    """The fields as HTTP/1.1 has them, and the content length."""
    kept: Headers = []
    cookies: list[bytes] = []
    host: bytes | None = None
    length = -1
    for name, value in fields:
        if name == b"cookie":
            cookies.append(value)
        elif name == b"host":
            if host is not None:
                raise MalformedRequest("more than one Host")
            host = value
        else:
            if name == b"content-length":
                if length >= 0 or _DIGITS.fullmatch(value) is None:
                    raise MalformedRequest("no usable Content-Length")
                length = int(value)
            kept.append((name, value))
    if authority is not None:
        # RFC 9113 8.3.1: they may not differ, nor name a user; an authority of an https URI is never empty.
        if not authority or b"@" in authority or (host is not None and host.lower() != authority.lower()):
            raise MalformedRequest("no usable :authority, or one that differs from Host")
        host = authority
    if not host:
        raise MalformedRequest("neither :authority nor Host")
    kept.insert(0, (b"host", host))
    if cookies:
        # RFC 9113 8.2.3: crumbs become one field again.
        kept.append((b"cookie", b"; ".join(cookies)))
    return kept, length
