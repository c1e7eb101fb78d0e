"""Certificate revocation lists (RFC 5280 section 5) from a file."""

import re
from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from apiserver import logs
from apiserver.tls import TLSConfigError, read_pem

_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

log = logs.get("auth")


class RevocationLists:
    """The lists of one file that the authorities of a bundle have signed. Frozen, equal when they say the same."""

    def __init__(
        self, path: Path | None, signed: Sequence[tuple[x509.CertificateRevocationList, Sequence[x509.Certificate]]]
    ) -> None:
        self._path = path
        self._signed = signed
        self._outdated_from = min((_next_update(listed) for listed, _ in signed), default=inf)
        self._warned = False

    @classmethod
    def none(cls) -> "RevocationLists":
        return cls(None, ())

    @classmethod
    def read(cls, path: Path, authorities: Sequence[x509.Certificate]) -> "RevocationLists":
        """One or more lists in PEM, or one in DER. TLSConfigError when the file is unusable.

        A list that no authority of the bundle has signed is left out with a warning: while an authority is replaced,
        the list of the old one may stay in the file for longer than the authority does.
        """
        signed = []
        for listed in _parse(path):
            signers = [authority for authority in authorities if _has_signed(authority, listed)]
            if signers:
                signed.append((listed, signers))
            else:
                issuer = listed.issuer.rfc4514_string()
                log.warning("revocation list ignored: no authority has signed it", path=str(path), issuer=issuer)
        return cls(path, signed)

    @property
    def next_update(self) -> float:
        """When the first of the lists is outdated, in epoch seconds; infinity when none of them says."""
        return self._outdated_from

    def lists(self, certificate: x509.Certificate, issuers: Iterable[x509.Certificate]) -> bool:
        """Whether one of its issuers has revoked the certificate."""
        found = list(issuers)
        return any(
            listed.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
            for listed, signers in self._signed
            if any(signer in found for signer in signers)
        )

    def warn_outdated(self, now: float) -> None:
        """Say once that a list is outdated; it stays in force, or an authority's silence would lock everybody out."""
        if now >= self._outdated_from and not self._warned:
            self._warned = True
            log.warning("revocation list is outdated, it is used on", path=str(self._path))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RevocationLists) and (self._path, self._signed) == (other._path, other._signed)

    def __hash__(self) -> int:
        return hash((self._path, len(self._signed)))


def _parse(path: Path) -> list[x509.CertificateRevocationList]:
    data = read_pem(path, "revocation list")
    try:
        blocks = _BLOCK.findall(data)
        if blocks:
            found = [x509.load_pem_x509_crl(block) for block in blocks]
        else:
            found = [x509.load_der_x509_crl(data)]
        for listed in found:
            _refuse_partial(path, listed)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise TLSConfigError(f"revocation list {path} holds no usable list: {error}") from error
    return found


def _refuse_partial(path: Path, listed: x509.CertificateRevocationList) -> None:
    """A list is read as all that its issuer has revoked of its own, which delta and indirect lists are not."""
    for extension in listed.extensions:
        value = extension.value
        indirect = isinstance(value, x509.IssuingDistributionPoint) and value.indirect_crl
        known = isinstance(value, x509.IssuingDistributionPoint | x509.CRLNumber | x509.AuthorityKeyIdentifier)
        if indirect or (extension.critical and not known):
            raise TLSConfigError(f"revocation list {path} is a delta or an indirect list, which cannot be used")


def _has_signed(authority: x509.Certificate, listed: x509.CertificateRevocationList) -> bool:
    if listed.issuer != authority.subject:
        return False
    try:
        usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.crl_sign:
            return False
    except x509.ExtensionNotFound:
        pass
    try:
        return listed.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _next_update(listed: x509.CertificateRevocationList) -> float:
    end = listed.next_update_utc
    return end.timestamp() if end is not None else inf
