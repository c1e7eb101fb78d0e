"""Identity by client certificate (aggregator.md 8.2)."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from apimachinery.identity import User
from apiserver.auth import chain
from apiserver.auth.revocation import RevocationLists
from apiserver.peer import intermediates
from apiserver.tls import TLSConfigError

UID_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_REMEMBERED = 4096
_REMEMBERED_INTERMEDIATES = 256


@dataclass(frozen=True, slots=True)
class Untrusted:
    """Why a certificate does not count."""

    reason: str


UNKNOWN_AUTHORITY: Final = Untrusted("certificate signed by unknown authority")
REVOKED: Final = Untrusted("certificate has been revoked")
WEAK: Final = Untrusted("certificate has a weak key or signature")


@dataclass(frozen=True, slots=True)
class Trusted:
    """A certificate that counts while it and one of its issuers are valid, with what its subject says."""

    common_name: str
    organizations: tuple[str, ...]
    uid: str
    fingerprint: str
    periods: tuple[tuple[float, float], ...]
    """From and until when (epoch seconds) it counts, for each certificate in the bundle that has issued it."""
    issuers: tuple[x509.Certificate, ...] = ()
    """The intermediates that lead to the bundle."""


def load_bundle(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file; TLSConfigError naming the file and what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TLSConfigError(f"cannot read CA file {path}: {error.strerror}") from error
    try:
        certificates = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise TLSConfigError(f"CA file {path} holds no usable PEM certificates: {error}") from error
    return certificates


class CertificateVerifier:
    """Decides whether a certificate was issued under a bundle; remembers its decisions.

    TLS has proved that the peer holds the key, and nothing more: every rule about the certificate is applied here. It
    was issued by a certificate of the bundle, or by intermediates that came with it (`peer.PeerCertificate`). What
    `crl_file` lists does not count. `now` is in epoch seconds.
    """

    def __init__(self, ca_file: Path, now: Callable[[], float] = time.time, *, crl_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._crl_file = crl_file
        self._now = now
        self._known: OrderedDict[bytes, Trusted | Untrusted] = OrderedDict()
        self._intermediates: OrderedDict[bytes, x509.Certificate] = OrderedDict()
        """Those that led to the bundle: a resumed TLS session brings only the client's own certificate."""
        self._authorities = load_bundle(ca_file)
        self._revoked = self._read_revoked(self._authorities)

    @property
    def files(self) -> tuple[Path, ...]:
        """What `reload` reads."""
        return (self._ca_file,) if self._crl_file is None else (self._ca_file, self._crl_file)

    def reload(self) -> bool:
        """Read the files again; True when they say something new, and every verdict is then found anew.

        TLSConfigError when one is unusable; what was read before stays in force.
        """
        authorities = load_bundle(self._ca_file)
        revoked = self._read_revoked(authorities)
        if authorities == self._authorities and revoked == self._revoked:
            return False
        self._authorities, self._revoked = authorities, revoked
        self._known.clear()
        self._intermediates.clear()
        return True

    def _read_revoked(self, authorities: Sequence[x509.Certificate]) -> RevocationLists:
        if self._crl_file is None:
            return RevocationLists.none()
        return RevocationLists.read(self._crl_file, authorities)

    def verify(self, der: bytes) -> Trusted | Untrusted:
        """The verdict on a certificate in DER, with what came along if it is a PeerCertificate."""
        now = self._now()
        self._revoked.warn_outdated(now)
        offered = intermediates(der)
        digest = hashlib.sha256(b"".join((der, *offered))).digest()
        found = self._known.get(digest)
        if found is None:
            found = judge(der, self._authorities, self._revoked)
            if found == UNKNOWN_AUTHORITY and (offered or self._intermediates):
                found = self._through(der, offered, now)
            self._remember(digest, found)
        if isinstance(found, Trusted) and not any(start <= now <= end for start, end in found.periods):
            return Untrusted("certificate or its authority has expired or is not yet valid")
        return found

    def _remember(self, digest: bytes, found: Trusted | Untrusted) -> None:
        # With intermediates the dates are part of the verdict, so a refusal may be outdated later.
        if found == UNKNOWN_AUTHORITY and self._intermediates:
            return
        self._known[digest] = found
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _through(self, der: bytes, offered: Sequence[bytes], now: float) -> Trusted | Untrusted:
        if len(offered) > chain.MOST_INTERMEDIATES:
            return Untrusted("too many certificates")
        try:
            sent = [x509.load_der_x509_certificate(one) for one in offered]
        except ValueError as error:
            return Untrusted(f"an intermediate certificate cannot be read: {error}")
        verdict = judge_path(der, self._authorities, [*sent, *self._intermediates.values()], self._revoked, now)
        if isinstance(verdict, Trusted):
            for one in verdict.issuers:
                self._intermediates[one.fingerprint(hashes.SHA256())] = one
            while len(self._intermediates) > _REMEMBERED_INTERMEDIATES:
                self._intermediates.popitem(last=False)
        return verdict


