"""What the TLS listeners of both programs offer, asked with `openssl s_client` as an outsider would."""

import re
import shutil
import socket
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.local_stack import LocalStack

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

WEAK = {
    "3DES": "3DES:@SECLEVEL=0",
    "RC4": "RC4:@SECLEVEL=0",
    "NULL": "NULL:@SECLEVEL=0",
    "anonymous": "aNULL:@SECLEVEL=0",
    "export": "EXP:@SECLEVEL=0",
    "CBC with SHA-1": "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:AES128-SHA:@SECLEVEL=0",
    "static key exchange": "kRSA:@SECLEVEL=0",
}


@pytest.fixture(scope="module", params=["aggregator", "example-apiserver"])
def port(request: pytest.FixtureRequest, stack: LocalStack) -> int:
    return stack.port if request.param == "aggregator" else stack.example_port


def probe(port: int, *arguments: str, send: str = "Q\n") -> str:
    """What s_client prints, both channels."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *arguments]
    done = subprocess.run(command, input=send.encode(), capture_output=True, timeout=20, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def agreed(text: str) -> str:
    """The cipher suite of the connection; `(NONE)` without one."""
    found = re.search(r"(?:New|Reused), .*, Cipher is (\S+)", text)
    return found[1] if found else "(NONE)"


@pytest.mark.parametrize("version", ["1", "1_1"])
def test_old_versions_are_refused(port: int, version: str) -> None:
    text = probe(port, f"-tls{version}", "-cipher", "ALL:@SECLEVEL=0")
    assert agreed(text) == "(NONE)"
    # By the server: the client did offer it.
    assert re.search(r"has read [07] bytes and written [1-9]\d+ bytes", text), text


@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_present_versions_have_forward_secrecy_and_authenticated_ciphers(port: int, version: str) -> None:
    text = probe(port, f"-tls{version}")
    assert re.search("GCM|CHACHA20", agreed(text)), text
    assert re.search("Server Temp Key: (X25519|ECDH)", text)
    assert "Secure Renegotiation IS supported" in text or version == "1_3"
    assert "Compression: NONE" in text
    assert "Expansion: NONE" in text


@pytest.mark.parametrize("ciphers", WEAK.values(), ids=WEAK)
def test_weak_ciphers_are_refused(port: int, ciphers: str) -> None:
    text = probe(port, "-tls1_2", "-cipher", ciphers)
    assert agreed(text) == "(NONE)"


def test_small_groups_are_refused(port: int) -> None:
    assert agreed(probe(port, "-tls1_2", "-groups", "P-192", "-cipher", "ALL:@SECLEVEL=0")) == "(NONE)"


@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_a_client_certificate_is_asked_for(port: int, version: str) -> None:
    text = probe(port, f"-tls{version}")
    assert "Requested Signature Algorithms" in text
    # No names: clients choose freely, and are told with 401 when it is the wrong one.
    assert "No client certificate CA names sent" in text


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("h2,http/1.1", "http/1.1"), ("http/1.1,h2", "http/1.1"), ("h2", "h2"), ("spdy/3", "")],
    ids=["both", "both, other order", "h2 alone", "unknown"],
)
def test_alpn(port: int, offered: str, chosen: str) -> None:
    text = probe(port, "-alpn", offered)
    assert agreed(text) != "(NONE)"
    assert (f"ALPN protocol: {chosen}" if chosen else "No ALPN negotiated") in text


@pytest.mark.parametrize("name", ["localhost", "unknown.example", ""], ids=["known", "unknown", "none"])
def test_every_server_name_gets_the_same_certificate(port: int, name: str) -> None:
    text = probe(port, *(["-servername", name] if name else ["-noservername"]))
    assert agreed(text) != "(NONE)"
    assert "CN = " in text


def test_the_certificate_verifies_for_its_names(port: int, stack: LocalStack) -> None:
    arguments = ["-CAfile", str(stack.pki / "ca.crt"), "-verify_return_error", "-verify_hostname"]
    assert "Verify return code: 0 (ok)" in probe(port, *arguments, "localhost")
    assert "hostname mismatch" in probe(port, *arguments, "other.example").lower()


def test_renegotiation_is_refused(port: int) -> None:
    text = probe(port, "-tls1_2", send="R\n")
    assert "RENEGOTIATING" in text, "the client did not try"
    assert "no renegotiation" in text


def stranger(directory: Path, name: str, **days: int) -> tuple[str, str]:
    """A certificate that nobody vouches for, in the name of an administrator."""
    key = ec.generate_private_key(ec.SECP256R1())
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters")
    subject = x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now - timedelta(days=9))
    certificate = builder.not_valid_after(now + timedelta(**days)).sign(key, hashes.SHA256())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = directory / f"{name}.crt", directory / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(*form))
    return str(files[0]), str(files[1])


REQUEST = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def ask(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[bytes, bool, ssl.SSLSession | None]:
    """Version and status of an answer, whether the session was resumed, and the session."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost", session=session) as wrapped,
    ):
        wrapped.sendall(REQUEST)
        answer = b"".join(iter(lambda: wrapped.recv(65536), b""))
        return b" ".join(answer.split(maxsplit=2)[:2]), bool(wrapped.session_reused), wrapped.session


def client(stack: LocalStack, version: str, certificate: tuple[str, str] | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(stack.pki / "ca.crt"))
    context.maximum_version = ssl.TLSVersion[version]
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("days", [9, -1], ids=["foreign", "foreign and expired"])
def test_a_stranger_gets_a_401_not_a_broken_handshake(
    port: int, stack: LocalStack, tmp_path: Path, version: str, days: int
) -> None:
    context = client(stack, version, stranger(tmp_path, "mallory", days=days))
    assert ask(port, context)[0] == b"HTTP/1.1 401"


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_resumed_session_has_the_identity_it_had(stack: LocalStack, tmp_path: Path, version: str) -> None:
    """Neither more nor less: what resumes a stranger's session stays a stranger."""
    admin = str(stack.pki / "admin.crt"), str(stack.pki / "admin.key")
    for certificate, expected in ((admin, b"200"), (stranger(tmp_path, "eve", days=9), b"401")):
        context = client(stack, version, certificate)
        first, resumed, session = ask(stack.port, context)
        assert (first, resumed) == (b"HTTP/1.1 " + expected, False)
        second, resumed, _ = ask(stack.port, context, session)
        assert (second, resumed) == (b"HTTP/1.1 " + expected, True)
