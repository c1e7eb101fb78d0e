"""Words for why a backend could not be reached, in the form the originals give them (aggregator.md 2.4, 2.7)."""

import errno
import os
import socket
import ssl

from aggregator.upstream.egress import EgressRefused

CONTEXT_DEADLINE = "context deadline exceeded"


class UpstreamFailure(Exception):
    """An upstream failed in a way that is already worded."""


class NeverProcessed(UpstreamFailure):
    """The backend has provably not looked at the request: whatever its method is, it may be sent again."""

    def __init__(self, words: str, sent: bytes | None) -> None:
        super().__init__(words)
        self.sent = sent
        """All that has been handed over, in the form of HTTP/1.1; None if that is no longer at hand."""


class Unshared(NeverProcessed):
    """Nothing was sent: the request needs a connection of its own."""


def describe(error: BaseException | None, where: str) -> str:
    """The cause of a failed connection to `where` (host:port or socket path); never holds more than the peer's part."""
    if error is None:
        return "EOF"
    if isinstance(error, UpstreamFailure | EgressRefused):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"tls: {(error.reason or 'handshake failure').replace('_', ' ').lower()}"
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {where.rpartition(':')[0]}: {error.strerror or 'no such host'}"
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"dial tcp {where}: i/o timeout"
    if isinstance(error, ConnectionAbortedError) and error.errno is None:
        return "net/http: TLS handshake timeout"
    if isinstance(error, OSError):
        number = error.errno
        reason = os.strerror(number).lower() if number else (str(error) or "connection failed").lower()
        verb = "read" if number in (errno.ECONNRESET, errno.EPIPE) else "connect"
        return f"dial tcp {where}: {verb}: {reason}"
    return str(error) or type(error).__name__
