"""Who is at the other end of a TLS connection: the certificate that a peer has proved to hold the key of."""

import ssl
from typing import Any


class PeerCertificate(bytes):
    """A certificate in DER, equal to its plain bytes, with the further certificates that the peer has sent."""

    intermediates: tuple[bytes, ...] = ()


def intermediates(der: bytes) -> tuple[bytes, ...]:
    """What came along with a certificate."""
    return der.intermediates if isinstance(der, PeerCertificate) else ()


def peer_certificate(tls: ssl.SSLObject | None) -> bytes | None:
    """The certificate of the peer of an established connection, None without one. It is not verified in any way."""
    if tls is None:
        return None
    der = tls.getpeercert(binary_form=True)
    if der is None:
        return None
    sent = _sent(tls)
    if len(sent) < 2:
        return der
    certificate = PeerCertificate(der)
    certificate.intermediates = tuple(one for one in sent if one != der)
    return certificate


def _sent(tls: Any) -> list[bytes]:
    """All certificates of the peer; none for a resumed session, which remembers only the peer's own."""
    if hasattr(tls, "get_unverified_chain"):
        return list(tls.get_unverified_chain())
    # Before Python 3.13 the method exists without a public name, with certificates in objects of its own.
    inner: Any = getattr(tls, "_sslobj", None)
    chain = inner.get_unverified_chain() if hasattr(inner, "get_unverified_chain") else None
    return [one.public_bytes(_DER) for one in chain or ()]


_DER = 2
"""`_ssl.ENCODING_DER`"""
