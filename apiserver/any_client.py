"""Letting a TLS handshake succeed whatever certificate the client shows, so that it gets a 401 that it can read.

Python's CERT_OPTIONAL ends the handshake of a client whose certificate is expired or issued by somebody else, where the
originals answer with a Status (aggregator.md 8.2). OpenSSL leaves that to a callback that the `ssl` module does not
offer; it is set through ctypes (ADR 0017). The handshake still proves that the client holds the key. All else about the
certificate must be verified by whoever reads it (`auth.x509`).
"""

import ctypes
import os
import platform
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from tempfile import NamedTemporaryFile
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_KNOWN_LAYOUT: Final = ((3, 11), (3, 14))
"""First and last version of Python whose `_ssl._SSLContext` begins with its SSL_CTX pointer for certain."""
_VERIFY_PEER: Final = 1
_ROUNDS: Final = 8

_Verify: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
# Lives as long as the process: contexts hold its address.
_accept: Final = _Verify(lambda _verified, _store: 1)


def let_in(context: ssl.SSLContext, again: Callable[[], ssl.SSLContext]) -> tuple[ssl.SSLContext, bool]:
    """The server context made to accept any client certificate, and True; or `again()` and False where that fails.

    The context has CERT_OPTIONAL. It has been tried with a stranger's certificate in memory before it is returned.
    """
    try:
        if _set_callback(context) and _stranger_gets_in(context):
            return context, True
    except OSError:
        # Nowhere to put the stranger's files for a moment, so what was done cannot be tried.
        pass
    return again(), False


def _set_callback(context: ssl.SSLContext) -> bool:
    library = _openssl()
    if library is None:
        return False
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    if not pointer or library.SSL_CTX_get_verify_mode(pointer) != _VERIFY_PEER:
        return False
    library.SSL_CTX_set_verify(pointer, _VERIFY_PEER, _accept)
    return True


@lru_cache(maxsize=1)
def _openssl() -> Any:
    """The OpenSSL that the `ssl` module itself is linked with, whatever others the process has; None: out of reach."""
    first, last = _KNOWN_LAYOUT
    if platform.python_implementation() != "CPython" or not first <= sys.version_info[:2] <= last:
        return None
    try:
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)
        library.SSL_CTX_set_verify.argtypes = (ctypes.c_void_p, ctypes.c_int, _Verify)
        library.SSL_CTX_set_verify.restype = None
        library.SSL_CTX_get_verify_mode.argtypes = (ctypes.c_void_p,)
        library.SSL_CTX_get_verify_mode.restype = ctypes.c_int
    except (ImportError, OSError, AttributeError):
        # Linked statically, or without the names.
        return None
    return library


def _stranger_gets_in(context: ssl.SSLContext) -> bool:
    """Whether both versions of TLS hand over the certificate of somebody whom nobody vouches for."""
    versions = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    return all(_shown(context, version) is not None for version in versions)


def _shown(context: ssl.SSLContext, version: ssl.TLSVersion) -> bytes | None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = _stranger(version).wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(_ROUNDS):
            for end in (client, server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        return server.getpeercert(binary_form=True)
    except (ssl.SSLError, ValueError):
        return None


@lru_cache(maxsize=2)
def _stranger(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client whose expired certificate nobody has issued."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(now - timedelta(days=2)).not_valid_after(now - timedelta(days=1))
    )
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    # The root file system may be read-only.
    directory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with NamedTemporaryFile(dir=directory, prefix="stranger-") as file:
        file.write(pem + key.private_bytes(*form))
        file.flush()
        context.load_cert_chain(file.name)
    return context
