"""TLS towards backends: contexts by their inputs, and a client certificate pair that follows its files."""

import os
import ssl
import tempfile
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from aggregator.upstream.backend import Backend


class UpstreamTLSError(Exception):
    """A TLS context cannot be built from what the APIService says; the text is fit for a client."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """A certificate chain and its key, verified to belong together. The key never appears in repr."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "_Pair(...)"


def _read_pair(certificate_file: Path, key_file: Path) -> _Pair:
    """Read and check a pair. UpstreamTLSError names the file that is at fault."""
    try:
        certificate = certificate_file.read_bytes()
    except OSError as error:
        raise UpstreamTLSError(f"cannot read the proxy client certificate {certificate_file}: {error}") from error
    try:
        key = key_file.read_bytes()
    except OSError as error:
        raise UpstreamTLSError(f"cannot read the proxy client key {key_file}: {error}") from error
    try:
        leaf = x509.load_pem_x509_certificates(certificate)[0]
    except ValueError as error:
        raise UpstreamTLSError(f"{certificate_file} holds no PEM certificate: {error}") from error
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise UpstreamTLSError(f"{key_file} holds no unencrypted PEM private key") from error
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise UpstreamTLSError(f"private key {key_file} does not match the certificate {certificate_file}")
    return _Pair(certificate, key)


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


def _load_pair(context: ssl.SSLContext, pair: _Pair) -> None:
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


class UpstreamTLS:
    """Client contexts for backends, cached by their inputs; equal inputs share one context and so one pool.

    With both files given, the pair is loaded at once (UpstreamTLSError when bad). `refresh` looks at the files again:
    a new consistent pair replaces the old one, a mismatching or unreadable one is ignored until it is consistent.
    """

    def __init__(self, certificate_file: Path | None = None, key_file: Path | None = None) -> None:
        if (certificate_file is None) != (key_file is None):
            raise UpstreamTLSError("missing a client certificate along with a key to identify the proxy")
        self._files = (certificate_file, key_file) if certificate_file is not None and key_file is not None else None
        self._pair: _Pair | None = None
        self._stamp: Hashable = None
        self._contexts: dict[Hashable, ssl.SSLContext | UpstreamTLSError] = {}
        self.generation = 0
        """Grows when the client pair changes; contexts handed out before are then stale."""
        if self._files is not None:
            self._stamp = self._look()
            self._pair = _read_pair(*self._files)

    def _look(self) -> Hashable:
        """What tells that a file changed, without reading it: identity, size and time of modification."""
        marks: list[Hashable] = []
        for file in self._files or ():
            try:
                status = file.stat()
            except OSError:
                marks.append(None)
            else:
                marks.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(marks)

    def refresh(self) -> bool:
        """Re-read the client pair if its files changed; True when a new pair took effect. Two stat calls otherwise."""
        if self._files is None:
            return False
        stamp = self._look()
        if stamp == self._stamp:
            return False
        try:
            changed = self.reload()
        except UpstreamTLSError:
            return False
        self._stamp = stamp
        return changed

    def reload(self) -> bool:
        """Read the client pair again; True when another one took effect. UpstreamTLSError when it is not usable."""
        if self._files is None:
            return False
        pair = _read_pair(*self._files)
        if pair == self._pair:
            return False
        self._pair = pair
        self._contexts.clear()
        self.generation += 1
        return True

    def context(self, backend: Backend) -> ssl.SSLContext:
        """The context for a backend; the server name is given when connecting. UpstreamTLSError when impossible."""
        key = (backend.insecure, backend.ca_bundle)
        found = self._contexts.get(key)
        if found is None:
            try:
                found = self._build(backend)
            except UpstreamTLSError as error:
                found = error
            self._contexts[key] = found
        if isinstance(found, UpstreamTLSError):
            raise UpstreamTLSError(str(found))
        return found

    def _build(self, backend: Backend) -> ssl.SSLContext:
        if backend.insecure and backend.ca_bundle:
            raise UpstreamTLSError("specifying a root certificates file with the insecure flag is not allowed")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
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
