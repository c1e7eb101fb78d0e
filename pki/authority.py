"""Makes and reads keys and certificates. Knows cryptography, not files; the clock is an argument."""

import dataclasses
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pki.plan import (
    SERIAL_BYTES,
    CertificatePlan,
    Found,
    PKIError,
    Role,
    normalize_san,
    serial_number,
    validity,
)

_SIGNING_KEYS = (
    rsa.RSAPrivateKey,
    dsa.DSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
)
_USAGE = {Role.SERVER: ExtendedKeyUsageOID.SERVER_AUTH, Role.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and, where it is at hand, its private key."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes | None


def new_key() -> CertificateIssuerPrivateKeyTypes:
    """An ECDSA P-256 key: small, fast, and accepted by every TLS stack."""
    return ec.generate_private_key(ec.SECP256R1())


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """The key as unencrypted PKCS #8."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_certificate(data: bytes) -> x509.Certificate:
    """The first certificate of a PEM file; ValueError with a short text when there is none."""
    try:
        return x509.load_pem_x509_certificate(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a PEM certificate") from None


def load_bundle(data: bytes) -> list[x509.Certificate]:
    """All certificates of a PEM file, at least one; ValueError with a short text when one of them is unusable."""
    try:
        return x509.load_pem_x509_certificates(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a PEM certificate") from None


def bundle_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(map(certificate_pem, certificates))


def active(certificates: Sequence[x509.Certificate], key: CertificateIssuerPrivateKeyTypes | None) -> x509.Certificate:
    """The certificate of a bundle that belongs to the key beside it; the first one when none does."""
    if key is not None:
        for certificate in certificates:
            if matches(certificate, key):
                return certificate
    return certificates[0]


def load_key(data: bytes) -> CertificateIssuerPrivateKeyTypes:
    """The private key of a PEM file; ValueError with a short text when it cannot be used. Never quotes the file."""
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise ValueError("the private key is protected by a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a PEM private key") from None
    if not isinstance(key, _SIGNING_KEYS):
        raise ValueError("a private key of a kind that cannot sign")
    return key


def matches(certificate: x509.Certificate, key: CertificateIssuerPrivateKeyTypes) -> bool:
    """Whether the key is the one the certificate speaks of."""
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        return certificate.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm):
        return False


def sign(
    plan: CertificatePlan,
    key: CertificateIssuerPrivateKeyTypes,
    *,
    issuer: Pair | None,
    now: datetime,
    renews: x509.Certificate | None = None,
) -> x509.Certificate:
    """A certificate for `key`, signed by `issuer` or, for an authority, by itself.

    An authority keeps the subject and key identifier of the certificate it `renews`, or what it signed would no longer
    lead to it. A certificate never outlives its issuer. The extensions are those that RFC 5280 4.2 asks for, which
    strict verifiers check.
    """
    subject = renews.subject if renews else _subject(plan)
    signing_key = issuer.key if issuer else key
    if signing_key is None:
        raise PKIError(f"{plan.name}.crt cannot be signed: {plan.issuer}.key is missing")
    start, end = validity(plan.lifetime, now, issuer.certificate.not_valid_after_utc if issuer else None)
    own_identifier = (renews and key_identifier(renews)) or x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer_identifier = own_identifier
    if issuer:
        issuer_identifier = key_identifier(issuer.certificate) or x509.SubjectKeyIdentifier.from_public_key(
            signing_key.public_key()
        )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial_number(secrets.token_bytes(SERIAL_BYTES)))
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(own_identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_identifier), critical=False
        )
    )
    return _with_role(builder, plan).sign(signing_key, digest(signing_key))


def digest(key: CertificateIssuerPrivateKeyTypes) -> hashes.SHA256 | None:
    """Edwards curves bring their own digest; every other kind of key signs with SHA-256."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()


def _subject(plan: CertificatePlan) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in plan.organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, plan.common_name)])


def key_identifier(certificate: x509.Certificate) -> x509.SubjectKeyIdentifier | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return None


def _with_role(builder: x509.CertificateBuilder, plan: CertificatePlan) -> x509.CertificateBuilder:
    if plan.role is Role.AUTHORITY:
        return builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(
            _key_usage(authority=True), critical=True
        )
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGE[plan.role]]), critical=False)
    )
    if plan.sans:
        names = x509.SubjectAlternativeName([_general_name(name) for name in plan.sans])
        builder = builder.add_extension(names, critical=False)
    return builder


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def inspect(certificate_data: bytes | None, key_data: bytes | None, issuers: Sequence[x509.Certificate] = ()) -> Found:
    """What the two files of one plan hold; `None` stands for a file that does not exist.

    Of several certificates in the file the one that belongs to the key counts. Without issuers it signs itself.
    """
    key, key_problem = None, ""
    if key_data is not None:
        try:
            key = load_key(key_data)
        except ValueError as error:
            key_problem = str(error)
    if certificate_data is None:
        return Found(has_key=key_data is not None, key_problem=key_problem)
    try:
        certificate = active(load_bundle(certificate_data), key)
        described = describe(certificate, issuers)
    except ValueError as error:
        return Found(
            has_certificate=True,
            has_key=key_data is not None,
            key_problem=key_problem,
            certificate_problem=str(error),
        )
    return dataclasses.replace(
        described,
        has_key=key_data is not None,
        key_problem=key_problem,
        key_matches=key is not None and matches(certificate, key),
    )


def describe(certificate: x509.Certificate, issuers: Sequence[x509.Certificate] = ()) -> Found:
    """What a certificate says, its key apart; ValueError when a name in it cannot be read."""
    return Found(
        has_certificate=True,
        signed_by_issuer=any(signed_by(certificate, issuer) for issuer in issuers or [certificate]),
        role=_role(certificate),
        common_name=",".join(_values(certificate, NameOID.COMMON_NAME)),
        organizations=_values(certificate, NameOID.ORGANIZATION_NAME),
        sans=_sans(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key are those that the certificate was signed with."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _values(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> tuple[str, ...]:
    return tuple(str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid))


def _sans(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    texts = [str(name) for name in names.get_values_for_type(x509.IPAddress)]
    try:
        return frozenset(normalize_san(text) for text in [*texts, *names.get_values_for_type(x509.DNSName)])
    except PKIError as error:
        raise ValueError(str(error)) from None


def _role(certificate: x509.Certificate) -> Role | None:
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return Role.AUTHORITY
    except x509.ExtensionNotFound:
        pass
    try:
        usages = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return None
    return next((role for role, usage in _USAGE.items() if usages == [usage]), None)