def judge(
    der: bytes, authorities: Sequence[x509.Certificate], revoked: RevocationLists | None = None
) -> Trusted | Untrusted:
    """The verdict on a certificate that an authority has issued itself, its dates apart."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        # A certificate that is in the bundle itself is trusted like one issued under it, as in Go.
        issuers = [one for one in authorities if one == certificate or _issued(certificate, one)]
        if not issuers:
            return UNKNOWN_AUTHORITY
        if revoked is not None and revoked.lists(certificate, issuers):
            return REVOKED
        periods = tuple(_common_period((certificate, issuer)) for issuer in issuers)
        return _unusable(certificate) or _trusted(certificate, periods, der)
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        return Untrusted(f"certificate cannot be read: {error}")


def judge_path(
    der: bytes,
    authorities: Sequence[x509.Certificate],
    offered: Sequence[x509.Certificate],
    revoked: RevocationLists,
    now: float,
) -> Trusted | Untrusted:
    """The verdict on a certificate that is issued by intermediates, at this time."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        path = chain.find(certificate, authorities, offered, now)
        if path is None:
            return UNKNOWN_AUTHORITY
        if any(revoked.lists(one, [issuer]) for one, issuer in pairwise(path)):
            return REVOKED
        between = tuple(path[1:-1])
        if any(chain.weak(one) for one in between):
            return WEAK
        return _unusable(certificate) or _trusted(certificate, (_common_period(path),), der, between)
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        return Untrusted(f"certificate cannot be read: {error}")


def _unusable(certificate: x509.Certificate) -> Untrusted | None:
    if not chain.for_clients(certificate):
        return Untrusted("certificate specifies an incompatible key usage")
    if chain.not_understood(certificate):
        return Untrusted("certificate has an unknown critical extension")
    return WEAK if chain.weak(certificate) else None


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    if not _may_issue(authority):
        return False
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_issue(authority: x509.Certificate) -> bool:
    """A certificate in the bundle without these extensions is an old root; one that says it is no CA, is none."""
    for extension in authority.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and not value.ca:
            return False
        if isinstance(value, x509.KeyUsage) and not value.key_cert_sign:
            return False
        # Only the search for a path knows how to apply these.
        if isinstance(value, x509.NameConstraints):
            return False
    return True


def _trusted(
    certificate: x509.Certificate,
    periods: tuple[tuple[float, float], ...],
    der: bytes,
    between: tuple[x509.Certificate, ...] = (),
) -> Trusted | Untrusted:
    def values(oid: x509.ObjectIdentifier) -> tuple[str, ...]:
        return tuple(str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid))

    uids = values(UID_OID)
    if len(uids) > 1:
        return Untrusted("certificate has more than one uid attribute")
    return Trusted(
        # Go takes the last of several common names.
        common_name=next(reversed(values(NameOID.COMMON_NAME)), ""),
        organizations=values(NameOID.ORGANIZATION_NAME),
        uid=next(iter(uids), ""),
        fingerprint=hashlib.sha256(der).hexdigest(),
        periods=periods,
        issuers=between,
    )


def _common_period(path: Sequence[x509.Certificate]) -> tuple[float, float]:
    start = max(one.not_valid_before_utc for one in path)
    end = min(one.not_valid_after_utc for one in path)
    return start.timestamp(), end.timestamp()


class CertificateAuthenticator:
    """The user that a client certificate names: CN, with a group for each O."""

    def __init__(self, ca_file: Path, now: Callable[[], float] = time.time, *, crl_file: Path | None = None) -> None:
        self.verifier = CertificateVerifier(ca_file, now, crl_file=crl_file)

    def authenticate(self, der: bytes) -> User | Untrusted | None:
        """None when the certificate counts but names nobody."""
        verdict = self.verifier.verify(der)
        if isinstance(verdict, Untrusted):
            return verdict
        if not verdict.common_name:
            return None
        extra = {CREDENTIAL_ID: (f"X509SHA256={verdict.fingerprint}",)}
        return User(verdict.common_name, verdict.uid, verdict.organizations, extra)
