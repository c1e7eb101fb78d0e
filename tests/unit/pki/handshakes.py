"""TLS handshakes in memory, by the real engine, with both ends as strict as Python 3.13 is by default."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STRICT = ssl.VERIFY_X509_STRICT


@dataclass(frozen=True, slots=True)
class Files:
    """A certificate file and its key file."""

    certificate: Path
    key: Path

    @classmethod
    def of(cls, directory: Path, name: str) -> "Files":
        return cls(directory / f"{name}.crt", directory / f"{name}.key")


def handshake(
    server: Files, *, server_ca: Path, server_name: str, client: Files | None = None, client_ca: Path | None = None
) -> dict[str, Any] | None:
    """Shake hands and return the client certificate as the server sees it. ssl.SSLError when either end refuses."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(server.certificate, server.key)
    if client_ca is not None:
        server_context.verify_mode = ssl.CERT_REQUIRED
        server_context.verify_flags |= STRICT
        server_context.load_verify_locations(client_ca)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.verify_flags |= STRICT
    client_context.load_verify_locations(server_ca)
    if client is not None:
        client_context.load_cert_chain(client.certificate, client.key)

    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_end = server_context.wrap_bio(to_server, to_client, server_side=True)
    client_end = client_context.wrap_bio(to_client, to_server, server_hostname=server_name)
    waiting = [client_end, server_end]
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
        if not waiting:
            return server_end.getpeercert()
    raise AssertionError("the handshake did not end")
