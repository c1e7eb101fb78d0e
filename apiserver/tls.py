"""TLS contexts of servers, with errors that name the file at fault."""

import functools
import hashlib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from apiserver import any_client, logs

ALPN_HTTP1_FIRST = ("http/1.1", "h2")
ALPN_HTTP2_FIRST = ("h2", "http/1.1")


log = logs.get("tls")


class TLSConfigError(Exception):
    """A certificate, key or CA file cannot be used; the text names the file."""


def server_context(
    cert_file: Path,
    key_file: Path,
    client_ca_files: Sequence[Path] = (),
    alpn: Sequence[str] = ALPN_HTTP1_FIRST,
) -> ssl.SSLContext:
    """A context that serves `cert_file` and asks clients for a certificate when there are client CAs.

    A client need not present one. Whatever it presents is let in where that can be had (`any_client`); elsewhere it
    ends the handshake unless one of the CAs has issued it. Who may vouch for what is decided per connection
    (aggregator.md 8.2). `alpn` is in the server's order of preference.
    """

    def build() -> ssl.SSLContext:
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

    if not client_ca_files:
        return build()
    context, lenient = any_client.let_in(build(), build)
    if not lenient:
        log.warning("clients with an untrusted certificate are refused in the handshake, not with 401")
    return context


class CurrentContext(ssl.SSLContext):
    """Stands for the newest of several server contexts: whatever `current` is when a handshake begins takes part in it.

    A context cannot unlearn an authority, so changed files need another context, while a listener is bound to one.
    Both asyncio and uvloop begin every handshake of a listener with `wrap_bio`. Connections that are open, and session
    tickets of an older context, are not affected; such a ticket just leads to a full handshake.
    """

    current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, current: ssl.SSLContext) -> None:
        self.current = current

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self.current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class ServerTLS:
    """A server's context that follows its files. Raises TLSConfigError when they cannot be used to begin with."""

    def __init__(
        self,
        cert_file: Path,
        key_file: Path,
        client_ca_files: Sequence[Path] = (),
        alpn: Sequence[str] = ALPN_HTTP1_FIRST,
    ) -> None:
        self.files = tuple(dict.fromkeys((cert_file, key_file, *client_ca_files)))
        self._build = functools.partial(server_context, cert_file, key_file, tuple(client_ca_files), tuple(alpn))
        self._content = self._read()
        self.context = CurrentContext(self._build())
        """For a listener; what `reload` finds takes effect with the next handshake."""

    def reload(self) -> bool:
        """Read the files again; True when they have changed. TLSConfigError when they do not fit together (yet)."""
        content = self._read()
        if content == self._content:
            return False
        self.context.current = self._build()
        self._content = content
        return True

    def _read(self) -> list[bytes]:
        """A digest of each file, so that no key is kept in memory for the comparison."""
        return [hashlib.sha256(read_pem(file, "file")).digest() for file in self.files]


def load_identity(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    """Give the context its own certificate chain and private key."""
    _require(cert_file, "CERTIFICATE", "certificate")
    _require(key_file, "PRIVATE KEY", "private key")

    def refuse_password() -> str:
        raise TLSConfigError(f"private key {key_file} is encrypted; only unencrypted keys can be used")

    try:
        context.load_cert_chain(cert_file, key_file, password=refuse_password)
    # Files that are being replaced may also vanish at this very moment.
    except OSError as error:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
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
    except OSError as error:
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


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return error.strerror or str(error)
