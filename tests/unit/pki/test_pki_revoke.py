"""Revocation lists that the command writes, read by what servers read them with."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from apiserver.auth.x509 import CertificateVerifier, Trusted, Untrusted
from pki import cli, revocation, rotate, write
from pki.plan import PKIError, development_plan
from pki.rotation import Step

PLANS = development_plan()
NOW = datetime.now(UTC)


@pytest.fixture
def issued(tmp_path: Path) -> Path:
    write.issue(tmp_path, PLANS, now=NOW)
    return tmp_path


def der(file: Path) -> bytes:
    return x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)


def counts(directory: Path, certificate: bytes, authority: str = "client-ca") -> bool:
    verifier = CertificateVerifier(directory / f"{authority}.crt", crl_file=directory / f"{authority}.crl")
    verdict = verifier.verify(certificate)
    assert isinstance(verdict, Trusted) or verdict == Untrusted("certificate has been revoked")
    return isinstance(verdict, Trusted)


def test_the_revoked_one_is_out_and_its_successor_is_not(issued: Path) -> None:
    old = der(issued / "admin.crt")
    listed, serial = revocation.revoke(issued, PLANS, "admin", now=NOW)
    assert (listed.name, listed.serials) == ("client-ca", (serial,))
    assert not counts(issued, old)
    rotate.renew(issued, PLANS, now=NOW, names=["admin"], every=False, new_keys=False, days=None)
    assert counts(issued, der(issued / "admin.crt"))
    assert stat.S_IMODE((issued / "client-ca.crl").stat().st_mode) == 0o644
    assert [file.name for file in issued.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("target", "authority"),
    [("front-proxy-client", "front-proxy-ca"), ("aggregator", "ca"), ("{dir}/admin.crt", "client-ca")],
    ids=["front proxy", "serving", "file"],
)
def test_the_right_authority_signs(issued: Path, target: str, authority: str) -> None:
    listed, _ = revocation.revoke(issued, PLANS, target.format(dir=issued), now=NOW)
    assert listed.name == authority
    signed = x509.load_pem_x509_crl((issued / f"{authority}.crl").read_bytes())
    signer = x509.load_pem_x509_certificate((issued / f"{authority}.crt").read_bytes())
    assert signed.is_signature_valid(signer.public_key())  # type: ignore[arg-type]
    assert signed.issuer == signer.subject


def test_lists_grow_and_are_numbered(issued: Path) -> None:
    revocation.revoke(issued, PLANS, "admin", now=NOW)
    for _ in range(2):
        listed, _ = revocation.revoke(issued, PLANS, "AB:CD", now=NOW, authority_name="client-ca")
    assert len(listed.serials) == 2
    assert 0xABCD in listed.serials
    signed = x509.load_pem_x509_crl((issued / "client-ca.crl").read_bytes())
    assert signed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 3


@pytest.mark.parametrize(
    ("target", "authority", "problem"),
    [
        ("nobody", "", "neither the name of a certificate nor a file"),
        ("client-ca", "", "has been issued by no authority here"),
        ("xyz", "client-ca", "not a serial number"),
        ("12", "nobody", "its certificate or its key is missing"),
    ],
)
def test_what_cannot_be_revoked(issued: Path, target: str, authority: str, problem: str) -> None:
    with pytest.raises(PKIError, match=problem):
        revocation.revoke(issued, PLANS, target, now=NOW, authority_name=authority)
    assert not list(issued.glob("*.crl"))


def test_renewal_before_a_list_is_outdated(issued: Path) -> None:
    revocation.revoke(issued, PLANS, "admin", now=NOW)
    assert revocation.renew(issued, PLANS, now=NOW) == []
    later = NOW + timedelta(days=160)
    (renewed,) = revocation.renew(issued, PLANS, now=later)
    assert renewed.next_update > later + timedelta(days=179)
    assert len(renewed.serials) == 1
    assert len(revocation.renew(issued, PLANS, now=later, every=True)) == 1


def test_during_a_rotation_both_lists_are_in_the_file(issued: Path) -> None:
    old = der(issued / "admin.crt")
    revocation.revoke(issued, PLANS, "admin", now=NOW)
    for step in (Step.TRUST, Step.SWITCH):
        rotate.advance(issued, "client-ca", step, PLANS, now=NOW)
    new = der(issued / "admin.crt")
    assert (counts(issued, old), counts(issued, new)) == (False, True)
    revocation.revoke(issued, PLANS, "admin", now=NOW)
    assert (counts(issued, old), counts(issued, new)) == (False, False)
    assert len(revocation.look(issued, PLANS)) == 2


def test_the_command(issued: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--dir", str(issued))
    assert cli.main(["revoke", *where, "admin"]) == 0
    assert cli.main(["show", *where]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("client-ca.crl: 1 revoked, to be renewed before ")
    assert cli.main(["revoke", *where, "nobody"]) == 1
    assert capsys.readouterr().err == "aggregator-pki: nobody: neither the name of a certificate nor a file\n"
