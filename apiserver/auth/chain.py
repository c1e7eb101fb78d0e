"""From a client's certificate to an authority of a bundle through intermediates that the client has sent.

The path is found and checked by `cryptography.x509.verification`: signatures, dates, path lengths, name constraints,
critical extensions. What its web profile demands beyond RFC 5280, a host name in every certificate above all, does not
fit certificates that name users, so the extension policies are our own.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

MOST_INTERMEDIATES = 8
"""How many certificates beside its own a client may send; the work is done before anybody is known."""
_DEPTH = 4
_LEAST_RSA_BITS = 2048
_LEAST_CURVE_BITS = 224
_CLIENT = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
    x509.CertificatePolicies,
)


def find(
    leaf: x509.Certificate, authorities: Sequence[x509.Certificate], offered: Iterable[x509.Certificate], now: float
) -> Sequence[x509.Certificate] | None:
    """A valid path at `now` (epoch seconds) from the leaf to one of the authorities, both included; None if none is."""
    builder = PolicyBuilder().store(Store(list(authorities))).time(datetime.fromtimestamp(now, UTC))
    builder = builder.max_chain_depth(_DEPTH)
    verifier = builder.extension_policies(
        ca_policy=_authority_policy(), ee_policy=ExtensionPolicy.permit_all()
    ).build_client_verifier()
    try:
        return verifier.verify(leaf, list(offered)).chain
    except VerificationError:
        return None


def _authority_policy() -> ExtensionPolicy:
    """A path through an intermediate needs authorities that say they are some; plain `openssl req -x509` says so."""
    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _signs_clients)
    )


def _signs(policy: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the key may not sign certificates")


def _signs_clients(policy: Policy, certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    if usage is not None and _CLIENT.isdisjoint(usage):
        raise ValueError("the authority is not one of clients")


def for_clients(certificate: x509.Certificate) -> bool:
    """No extended key usage allows every use, an existing one must name client authentication; and the key signs."""
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.ExtendedKeyUsage) and _CLIENT.isdisjoint(value):
            return False
        if isinstance(value, x509.KeyUsage) and not (value.digital_signature or value.key_agreement):
            return False
    return True


def not_understood(certificate: x509.Certificate) -> bool:
    """Whether it has a critical extension that nobody here enforces (RFC 5280 4.2)."""
    return any(one.critical and not isinstance(one.value, _UNDERSTOOD) for one in certificate.extensions)


def weak(certificate: x509.Certificate) -> bool:
    """Whether its key or the digest of its signature is weaker than what OpenSSL takes at security level 2."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        return True
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < _LEAST_CURVE_BITS:
        return True
    return isinstance(certificate.signature_hash_algorithm, hashes.MD5 | hashes.SHA1)
