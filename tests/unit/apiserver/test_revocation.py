import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from apiserver.auth.request_header import AuthenticationFailed, Authenticator, RequestHeaderAuthenticator
from apiserver.auth.revocation import RevocationLists
from apiserver.auth.x509 import CertificateAuthenticator, CertificateVerifier, Trusted, Untrusted
from apiserver.tls import TLSConfigError
from tests.unit.apiserver.certificates import CLIENT, Issued, authority, issue, name

NOW = datetime.now(UTC)
REVOKED = Untrusted("certificate has been revoked")
Encoding = serialization.Encoding


def crl(
    issuer: Issued,
    *revoked: Issued,
    encoding: Encoding = Encoding.PEM,
    end: timedelta = timedelta(days=7),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - timedelta(days=30))
        .next_update(NOW + end)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder(one.certificate.serial_number, NOW - timedelta(days=1))
        builder = builder.add_revoked_certificate(entry.build())
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(encoding)


class World:
    """Two users of one authority, and a verifier that follows files."""

    def __init__(self, directory: Path) -> None:
        self.ca = authority("ca")
        self.alice, self.bob = (issue(name(cn), self.ca, usages=[CLIENT]) for cn in ("alice", "bob"))
        self.ca_file, self.crl_file = directory / "ca.crt", directory / "ca.crl"
        self.trust(self.ca)

    def trust(self, *authorities: Issued) -> None:
        self.ca_file.write_bytes(b"".join(one.pem for one in authorities))

    def verifier(self, listed: bytes) -> CertificateVerifier:
        self.crl_file.write_bytes(listed)
        return CertificateVerifier(self.ca_file, crl_file=self.crl_file)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_who_is_listed_is_revoked_and_nobody_else(world: World, encoding: Encoding) -> None:
    verifier = world.verifier(crl(world.ca, world.alice, encoding=encoding))
    assert verifier.verify(world.alice.der) == REVOKED
    assert isinstance(verifier.verify(world.bob.der), Trusted)


def test_lists_of_several_authorities_in_one_file(world: World) -> None:
    other = authority("other")
    eve = issue(name("eve"), other, usages=[CLIENT])
    world.trust(world.ca, other)
    verifier = world.verifier(b"a comment\n" + crl(world.ca, world.alice) + crl(other, eve))
    assert [verifier.verify(one.der) for one in (world.alice, eve)] == [REVOKED, REVOKED]
    assert isinstance(verifier.verify(world.bob.der), Trusted)


def of_another_authority(world: World) -> bytes:
    return crl(authority("other"), world.alice)


def of_another_key_of_the_same_name(world: World) -> bytes:
    return crl(authority("ca"), world.alice)


@pytest.mark.parametrize("listed", [of_another_authority, of_another_key_of_the_same_name])
def test_a_list_that_the_authority_has_not_signed_does_not_count(
    world: World, listed: Callable[[World], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        verifier = world.verifier(listed(world))
    assert isinstance(verifier.verify(world.alice.der), Trusted)
    assert "revocation list ignored: no authority has signed it" in caplog.text


def test_serials_of_one_authority_say_nothing_about_another(world: World) -> None:
    other = authority("other")
    world.trust(world.ca, other)
    verifier = world.verifier(crl(other, world.alice))
    assert isinstance(verifier.verify(world.alice.der), Trusted)


def test_an_outdated_list_is_used_on_with_one_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    verifier = world.verifier(crl(world.ca, world.alice, end=timedelta(days=-1)))
    with caplog.at_level(logging.WARNING):
        assert [verifier.verify(world.alice.der), verifier.verify(world.alice.der)] == [REVOKED, REVOKED]
    assert [record.message for record in caplog.records] == ["revocation list is outdated, it is used on"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(lambda world: b"", "holds no usable list", id="empty"),
        pytest.param(lambda world: world.ca.pem, "holds no usable list", id="a certificate"),
        pytest.param(
            lambda world: b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "holds no usable list", id="torn"
        ),
        pytest.param(
            lambda world: crl(world.ca, extensions=[(x509.DeltaCRLIndicator(1), True)]), "is a delta", id="delta"
        ),
        pytest.param(
            lambda world: crl(
                world.ca,
                extensions=[(x509.IssuingDistributionPoint(None, None, False, False, None, True, False), True)],
            ),
            "an indirect list",
            id="indirect",
        ),
    ],
)
def test_unusable_files(world: World, content: Callable[[World], bytes], text: str) -> None:
    with pytest.raises(TLSConfigError, match=text) as caught:
        world.verifier(content(world))
    assert str(world.crl_file) in str(caught.value)


def test_usual_extensions_are_fine(world: World) -> None:
    number = x509.CRLNumber(4711)
    users = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
    verifier = world.verifier(crl(world.ca, world.alice, extensions=[(number, False), (users, True)]))
    assert verifier.verify(world.alice.der) == REVOKED


def test_a_missing_file_is_an_error(world: World) -> None:
    with pytest.raises(TLSConfigError, match=r"cannot read revocation list .*ca\.crl"):
        CertificateVerifier(world.ca_file, crl_file=world.crl_file)


def test_reload_finds_verdicts_anew(world: World) -> None:
    verifier = world.verifier(crl(world.ca))
    assert isinstance(verifier.verify(world.alice.der), Trusted)
    assert not verifier.reload()
    world.crl_file.write_bytes(crl(world.ca, world.alice))
    assert verifier.reload()
    assert verifier.verify(world.alice.der) == REVOKED
    successor = authority("successor")
    world.trust(successor)
    assert verifier.reload()
    assert verifier.verify(world.bob.der) == Untrusted("certificate signed by unknown authority")
    assert isinstance(verifier.verify(issue(name("new"), successor, usages=[CLIENT]).der), Trusted)


def test_a_reload_that_fails_leaves_everything_in_force(world: World) -> None:
    verifier = world.verifier(crl(world.ca, world.alice))
    world.trust(authority("successor"))
    world.crl_file.write_bytes(b"torn")
    with pytest.raises(TLSConfigError):
        verifier.reload()
    assert verifier.verify(world.alice.der) == REVOKED
    assert isinstance(verifier.verify(world.bob.der), Trusted)


def test_both_ways_of_coming_in_look_at_their_lists(world: World) -> None:
    world.crl_file.write_bytes(crl(world.ca, world.alice))
    users = CertificateAuthenticator(world.ca_file, crl_file=world.crl_file)
    proxies = RequestHeaderAuthenticator(world.ca_file, crl_file=world.crl_file)
    headers = [("x-remote-user", "carol")]
    user = Authenticator(certificates=users).authenticate(world.alice.der, [])
    proxy = Authenticator(request_header=proxies).authenticate(world.alice.der, headers)
    assert user == AuthenticationFailed("client certificate: certificate has been revoked")
    assert proxy == AuthenticationFailed("front proxy: certificate has been revoked")
    assert proxies.trusts(world.bob.der) is True


def test_no_list_revokes_nobody(world: World) -> None:
    assert not RevocationLists.none().lists(world.alice.certificate, [world.ca.certificate])
