"""Bytes of HTTP/1.1 heads, both ways. Pure."""

from http import HTTPStatus

from aggregator.proxy.decide import Forward, Reply
from aggregator.proxy.headers import RequestHead, ResponseHead

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
_CACHE_CONTROL = b"Cache-Control: no-cache, private\r\n"
CLOSE = b"Connection: close\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def status_line(code: int) -> bytes:
    return _STATUS_LINES.get(code) or b"HTTP/1.1 %d status code %d\r\n" % (code, code)


def request_head(
    method: bytes,
    raw_target: bytes,
    head: RequestHead,
    forward: Forward,
    *,
    authority: bytes,
    audit_id: bytes,
    client: bytes,
) -> bytes:
    """The request as a backend sees it (aggregator.md 2.7); `client` is the peer's IP address."""
    raw_path = forward.target.raw_path
    forwarded_for = b"%b, %b" % (head.forwarded_for, client) if head.forwarded_for else client
    fixed = (
        b"%b %b HTTP/1.1\r\nHost: %b\r\n%bAudit-ID: %b\r\nX-Forwarded-For: %b\r\nX-Forwarded-Uri: %b\r\n"
        b"X-Forwarded-Host: %b\r\nX-Forwarded-Proto: https\r\n"
    ) % (method, raw_target, authority, forward.identity_lines, audit_id, forwarded_for, raw_path, authority)
    return b"".join((fixed, *head.lines, _request_framing(head)))


def request_prefix(method: bytes, raw_target: bytes, forward: Forward, authority: bytes) -> bytes:
    """What of a request's head depends on request line, identity and backend alone; without its last line end."""
    return (
        b"%b %b HTTP/1.1\r\nHost: %b\r\n%bX-Forwarded-Uri: %b\r\nX-Forwarded-Host: %b\r\nX-Forwarded-Proto: https"
        % (method, raw_target, authority, forward.identity_lines, forward.target.raw_path, authority)
    )


def upgrade_head(
    method: bytes,
    raw_target: bytes,
    head: RequestHead,
    forward: Forward,
    *,
    authority: bytes,
    audit_id: bytes,
    client: bytes,
) -> bytes:
    """The request of an upgrade (aggregator.md 2.8): Connection and Upgrade go on, the X-Forwarded trio does not."""
    forwarded_for = b"%b, %b" % (head.forwarded_for, client) if head.forwarded_for else client
    fixed = b"%b %b HTTP/1.1\r\nHost: %b\r\n%bAudit-ID: %b\r\nX-Forwarded-For: %b\r\n" % (
        method,
        raw_target,
        authority,
        forward.identity_lines,
        audit_id,
        forwarded_for,
    )
    return b"".join((fixed, *head.lines, b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % head.upgrade))


def _request_framing(head: RequestHead) -> bytes:
    if head.chunked:
        return b"Transfer-Encoding: chunked\r\n\r\n"
    if head.content_length >= 0:
        return b"Content-Length: %d\r\n\r\n" % head.content_length
    return b"\r\n"


def response_head(code: int, head: ResponseHead, *, audit_id: bytes, framing: bytes) -> bytes:
    """The response as a client sees it; `framing` are the lines about body and connection."""
    cache = b"" if head.cache_control else _CACHE_CONTROL
    return b"".join((status_line(code), *head.lines, b"Audit-Id: %b\r\n%b%b\r\n" % (audit_id, cache, framing)))


def informational(code: int, head: ResponseHead) -> bytes:
    return b"".join((status_line(code), *head.lines, b"\r\n"))


def switched(head: ResponseHead) -> bytes:
    """101, with the lines that the other heads lose."""
    return b"".join((status_line(101), *head.lines, b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % head.upgrade))


def reply(answer: Reply, *, audit_id: bytes, date: bytes, close: bool, head_request: bool) -> bytes:
    """A response of our own."""
    return b"".join(
        (
            status_line(answer.code),
            b"Content-Type: %b\r\nContent-Length: %d\r\nX-Content-Type-Options: nosniff\r\nDate: %b\r\nAudit-Id: %b\r\n"
            % (answer.content_type, len(answer.body), date, audit_id),
            _CACHE_CONTROL,
            b"Retry-After: %d\r\n" % answer.retry_after if answer.retry_after is not None else b"",
            CLOSE if close else b"",
            b"\r\n",
            b"" if head_request else answer.body,
        )
    )
