"""Identity by client certificate (aggregator.md 8.2)."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from apimachinery.identity import User
from apiserver.auth.revocation import RevocationLists
from apiserver.tls import TLSConfigError

UID_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Untrusted:
    """Why a certificate does not count."""

    reason: str


@dataclass(frozen=True, slots=True)
class Trusted:
    """A certificate that counts while it and one of its issuers are valid, with what its subject says."""

    common_name: str
    organizations: tuple[str, ...]
    uid: str
    fingerprint: str
    periods: tuple[tuple[float, float], ...]
    """From and until when (epoch seconds) it counts, for each certificate in the bundle that has issued it."""


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

    TLS has verified the chain against the union of all authorities already; this tells which of them it was, so only
    direct issue by a certificate of the bundle counts. What `crl_file` lists does not. `now` is in epoch seconds.
    """

    def __init__(self, ca_file: Path, now: Callable[[], float] = time.time, *, crl_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._crl_file = crl_file
        self._now = now
        self._known: OrderedDict[bytes, Trusted | Untrusted] = OrderedDict()
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
        return True

    def _read_revoked(self, authorities: Sequence[x509.Certificate]) -> RevocationLists:
        if self._crl_file is None:
            return RevocationLists.none()
        return RevocationLists.read(self._crl_file, authorities)

    def verify(self, der: bytes) -> Trusted | Untrusted:
        self._revoked.warn_outdated(self._now())
        digest = hashlib.sha256(der).digest()
        found = self._known.get(digest)
        if found is None:
            found = judge(der, self._authorities, self._revoked)
            self._known[digest] = found
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if isinstance(found, Trusted):
            now = self._now()
            if not any(start <= now <= end for start, end in found.periods):
                return Untrusted("certificate or its authority has expired or is not yet valid")
        return found


def judge(
    der: bytes, authorities: Sequence[x509.Certificate], revoked: RevocationLists | None = None
) -> Trusted | Untrusted:
    """The verdict on a certificate, its dates apart."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        # A certificate that is in the bundle itself is trusted like one issued under it, as in Go.
        issuers = [one for one in authorities if one == certificate or _issued(certificate, one)]
        if not issuers:
            return Untrusted("certificate signed by unknown authority")
        if revoked is not None and revoked.lists(certificate, issuers):
            return Untrusted("certificate has been revoked")
        if not _for_clients(certificate):
            return Untrusted("certificate specifies an incompatible key usage")
        return _trusted(certificate, issuers, der)
    except (ValueError, x509.DuplicateExtension) as error:
        return Untrusted(f"certificate cannot be read: {error}")


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
    return True


def _for_clients(certificate: x509.Certificate) -> bool:
    """No extended key usage allows every use; an existing one must name client authentication."""
    try:
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE)
    except x509.ExtensionNotFound:
        return True
    value = extension.value
    allowed = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    return isinstance(value, x509.ExtendedKeyUsage) and any(usage in allowed for usage in value)


def _trusted(certificate: x509.Certificate, issuers: Sequence[x509.Certificate], der: bytes) -> Trusted | Untrusted:
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
        periods=tuple(_common_period(certificate, issuer) for issuer in issuers),
    )


def _common_period(certificate: x509.Certificate, issuer: x509.Certificate) -> tuple[float, float]:
    start = max(certificate.not_valid_before_utc, issuer.not_valid_before_utc)
    end = min(certificate.not_valid_after_utc, issuer.not_valid_after_utc)
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
