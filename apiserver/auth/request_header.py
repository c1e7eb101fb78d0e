"""Identity by a trusted front proxy's headers, and the order in which the ways of authentication are asked."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from apimachinery.identity import RequestHeaderNames, User, from_headers
from apiserver.auth.outcome import AuthenticationFailed, with_standard_group
from apiserver.auth.x509 import CertificateAuthenticator, CertificateVerifier, Untrusted

__all__ = ["AuthenticationFailed", "Authenticator", "RequestHeaderAuthenticator"]


class RequestHeaderAuthenticator:
    """Believes the identity headers of peers whose certificate the CA has issued, and whose name is allowed.

    Empty `allowed_names` allow every name (aggregator.md 8.2). `now` is in epoch seconds.
    """

    def __init__(
        self,
        ca_file: Path,
        *,
        crl_file: Path | None = None,
        allowed_names: Sequence[str] = (),
        names: RequestHeaderNames | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.verifier = CertificateVerifier(ca_file, now, crl_file=crl_file)
        self._allowed = frozenset(allowed_names)
        self._names = names or RequestHeaderNames()

    def trusts(self, der: bytes) -> Literal[True] | AuthenticationFailed:
        """Whether this peer may speak for others, and why not."""
        verdict = self.verifier.verify(der)
        if isinstance(verdict, Untrusted):
            return AuthenticationFailed(f"front proxy: {verdict.reason}")
        if self._allowed and verdict.common_name not in self._allowed:
            return AuthenticationFailed(f"x509: subject with cn={verdict.common_name} is not in the allowed list")
        return True

    def user(self, headers: Sequence[tuple[str, str]]) -> User | None:
        """The user that a trusted peer's headers claim. Header names are lower-case."""
        return from_headers(headers, self._names)


class Authenticator:
    """Front proxy, then client certificate. An error of one is a failure only when no other succeeds.

    Synchronous and cheap: verdicts on certificates are remembered.
    """

    def __init__(
        self,
        *,
        request_header: RequestHeaderAuthenticator | None = None,
        certificates: CertificateAuthenticator | None = None,
    ) -> None:
        self._request_header = request_header
        self._certificates = certificates

    def reads_headers(self, certificate: bytes | None) -> bool:
        """Whether a peer with this certificate may speak for others, so that each request is judged anew."""
        if certificate is None or self._request_header is None:
            return False
        return self._request_header.trusts(certificate) is True

    def authenticate(
        self, certificate: bytes | None, headers: Sequence[tuple[str, str]]
    ) -> User | AuthenticationFailed | None:
        """The caller; None when nothing given names one. `certificate` is DER, header names are lower-case."""
        if certificate is None:
            return None
        reasons: list[str] = []
        if self._request_header is not None:
            trusted = self._request_header.trusts(certificate)
            if isinstance(trusted, AuthenticationFailed):
                reasons.append(trusted.reason)
            else:
                user = self._request_header.user(headers)
                if user is not None:
                    return with_standard_group(user)
        if self._certificates is not None:
            outcome = self._certificates.authenticate(certificate)
            if isinstance(outcome, User):
                return with_standard_group(outcome)
            if outcome is not None:
                reasons.append(f"client certificate: {outcome.reason}")
        return AuthenticationFailed("; ".join(reasons)) if reasons else None
