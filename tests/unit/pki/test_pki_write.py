import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki import authority, files, write
from pki.files import Owner
from pki.plan import EXAMPLE_SANS, Action, PKIError, development_plan, serving
from pki.plan import authority as plan_authority
from pki.write import Outcome
from tests.unit.pki.handshakes import Files, handshake

NOW = datetime.now(UTC)
PLANS = development_plan()
NAMES = [plan.name for plan in PLANS]


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete development PKI that no test changes."""
    directory = tmp_path_factory.mktemp("pki")
    write.issue(directory, PLANS, now=NOW)
    return directory


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def actions(outcomes: list[Outcome]) -> dict[str, str]:
    """The outcomes that are not `kept`, by name."""
    return {outcome.name: outcome.reason for outcome in outcomes if outcome.action is not Action.KEEP}


def certificate(directory: Path, name: str) -> x509.Certificate:
    return authority.load_certificate((directory / f"{name}.crt").read_bytes())


def test_files_and_modes(issued: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in issued.iterdir()}
    assert modes == {f"{name}.crt": 0o644 for name in NAMES} | {f"{name}.key": 0o600 for name in NAMES}


@pytest.mark.parametrize("server_name", EXAMPLE_SANS)
def test_strict_mutual_tls_between_aggregator_and_example(issued: Path, server_name: str) -> None:
    peer = handshake(
        Files.of(issued, "example-apiserver"),
        server_ca=issued / "ca.crt",
        server_name=server_name,
        client=Files.of(issued, "front-proxy-client"),
        client_ca=issued / "front-proxy-ca.crt",
    )
    assert peer is not None
    assert peer["subject"] == ((("commonName", "aggregator"),),)


@pytest.mark.parametrize("server_name", ["localhost", "aggregator", "127.0.0.1", "::1"])
def test_strict_mutual_tls_between_kubectl_and_aggregator(issued: Path, server_name: str) -> None:
    peer = handshake(
        Files.of(issued, "aggregator"),
        server_ca=issued / "ca.crt",
        server_name=server_name,
        client=Files.of(issued, "admin"),
        client_ca=issued / "client-ca.crt",
    )
    assert peer is not None
    assert peer["subject"] == ((("organizationName", "system:masters"),), (("commonName", "grafana-admin"),))


@pytest.mark.parametrize(
    ("server", "server_ca", "server_name", "client", "client_ca", "text"),
    [
        pytest.param("aggregator", "ca", "example.org", "admin", "client-ca", "Hostname mismatch", id="other name"),
        pytest.param("aggregator", "client-ca", "localhost", "admin", "client-ca", "CERTIFICATE_VERIFY", id="other CA"),
        pytest.param(
            "aggregator", "ca", "localhost", "front-proxy-client", "client-ca", "CERTIFICATE_VERIFY", id="proxy as user"
        ),
        pytest.param(
            "aggregator", "ca", "localhost", "example-apiserver", "ca", "unsuitable certificate", id="server as client"
        ),
        pytest.param(
            "admin", "client-ca", "localhost", "admin", "client-ca", "unsuitable certificate", id="client as server"
        ),
    ],
)
def test_certificates_serve_one_purpose(
    issued: Path, server: str, server_ca: str, server_name: str, client: str, client_ca: str, text: str
) -> None:
    with pytest.raises(ssl.SSLError, match=text):
        handshake(
            Files.of(issued, server),
            server_ca=issued / f"{server_ca}.crt",
            server_name=server_name,
            client=Files.of(issued, client),
            client_ca=issued / f"{client_ca}.crt",
        )


def test_extensions_of_a_leaf(issued: Path) -> None:
    leaf, ca = certificate(issued, "aggregator"), certificate(issued, "ca")
    extensions = leaf.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, basic.value.ca) == (True, False)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    subject_id = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == subject_id
    assert leaf.not_valid_before_utc < NOW
    assert leaf.serial_number.bit_length() > 64


def test_extensions_of_an_authority(issued: Path) -> None:
    extensions = certificate(issued, "ca").extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.crl_sign) == (True, True, True)


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    first = write.issue(tmp_path, PLANS, now=NOW)
    before = content(tmp_path)
    second = write.issue(tmp_path, PLANS, now=NOW + timedelta(days=1))
    assert actions(first) == dict.fromkeys(NAMES, "missing")
    assert actions(second) == {}
    assert content(tmp_path) == before


def test_only_what_no_longer_fits_is_issued_again(tmp_path: Path) -> None:
    write.issue(tmp_path, PLANS, now=NOW)
    before = content(tmp_path)
    outcomes = write.issue(tmp_path, development_plan(aggregator_sans=["10.0.0.1"]), now=NOW)
    after = content(tmp_path)
    assert actions(outcomes) == {"aggregator": "names changed: +10.0.0.1"}
    assert {name for name in before if before[name] != after[name]} == {"aggregator.crt"}


def test_leaves_near_their_end_are_issued_again_and_work(tmp_path: Path) -> None:
    write.issue(tmp_path, PLANS, now=NOW - timedelta(days=250))
    outcomes = write.issue(tmp_path, PLANS, now=NOW)
    assert sorted(actions(outcomes)) == ["admin", "aggregator", "example-apiserver", "front-proxy-client"]
    assert handshake(Files.of(tmp_path, "aggregator"), server_ca=tmp_path / "ca.crt", server_name="localhost") is None


def test_an_old_authority_is_renewed_with_its_key_and_what_it_signed_stays_good(tmp_path: Path) -> None:
    old = (plan_authority("ca", "brought along"), serving("web", ["localhost"], issuer="ca"))
    write.issue(tmp_path, old[:1], now=NOW - timedelta(days=3000))
    key_before = (tmp_path / "ca.key").read_bytes()
    # The leaf is signed by the old certificate, which still has 650 days.
    write_leaf(tmp_path)
    leaf_before = (tmp_path / "web.crt").read_bytes()
    renewed = (plan_authority("ca", "another name"), old[1])
    outcomes = write.issue(tmp_path, renewed, now=NOW)
    assert actions(outcomes) == {"ca": f"expires on {NOW + timedelta(days=650):%Y-%m-%d}"}
    assert (tmp_path / "ca.key").read_bytes() == key_before
    assert (tmp_path / "web.crt").read_bytes() == leaf_before
    assert handshake(Files.of(tmp_path, "web"), server_ca=tmp_path / "ca.crt", server_name="localhost") is None


def write_leaf(directory: Path) -> None:
    pair = authority.Pair(certificate(directory, "ca"), authority.load_key((directory / "ca.key").read_bytes()))
    key = authority.new_key()
    leaf = authority.sign(serving("web", ["localhost"], issuer="ca"), key, issuer=pair, now=NOW)
    (directory / "web.crt").write_bytes(authority.certificate_pem(leaf))
    (directory / "web.key").write_bytes(authority.key_pem(key))


def test_a_lost_authority_certificate_is_made_again_from_its_key(tmp_path: Path) -> None:
    write.issue(tmp_path, PLANS, now=NOW)
    (tmp_path / "ca.crt").unlink()
    outcomes = write.issue(tmp_path, PLANS, now=NOW)
    assert actions(outcomes) == {"ca": "certificate missing"}
    assert handshake(Files.of(tmp_path, "aggregator"), server_ca=tmp_path / "ca.crt", server_name="localhost") is None


def test_a_new_authority_means_new_leaves(tmp_path: Path) -> None:
    write.issue(tmp_path, PLANS, now=NOW)
    (tmp_path / "client-ca.crt").unlink()
    (tmp_path / "client-ca.key").unlink()
    outcomes = write.issue(tmp_path, PLANS, now=NOW)
    assert actions(outcomes) == {"client-ca": "missing", "admin": "not signed by client-ca.crt"}


def test_without_the_key_of_an_authority_good_leaves_are_kept(tmp_path: Path) -> None:
    write.issue(tmp_path, PLANS, now=NOW)
    (tmp_path / "ca.key").unlink()
    assert actions(write.issue(tmp_path, PLANS, now=NOW)) == {}


def test_without_the_key_of_an_authority_nothing_can_be_issued(tmp_path: Path) -> None:
    write.issue(tmp_path, PLANS, now=NOW)
    (tmp_path / "ca.key").unlink()
    (tmp_path / "aggregator.crt").unlink()
    with pytest.raises(PKIError, match=r"aggregator.crt has to be issued \(certificate missing\), but ca.key is"):
        write.issue(tmp_path, PLANS, now=NOW)


def test_a_damaged_authority_key_is_left_alone(tmp_path: Path) -> None:
    write.issue(tmp_path, PLANS, now=NOW)
    (tmp_path / "ca.key").write_text("damaged")
    before = content(tmp_path)
    with pytest.raises(PKIError, match=r"ca.key: not a PEM private key; an authority is never replaced on its own"):
        write.issue(tmp_path, PLANS, now=NOW)
    assert content(tmp_path) == before


@pytest.mark.parametrize("damage", [b"", b"damaged", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_damaged_leaf_is_issued_again(tmp_path: Path, damage: bytes) -> None:
    write.issue(tmp_path, PLANS, now=NOW)
    (tmp_path / "admin.crt").write_bytes(damage)
    assert actions(write.issue(tmp_path, PLANS, now=NOW)) == {"admin": "not a PEM certificate"}


def test_a_leaf_never_outlives_its_authority(tmp_path: Path) -> None:
    plans = (plan_authority("ca", "ca"), serving("web", ["localhost"], issuer="ca", days=9000))
    write.issue(tmp_path, plans, now=NOW)
    assert certificate(tmp_path, "web").not_valid_after_utc == certificate(tmp_path, "ca").not_valid_after_utc


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_an_authority_brought_along_may_have_another_kind_of_key(tmp_path: Path, kind: str) -> None:
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "ca.key").write_bytes(authority.key_pem(key))
    write.issue(tmp_path, PLANS, now=NOW)
    assert handshake(Files.of(tmp_path, "aggregator"), server_ca=tmp_path / "ca.crt", server_name="localhost") is None


def test_an_authority_key_with_a_password_is_refused(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    (tmp_path / "ca.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(PKIError, match=r"ca.key: the private key is protected by a password"):
        write.issue(tmp_path, PLANS, now=NOW)


def test_a_renewed_authority_keeps_a_key_identifier_of_another_method(tmp_path: Path) -> None:
    key = authority.new_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "brought along")])
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, NOW - timedelta(days=99), NOW + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier(b"chosen"), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    (tmp_path / "ca.crt").write_bytes(authority.certificate_pem(builder.sign(key, hashes.SHA256())))
    (tmp_path / "ca.key").write_bytes(authority.key_pem(key))
    write.issue(tmp_path, PLANS, now=NOW)
    extensions = certificate(tmp_path, "ca").extensions
    assert certificate(tmp_path, "ca").subject == name
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest == b"chosen"
    assert handshake(Files.of(tmp_path, "aggregator"), server_ca=tmp_path / "ca.crt", server_name="localhost") is None


def test_modes_of_kept_files_are_put_right(tmp_path: Path) -> None:
    write.issue(tmp_path, PLANS, now=NOW)
    (tmp_path / "admin.key").chmod(0o644)
    write.issue(tmp_path, PLANS, now=NOW)
    assert stat.S_IMODE((tmp_path / "admin.key").stat().st_mode) == 0o600


def test_owner_of_everything_written_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[object, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda target, uid, gid: given.append((target, uid, gid)))
    directory = tmp_path / "new" / "pki"
    write.issue(directory, PLANS, now=NOW, owner=Owner(12345, 54321))
    targets = {target for target, uid, gid in given if (uid, gid) == (12345, 54321)}
    assert {directory, directory.parent, *directory.iterdir()} <= targets
    assert tmp_path not in targets


def test_owner_without_being_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(PKIError, match=r"cannot be given to 7:8: only root may change owners"):
        write.issue(tmp_path, PLANS, now=NOW, owner=Owner(7, 8))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("")
    with pytest.raises(PKIError, match="pki: File exists"):
        write.issue(tmp_path / "pki", PLANS, now=NOW)


def test_write_file_replaces_a_link_instead_of_following_it(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("untouched")
    link = tmp_path / "link"
    link.symlink_to(other)
    files.write_file(link, b"new", mode=0o600)
    assert (other.read_text(), link.read_bytes(), link.is_symlink()) == ("untouched", b"new", False)


def test_write_file_keeps_the_old_content_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_file(path, b"new", mode=0o600)
    assert content(tmp_path) == {"file": b"old"}
