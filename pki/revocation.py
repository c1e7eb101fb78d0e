"""Revocation lists of the authorities: `<authority>.crl` beside its certificate, in PEM."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki import authority, files
from pki.authority import Pair
from pki.plan import CertificatePlan, PKIError, Role

LIFETIME = timedelta(days=180)
"""Until a list says it is outdated; servers then warn and use it on."""
RENEW_BEFORE = timedelta(days=30)
_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----\n?", re.DOTALL)
_PRESENT = "has been issued by no authority here that has its key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What is there of one authority's list."""

    name: str
    """Of the authority."""
    serials: tuple[int, ...]
    next_update: datetime


def revoke(
    directory: Path, plans: Sequence[CertificatePlan], target: str, *, now: datetime, authority_name: str = ""
) -> tuple[Listed, int]:
    """Put a certificate on its authority's list; the list and the serial number. Raises PKIError.

    `target` is the name of a plan, the path of a PEM certificate, or, with `authority_name`, a serial number in
    hexadecimal. What is listed already stays as it is.
    """
    with files.locked(_existing(directory)):
        pairs = dict(_authorities(directory, plans))
        if authority_name:
            name, serial = authority_name, _serial(target)
            if name not in pairs:
                raise PKIError(f"{name}: its certificate or its key is missing")
        else:
            name, serial = _issuer(directory, plans, target, pairs)
        return _write(directory, name, pairs[name], now, [serial]), serial


def renew(directory: Path, plans: Sequence[CertificatePlan], *, now: datetime, every: bool = False) -> list[Listed]:
    """Sign the lists anew that are close to their next update, or that the present key has not signed. PKIError."""
    done = []
    with files.locked(_existing(directory)):
        for name, pair in _authorities(directory, plans):
            blocks = _blocks(directory / f"{name}.crl")
            own = _own(blocks, pair)
            if own is not None and (every or _next_update(own) - now < RENEW_BEFORE):
                done.append(_write(directory, name, pair, now, []))
    return done


def look(directory: Path, plans: Sequence[CertificatePlan]) -> list[Listed]:
    """The lists that are there."""
    found = []
    for plan in plans:
        if plan.role is Role.AUTHORITY:
            for one in _blocks(directory / f"{plan.name}.crl"):
                serials = tuple(entry.serial_number for entry in one)
                found.append(Listed(name=plan.name, serials=serials, next_update=_next_update(one)))
    return found


def lines(listed: Sequence[Listed], now: datetime) -> list[str]:
    """One line for each list, for people."""
    return [
        f"{one.name}.crl: {len(one.serials)} revoked, "
        f"{'outdated since' if one.next_update <= now else 'to be renewed before'} {one.next_update:%Y-%m-%d %H:%M}Z"
        for one in listed
    ]


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise PKIError(f"{directory}: no such directory")
    return directory


def _authorities(directory: Path, plans: Sequence[CertificatePlan]) -> Iterator[tuple[str, Pair]]:
    for plan in plans:
        certificate, key = files.paths(directory, plan.name)
        data, key_data = files.read(certificate), files.read(key)
        if plan.role is Role.AUTHORITY and data is not None and key_data is not None:
            try:
                loaded = authority.load_key(key_data)
                yield plan.name, Pair(authority.active(authority.load_bundle(data), loaded), loaded)
            except ValueError as error:
                raise PKIError(f"{plan.name}: {error}") from None


def _serial(text: str) -> int:
    digits = text.replace(":", "")
    if not re.fullmatch(r"(?:0[xX])?[0-9a-fA-F]{1,40}", digits):
        raise PKIError(f"{text!r} is not a serial number in hexadecimal")
    return int(digits, 16)


def _issuer(directory: Path, plans: Sequence[CertificatePlan], target: str, pairs: dict[str, Pair]) -> tuple[str, int]:
    known = any(plan.name == target for plan in plans)
    path = files.paths(directory, target)[0] if known else Path(target)
    data = files.read(path)
    if data is None:
        raise PKIError(f"{target}: neither the name of a certificate nor a file")
    try:
        certificate = authority.load_certificate(data)
    except ValueError as error:
        raise PKIError(f"{path}: {error}") from None
    for name, pair in pairs.items():
        if certificate != pair.certificate and authority.signed_by(certificate, pair.certificate):
            return name, certificate.serial_number
    raise PKIError(f"{path}: {_PRESENT}")


def _blocks(path: Path) -> list[x509.CertificateRevocationList]:
    try:
        return [x509.load_pem_x509_crl(block) for block in _BLOCK.findall(files.read(path) or b"")]
    except ValueError:
        raise PKIError(f"{path}: not a revocation list in PEM") from None


def _own(blocks: Sequence[x509.CertificateRevocationList], pair: Pair) -> x509.CertificateRevocationList | None:
    key = pair.certificate.public_key()
    return next((one for one in blocks if one.is_signature_valid(key)), None)  # type: ignore[arg-type]


def _next_update(listed: x509.CertificateRevocationList) -> datetime:
    return listed.next_update_utc or listed.last_update_utc + LIFETIME


def _number(listed: x509.CertificateRevocationList | None) -> int:
    if listed is None:
        return 0
    try:
        return listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _write(directory: Path, name: str, pair: Pair, now: datetime, serials: Sequence[int]) -> Listed:
    """Lists that another key has signed stay in the file: while an authority is replaced both are needed."""
    path = directory / f"{name}.crl"
    blocks = _blocks(path)
    own = _own(blocks, pair)
    entries = list(own or ())
    known = {entry.serial_number for entry in entries}
    entries += [
        x509.RevokedCertificateBuilder(serial, now).build() for serial in dict.fromkeys(serials) if serial not in known
    ]
    key = pair.key
    assert key is not None
    issuer = pair.certificate
    builder = x509.CertificateRevocationListBuilder(issuer.subject, now, now + LIFETIME, revoked_certificates=entries)
    builder = builder.add_extension(x509.CRLNumber(_number(own) + 1), critical=False)
    identifier = authority.key_identifier(issuer)
    if identifier is not None:
        known_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        builder = builder.add_extension(known_by, critical=False)
    signed = builder.sign(key, authority.digest(key))
    others = [block for block in blocks if block != own]
    content = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (signed, *others))
    heir = files.owner_of(files.paths(directory, name)[0])
    files.write_file(path, content, mode=files.CERTIFICATE_MODE, owner=heir)
    return Listed(name=name, serials=tuple(entry.serial_number for entry in entries), next_update=_next_update(signed))
