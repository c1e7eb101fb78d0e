"""TLS sessions towards one address of a backend: later handshakes begin with what the first one has agreed on.

A full handshake with a client certificate (RSA, 2048 bits) keeps the event loop for 0.05 and 0.57 ms, a resumed one for
0.16 and 0.07 ms. Only a full handshake looks at the server's certificate, so what it has found out is good for
`MOST_SECONDS` at most, and never for longer than the certificate.
"""

import math
import ssl
import time

MOST_SECONDS = 300.0
"""Age of the full handshake that a new connection may rest on."""
SETTLE_SECONDS = 0.1
"""From the end of a handshake until its tickets are here (TLS 1.3 sends them afterwards)."""
_REFUSALS = 3
"""In a row: such a server wants to be left alone with it for `MOST_SECONDS`."""


class Resumption:
    """Remembers one session for one context, server name and address.

    There is no callback when a ticket comes, and asking for the session copies it (0.1 ms): it is taken when the next
    connection is made. So the SSL object of one connection is held until then.
    """

    def __init__(
        self, context: ssl.SSLContext, *, most_seconds: float = MOST_SECONDS, settle_seconds: float = SETTLE_SECONDS
    ) -> None:
        self.context = context
        self._most = most_seconds
        self._settle = settle_seconds
        self._session: ssl.SSLSession | None = None
        self._good_until = 0.0
        self._source: ssl.SSLObject | None = None
        self._source_at = 0.0
        self._refusals = 0
        self._quiet_until = 0.0

    def attempt(self) -> "Handshake":
        """For one connection, instead of the context."""
        return Handshake(self)

    def offer(self) -> ssl.SSLSession | None:
        """The session to begin with, if there is one."""
        now = time.monotonic()
        if self._session is not None and now >= self._good_until:
            self._session = None
        if self._session is None and self._source is not None and now - self._source_at >= self._settle:
            source, self._source = self._source, None
            self._take(source, now)
        return self._session

    def _take(self, source: ssl.SSLObject, now: float) -> None:
        good_for = min(self._source_at + self._most - now, _certificate_seconds(source))
        if good_for <= 0:
            return
        session = source.session
        if session is None or not session.has_ticket:
            self._refused(now)
            return
        self._session = session
        self._good_until = now + good_for

    def shook(self, made: ssl.SSLObject, offered: ssl.SSLSession | None) -> None:
        """A handshake has succeeded that had begun with this offer."""
        if made.session_reused:
            self._refusals = 0
            return
        now = time.monotonic()
        if offered is not None and offered is self._session:
            self._session = None
            self._refused(now)
        if self._session is None and self._source is None and now >= self._quiet_until:
            self._source, self._source_at = made, now

    def failed(self) -> None:
        """A handshake that had begun with an offer was broken off: without one it may succeed."""
        self._refusals = _REFUSALS
        self._refused(time.monotonic())

    def _refused(self, now: float) -> None:
        self._refusals += 1
        if self._refusals >= _REFUSALS:
            self._refusals = 0
            self._quiet_until = now + self._most
            self._session = self._source = None


class Handshake:
    """Stands in for the context of one new connection: both loops begin a handshake with `wrap_bio` (ADR 0008)."""

    __slots__ = ("_made", "_resumption", "offered")

    def __init__(self, resumption: Resumption) -> None:
        self.offered: ssl.SSLSession | None = None
        self._made: ssl.SSLObject | None = None
        self._resumption = resumption

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        self.offered = self._resumption.offer()
        context = self._resumption.context
        self._made = context.wrap_bio(incoming, outgoing, server_side, server_hostname, self.offered)
        return self._made

    def succeeded(self) -> None:
        if self._made is not None:
            self._resumption.shook(self._made, self.offered)

    def failed(self, error: BaseException) -> bool:
        """Whether it is worth a try without a session.

        A server may break a handshake off because of a ticket of its own: one with OpenSSL that asks for client
        certificates and has no session id context does.
        """
        if self.offered is None or isinstance(error, ssl.SSLCertVerificationError):
            return False
        self._resumption.failed()
        return True


def _certificate_seconds(made: ssl.SSLObject) -> float:
    """How long the server's certificate is valid still; for ever where nobody has looked at it."""
    certificate = made.getpeercert()
    not_after = certificate.get("notAfter") if certificate else None
    return ssl.cert_time_to_seconds(not_after) - time.time() if isinstance(not_after, str) else math.inf
