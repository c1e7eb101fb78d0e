import platform
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from apiserver import any_client, tls
from tests.unit.apiserver import certificates
from tests.unit.apiserver.certificates import CLIENT, Issued
from tests.unit.apiserver.conftest import PKI


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory; raises what either side raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return ends


def client_context(pki: PKI, identity: Issued | None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    if identity is not None:
        return identity.client_context(pki.ca_file, pki.directory, alpn)
    context = ssl.create_default_context(cafile=str(pki.ca_file))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def test_client_certificate_is_asked_for_not_required(pki: PKI) -> None:
    server = tls.server_context(*pki.server_files, [pki.ca_file])
    assert handshake(server, client_context(pki, None))[1].getpeercert(True) is None
    assert handshake(server, client_context(pki, pki.client))[1].getpeercert(True) == pki.client.der


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("who", ["stranger", "expired", "client"])
def test_any_client_certificate_is_let_in_to_be_judged(pki: PKI, version: ssl.TLSVersion, who: str) -> None:
    outdated = certificates.issue(certificates.name("old"), pki.ca, usages=[CLIENT], end=timedelta(minutes=-1))
    identity = {"stranger": pki.stranger, "expired": outdated, "client": pki.client}[who]
    client = client_context(pki, identity)
    client.maximum_version = version
    server = handshake(tls.server_context(*pki.server_files, [pki.ca_file]), client)[1]
    assert (server.version(), server.getpeercert(True)) == (version.name.replace("_", "."), identity.der)


def test_without_the_key_no_certificate_is_let_in(pki: PKI) -> None:
    """The callback forgives what is said about a certificate, not a signature that the client cannot make."""
    server = tls.server_context(*pki.server_files, [pki.ca_file])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context(pki, pki.client)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = context.wrap_bio(to_client, to_server, server_hostname="localhost")
    end = server.wrap_bio(to_server, to_client, server_side=True)
    for one in (client, end, client):
        with pytest.raises(ssl.SSLWantReadError):
            one.do_handshake()
    flight = bytearray(to_server.read())
    # The length of the signature's last integer and what follows stay: only its value is another one.
    position = flight.rindex(b"\x14\x03\x03") - 4
    flight[position] ^= 1
    to_server.write(bytes(flight))
    with pytest.raises(ssl.SSLError):
        end.do_handshake()


@pytest.fixture
def out_of_reach(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Python that is not known to have the layout that the callback needs."""
    any_client._openssl.cache_clear()
    monkeypatch.setattr(platform, "python_implementation", lambda: "Another")
    yield
    any_client._openssl.cache_clear()


@pytest.mark.usefixtures("out_of_reach")
def test_where_the_callback_is_out_of_reach_the_handshake_refuses(pki: PKI) -> None:
    server = tls.server_context(*pki.server_files, [pki.ca_file])
    assert handshake(server, client_context(pki, pki.client))[1].getpeercert(True) == pki.client.der
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client_context(pki, pki.stranger))


def test_without_client_authorities_none_is_asked_for(pki: PKI) -> None:
    server = tls.server_context(*pki.server_files)
    assert handshake(server, client_context(pki, pki.client))[1].getpeercert(True) is None


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_union_of_authorities_even_with_few_extensions(pki: PKI, tmp_path: Path, kind: str) -> None:
    bare = certificates.authority("bare", kind=kind, extensions=False)
    front = certificates.issue(certificates.name("proxy"), bare, usages=[CLIENT], extensions=False)
    server = tls.server_context(*pki.server_files, [pki.ca_file, bare.write(tmp_path, "bare")[0]])
    for identity in (front, pki.client):
        assert handshake(server, client_context(pki, identity))[1].getpeercert(True) == identity.der


def test_intermediate_authority_in_the_bundle_is_an_anchor(pki: PKI, tmp_path: Path) -> None:
    root = certificates.authority("root")
    intermediate = certificates.issue(certificates.name("intermediate"), root, ca=True)
    leaf = certificates.issue(certificates.name("leaf"), intermediate, usages=[CLIENT])
    server = tls.server_context(*pki.server_files, [intermediate.write(tmp_path, "intermediate")[0]])
    assert handshake(server, client_context(pki, leaf))[1].getpeercert(True) == leaf.der


@pytest.mark.parametrize(
    ("alpn", "chosen"), [(tls.ALPN_HTTP1_FIRST, "http/1.1"), (tls.ALPN_HTTP2_FIRST, "h2")], ids=["http1", "http2"]
)
def test_server_prefers_by_its_own_order(pki: PKI, alpn: tuple[str, ...], chosen: str) -> None:
    server = tls.server_context(*pki.server_files, alpn=alpn)
    for offered in (("h2", "http/1.1"), ("http/1.1", "h2")):
        assert handshake(server, client_context(pki, None, offered))[0].selected_alpn_protocol() == chosen


def test_old_protocol_versions_are_refused(pki: PKI) -> None:
    assert tls.server_context(*pki.server_files).minimum_version == ssl.TLSVersion.TLSv1_2


class TestErrors:
    @pytest.fixture
    def files(self, pki: PKI, tmp_path: Path) -> dict[str, Path]:
        cert, key = pki.server.write(tmp_path, "server")
        return {"cert": cert, "key": key, "ca": pki.ca.write(tmp_path, "ca")[0]}

    def problem(self, files: dict[str, Path]) -> str:
        with pytest.raises(tls.TLSConfigError) as caught:
            tls.server_context(files["cert"], files["key"], [files["ca"]])
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("which", ["cert", "key", "ca"])
    def test_missing_file(self, files: dict[str, Path], which: str) -> None:
        files[which].unlink()
        text = self.problem(files)
        assert str(files[which]) in text
        assert "No such file" in text

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            pytest.param(b"", "is empty", id="empty"),
            pytest.param(b"hello", "no PEM block of type", id="text"),
        ],
    )
    @pytest.mark.parametrize("which", ["cert", "key", "ca"])
    def test_wrong_content(self, files: dict[str, Path], which: str, content: bytes, expected: str) -> None:
        files[which].write_bytes(content)
        text = self.problem(files)
        assert str(files[which]) in text
        assert expected in text

    @pytest.mark.parametrize(
        ("which", "label"), [("cert", "CERTIFICATE"), ("key", "PRIVATE KEY"), ("ca", "CERTIFICATE")]
    )
    def test_damaged_block(self, files: dict[str, Path], which: str, label: str) -> None:
        files[which].write_text(f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
        assert str(files[which]) in self.problem(files)

    def test_swapped_files(self, files: dict[str, Path]) -> None:
        swapped = {**files, "cert": files["key"], "key": files["cert"]}
        assert f"certificate {files['key']} holds no PEM block of type CERTIFICATE" in self.problem(swapped)

    def test_key_of_another_certificate(self, files: dict[str, Path], tmp_path: Path) -> None:
        files["key"].write_bytes(certificates.authority("other").key_pem)
        assert f"private key {files['key']} does not belong to certificate {files['cert']}" == self.problem(files)

    def test_encrypted_key_does_not_ask_on_the_terminal(self, files: dict[str, Path], pki: PKI) -> None:
        encryption = serialization.BestAvailableEncryption(b"pw")
        pem = pki.server.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        files["key"].write_bytes(pem)
        assert f"private key {files['key']} is encrypted" in self.problem(files)
