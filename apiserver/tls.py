"""TLS contexts of servers, with errors that name the file at fault."""

import ssl
from collections.abc import Sequence
from pathlib import Path

ALPN_HTTP1_FIRST = ("http/1.1", "h2")
ALPN_HTTP2_FIRST = ("h2", "http/1.1")


class TLSConfigError(Exception):
    """A certificate, key or CA file cannot be used; the text names the file."""


def server_context(
    cert_file: Path,
    key_file: Path,
    client_ca_files: Sequence[Path] = (),
    alpn: Sequence[str] = ALPN_HTTP1_FIRST,
) -> ssl.SSLContext:
    """A context that serves `cert_file` and asks clients for a certificate when there are client CAs.

    A client need not present one, but one that is not issued under the union of the CAs ends the handshake: which CA
    may vouch for what is decided per request (aggregator.md 8.2). `alpn` is in the server's order of preference.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    load_identity(context, cert_file, key_file)
    for file in client_ca_files:
        load_authorities(context, file)
    if client_ca_files:
        context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(list(alpn))
    return context


def load_identity(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    """Give the context its own certificate chain and private key."""
    _require(cert_file, "CERTIFICATE", "certificate")
    _require(key_file, "PRIVATE KEY", "private key")

    def refuse_password() -> str:
        raise TLSConfigError(f"private key {key_file} is encrypted; only unencrypted keys can be used")

    try:
        context.load_cert_chain(cert_file, key_file, password=refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TLSConfigError(f"private key {key_file} does not belong to certificate {cert_file}") from error
        raise TLSConfigError(f"cannot use certificate {cert_file} with key {key_file}: {_reason(error)}") from error


def load_authorities(context: ssl.SSLContext, ca_file: Path) -> None:
    """Trust the certificates of a PEM bundle, and accept authorities as `openssl req -x509` makes them.

    Python 3.13 turns VERIFY_X509_STRICT on in default contexts, which refuses those for lack of extensions. With
    VERIFY_X509_PARTIAL_CHAIN an intermediate authority in the bundle is a trust anchor, as in Go.
    """
    _require(ca_file, "CERTIFICATE", "CA bundle")
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        raise TLSConfigError(f"cannot use CA bundle {ca_file}: {_reason(error)}") from error
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def read_pem(file: Path, what: str) -> bytes:
    """The content of a PEM file; TLSConfigError says what the file is for and why it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise TLSConfigError(f"cannot read {what} {file}: {error.strerror or error}") from error


def _require(file: Path, label: str, what: str) -> None:
    content = read_pem(file, what)
    if not content.strip():
        raise TLSConfigError(f"{what} {file} is empty")
    if b"-----BEGIN " not in content or f"{label}-----".encode() not in content:
        raise TLSConfigError(f"{what} {file} holds no PEM block of type {label}")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
