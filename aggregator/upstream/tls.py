"""TLS towards backends: contexts by their inputs, and a client certificate pair that follows its files."""

import os
import ssl
import tempfile
from collections.abc import Hashable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from aggregator import keypair
from aggregator.keypair import KeyPair, KeyPairError
from aggregator.upstream.backend import Backend
from aggregator.upstream.egress import UNRESTRICTED, Egress

HTTP1 = ("http/1.1",)
HTTP2_TOO = ("h2", "http/1.1")


class UpstreamTLSError(Exception):
    """A TLS context cannot be built from what the APIService says; the text is fit for a client."""


def _load_roots(context: ssl.SSLContext, bundle: bytes) -> None:
    prefix = "unable to load root certificates"
    if b"-----BEGIN" not in bundle:
        raise UpstreamTLSError(f"{prefix}: unable to parse bytes as PEM block")
    if b"-----BEGIN CERTIFICATE-----" not in bundle:
        raise UpstreamTLSError(f"{prefix}: no valid certificate authority data seen")
    try:
        certificates = x509.load_pem_x509_certificates(bundle)
        context.load_verify_locations(cadata="".join(_pem(certificate) for certificate in certificates))
    except (ValueError, ssl.SSLError) as error:
        raise UpstreamTLSError(f"{prefix}: failed to parse certificate: {error}") from error


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _load_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    # The ssl module reads pairs from files only; a private file that lives for a moment keeps cert and key consistent
    # even while the originals are being replaced.
    directory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.NamedTemporaryFile(dir=directory, prefix="pair-") as file:
        file.write(pair.certificate.rstrip() + b"\n" + pair.key)
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except ssl.SSLError as error:
            raise UpstreamTLSError(f"cannot use the proxy client certificate: {error}") from error


def _read_pair(certificate_file: Path, key_file: Path) -> KeyPair:
    try:
        return keypair.read(certificate_file, key_file)
    except KeyPairError as error:
        raise UpstreamTLSError(f"client certificate towards backends: {error}") from None


class UpstreamTLS:
    """Client contexts for backends, cached by their inputs; equal inputs share one context and so one pool.

    With both files given, the pair is loaded at once (UpstreamTLSError when bad). `reload` reads the files again: a new
    consistent pair replaces the old one, a mismatching or unreadable one leaves it in force.
    """

    def __init__(
        self, certificate_file: Path | None = None, key_file: Path | None = None, *, egress: Egress = UNRESTRICTED
    ) -> None:
        self.egress = egress
        """Which addresses of backends may be dialled: whoever has the contexts to connect with has the limits, too."""
        if (certificate_file is None) != (key_file is None):
            raise UpstreamTLSError("missing a client certificate along with a key to identify the proxy")
        self._files = (certificate_file, key_file) if certificate_file is not None and key_file is not None else None
        self._pair: KeyPair | None = None
        self._contexts: dict[Hashable, ssl.SSLContext | UpstreamTLSError] = {}
        if self._files is not None:
            self._pair = _read_pair(*self._files)

    def reload(self) -> bool:
        """Read the client pair again; True when another one took effect. UpstreamTLSError when it is not usable."""
        if self._files is None:
            return False
        pair = _read_pair(*self._files)
        if pair == self._pair:
            return False
        self._pair = pair
        self._contexts.clear()
        return True

    def context(self, backend: Backend, alpn: tuple[str, ...] = HTTP1) -> ssl.SSLContext:
        """The context for a backend; the server name is given when connecting. UpstreamTLSError when impossible."""
        key = (backend.insecure, backend.ca_bundle, alpn)
        found = self._contexts.get(key)
        if found is None:
            try:
                found = self._build(backend, alpn)
            except UpstreamTLSError as error:
                found = error
            self._contexts[key] = found
        if isinstance(found, UpstreamTLSError):
            raise UpstreamTLSError(str(found))
        return found

    def _build(self, backend: Backend, alpn: tuple[str, ...]) -> ssl.SSLContext:
        if backend.insecure and backend.ca_bundle:
            raise UpstreamTLSError("specifying a root certificates file with the insecure flag is not allowed")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(alpn)
        # A CA made by plain `openssl req -x509` lacks extensions that the strict mode demands, and a bundle may hold
        # an intermediate or the server's own certificate as its anchor.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.hostname_checks_common_name = False
        if backend.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif backend.ca_bundle:
            _load_roots(context, backend.ca_bundle)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self._pair is not None:
            _load_pair(context, self._pair)
        return context
