import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from apimachinery.identity import User
from apiserver.auth.x509 import CertificateAuthenticator, CertificateVerifier, Trusted, Untrusted, load_bundle
from apiserver.peer import PeerCertificate
from apiserver.tls import TLSConfigError
from tests.unit.apiserver.certificates import CLIENT, SERVER, Issued, authority, issue, name, new_key

DAYS = 86400.0


def verifier(tmp_path: Path, *bundle: Issued) -> CertificateVerifier:
    file = tmp_path / "ca.crt"
    file.write_bytes(b"".join(one.pem for one in bundle))
    return CertificateVerifier(file)


@pytest.mark.parametrize(
    "ca",
    [
        pytest.param(lambda: authority("ca"), id="ec"),
        pytest.param(lambda: authority("ca", kind="rsa"), id="rsa"),
        pytest.param(lambda: authority("ca", extensions=False), id="with basic constraints only"),
        pytest.param(lambda: authority("ca", kind="rsa", extensions=False), id="rsa with basic constraints only"),
        pytest.param(lambda: issue(name("ca"), ca=None, extensions=False), id="without extensions"),
    ],
)
def test_issuers_that_count(tmp_path: Path, ca: Callable[[], Issued]) -> None:
    issuer = ca()
    leaf = issue(name("alice"), issuer, usages=[CLIENT])
    verdict = verifier(tmp_path, authority("other"), issuer).verify(leaf.der)
    assert isinstance(verdict, Trusted)
    assert verdict.common_name == "alice"


def renewed_authority() -> tuple[list[Issued], Issued]:
    old = issue(name("ca"), ca=True, start=timedelta(days=-9), end=timedelta(days=-1))
    new = issue(name("ca"), ca=True, key=old.key)
    return [old, new], issue(name("x"), old, usages=[CLIENT])


def in_bundle_itself() -> tuple[list[Issued], Issued]:
    alone = issue(name("x"), usages=[CLIENT])
    return [alone], alone


def one_authority(**leaf: object) -> Callable[[], tuple[list[Issued], Issued]]:
    def make() -> tuple[list[Issued], Issued]:
        ca = authority("ca")
        return [ca], issue(name("x"), ca, **leaf)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(one_authority(), id="no extended key usage"),
        pytest.param(one_authority(usages=[SERVER, CLIENT]), id="server and client"),
        pytest.param(renewed_authority, id="old and renewed authority with one key"),
        pytest.param(in_bundle_itself, id="the certificate is in the bundle"),
    ],
)
def test_certificates_that_count(tmp_path: Path, case: Callable[[], tuple[list[Issued], Issued]]) -> None:
    bundle, leaf = case()
    assert isinstance(verifier(tmp_path, *bundle).verify(leaf.der), Trusted)


def same_name_other_key() -> tuple[list[Issued], Issued]:
    return [authority("ca")], issue(name("x"), authority("ca"), usages=[CLIENT])


def issued_by_a_leaf() -> tuple[list[Issued], Issued]:
    ca = authority("ca")
    leaf = issue(name("leaf"), ca)
    return [ca], issue(name("x"), leaf, usages=[CLIENT])


def issued_by_an_intermediate() -> tuple[list[Issued], Issued]:
    ca = authority("ca")
    return [ca], issue(name("x"), issue(name("intermediate"), ca, ca=True), usages=[CLIENT])


def issued_by_a_leaf_in_the_bundle() -> tuple[list[Issued], Issued]:
    leaf = issue(name("leaf"))
    return [leaf], issue(name("x"), leaf, usages=[CLIENT])


def expired_authority() -> tuple[list[Issued], Issued]:
    old = issue(name("ca"), ca=True, start=timedelta(days=-9), end=timedelta(days=-1))
    return [old], issue(name("x"), old, usages=[CLIENT])


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        pytest.param(same_name_other_key, "unknown authority", id="an authority of the same name"),
        pytest.param(issued_by_a_leaf, "unknown authority", id="issued by a leaf of the authority"),
        pytest.param(issued_by_a_leaf_in_the_bundle, "unknown authority", id="issued by a bundled leaf"),
        pytest.param(issued_by_an_intermediate, "unknown authority", id="issued by an intermediate"),
        pytest.param(one_authority(usages=[SERVER]), "incompatible key usage", id="server only"),
        pytest.param(one_authority(start=timedelta(days=-2), end=timedelta(days=-1)), "expired", id="expired"),
        pytest.param(one_authority(start=timedelta(days=1)), "not yet valid", id="not yet valid"),
        pytest.param(expired_authority, "expired", id="authority expired"),
    ],
)
def test_certificates_that_do_not_count(
    tmp_path: Path, case: Callable[[], tuple[list[Issued], Issued]], reason: str
) -> None:
    bundle, leaf = case()
    verdict = verifier(tmp_path, *bundle).verify(leaf.der)
    assert isinstance(verdict, Untrusted)
    assert reason in verdict.reason


def test_no_certificate_at_all(tmp_path: Path) -> None:
    verdict = verifier(tmp_path, authority("ca")).verify(b"nonsense")
    assert isinstance(verdict, Untrusted)
    assert "cannot be read" in verdict.reason


def test_a_remembered_certificate_still_expires(tmp_path: Path) -> None:
    ca = authority("ca")
    leaf = issue(name("alice"), ca, end=timedelta(days=1))
    file = ca.write(tmp_path, "ca")[0]
    start = leaf.certificate.not_valid_before_utc.timestamp()
    clock = [start + 1]
    checked = CertificateVerifier(file, lambda: clock[0])
    assert isinstance(checked.verify(leaf.der), Trusted)
    clock[0] += 2 * DAYS
    assert isinstance(checked.verify(leaf.der), Untrusted)
    clock[0] = start + 2
    assert isinstance(checked.verify(leaf.der), Trusted)


@pytest.fixture(scope="module")
def ca() -> Issued:
    return authority("ca")


@pytest.fixture
def authenticator(ca: Issued, tmp_path: Path) -> CertificateAuthenticator:
    return CertificateAuthenticator(ca.write(tmp_path, "ca")[0])


def test_subject_names_the_user(authenticator: CertificateAuthenticator, ca: Issued) -> None:
    leaf = issue(name("alice", ["b-group", "a-group"], ["17"]), ca, usages=[CLIENT])
    credential = f"X509SHA256={hashlib.sha256(leaf.der).hexdigest()}"
    extra = {"authentication.kubernetes.io/credential-id": (credential,)}
    subject_groups = tuple(str(a.value) for a in leaf.certificate.subject if a.oid.dotted_string == "2.5.4.10")
    assert authenticator.authenticate(leaf.der) == User("alice", "17", subject_groups, extra)
    assert set(subject_groups) == {"a-group", "b-group"}


def test_no_common_name_is_no_opinion(authenticator: CertificateAuthenticator, ca: Issued) -> None:
    assert authenticator.authenticate(issue(name(organizations=["g"]), ca).der) is None


def test_two_uids_are_an_error(authenticator: CertificateAuthenticator, ca: Issued) -> None:
    outcome = authenticator.authenticate(issue(name("alice", uids=["1", "2"]), ca).der)
    assert outcome == Untrusted("certificate has more than one uid attribute")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"", "no usable PEM certificates", id="empty"),
        pytest.param(b"hello", "no usable PEM certificates", id="text"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no usable", id="damaged"),
    ],
)
def test_bundle_errors_name_the_file(tmp_path: Path, content: bytes | None, problem: str) -> None:
    file = tmp_path / "bundle.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(TLSConfigError, match=rf"bundle\.pem.*{problem}"):
        load_bundle(file)


def bundled_with_path_length() -> tuple[list[Issued], Issued, list[Issued]]:
    root = issue(name("root"), ca=True, path_length=0)
    between = issue(name("intermediate"), root, ca=True)
    return [root], issue(name("x"), between, usages=[CLIENT]), [between]


def through(
    *, root: dict[str, object] | None = None, leaf: dict[str, object] | None = None, **between: object
) -> Callable[[], tuple[list[Issued], Issued, list[Issued]]]:
    """A leaf below an intermediate, which is sent along, below a root, which is the bundle."""

    def make() -> tuple[list[Issued], Issued, list[Issued]]:
        top = issue(name("root"), **{"ca": True, **(root or {})})  # type: ignore[arg-type]
        middle = issue(name("intermediate"), top, **{"ca": True, **between})  # type: ignore[arg-type]
        return [top], issue(name("x"), middle, **{"usages": [CLIENT], **(leaf or {})}), [middle]  # type: ignore[arg-type]

    return make


def through_two() -> tuple[list[Issued], Issued, list[Issued]]:
    root = authority("root")
    first = issue(name("first"), root, ca=True)
    second = issue(name("second"), first, ca=True)
    return [root], issue(name("x"), second, usages=[CLIENT]), [first, authority("stray"), second]


def not_sent() -> tuple[list[Issued], Issued, list[Issued]]:
    bundle, leaf, _ = through()()
    return bundle, leaf, [authority("stray")]


def too_many() -> tuple[list[Issued], Issued, list[Issued]]:
    bundle, leaf, between = through()()
    return bundle, leaf, [*between, *[authority("stray")] * 8]


PAST: dict[str, Any] = {"start": timedelta(days=-9), "end": timedelta(days=-1)}


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        pytest.param(through(), "", id="one intermediate"),
        pytest.param(through_two, "", id="two in disorder with a stray one"),
        pytest.param(through(root={"extensions": False}), "", id="root with basic constraints only"),
        pytest.param(through(usages=[CLIENT]), "", id="intermediate for clients"),
        pytest.param(not_sent, "unknown authority", id="intermediate not sent"),
        pytest.param(through(ca=False), "unknown authority", id="intermediate is no authority"),
        pytest.param(through(usages=[SERVER]), "unknown authority", id="intermediate for servers only"),
        pytest.param(through(**PAST), "unknown authority", id="intermediate expired"),
        pytest.param(through(root=PAST), "unknown authority", id="root expired"),
        pytest.param(through(leaf={"usages": [CLIENT], **PAST}), "unknown authority", id="leaf expired"),
        pytest.param(through(leaf={"usages": [SERVER]}), "incompatible key usage", id="leaf for servers only"),
        pytest.param(bundled_with_path_length, "unknown authority", id="path too long"),
        pytest.param(too_many, "too many", id="too many"),
    ],
)
def test_paths_through_certificates_that_the_client_sends(
    tmp_path: Path, case: Callable[[], tuple[list[Issued], Issued, list[Issued]]], reason: str
) -> None:
    bundle, leaf, sent = case()
    verdict = verifier(tmp_path, *bundle).verify(presented(leaf, *sent))
    assert isinstance(verdict, Untrusted if reason else Trusted), verdict
    assert reason in getattr(verdict, "reason", "")


def presented(leaf: Issued, *sent: Issued) -> PeerCertificate:
    certificate = PeerCertificate(leaf.der)
    certificate.intermediates = tuple(one.der for one in sent)
    return certificate


def test_an_intermediate_that_has_counted_is_remembered_for_resumed_sessions(tmp_path: Path) -> None:
    bundle, leaf, sent = through()()
    checked = verifier(tmp_path, *bundle)
    assert isinstance(checked.verify(leaf.der), Untrusted)
    assert isinstance(checked.verify(presented(leaf, *sent)), Trusted)
    another = issue(name("y"), sent[0], usages=[CLIENT])
    assert isinstance(checked.verify(another.der), Trusted)


def test_an_intermediate_that_counts_today_expires(tmp_path: Path) -> None:
    bundle, leaf, sent = through(end=timedelta(days=1))()
    clock = [leaf.certificate.not_valid_before_utc.timestamp() + 1]
    checked = CertificateVerifier(bundle[0].write(tmp_path, "ca")[0], lambda: clock[0])
    assert isinstance(checked.verify(presented(leaf, *sent)), Trusted)
    clock[0] += 2 * DAYS
    assert isinstance(checked.verify(presented(leaf, *sent)), Untrusted)


def critical() -> tuple[list[Issued], Issued]:
    ca = authority("ca")
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x")
    return [ca], issue(name("x"), ca, usages=[CLIENT], more=[unknown])


def constrained(host: str) -> Callable[[], tuple[list[Issued], Issued]]:
    def make() -> tuple[list[Issued], Issued]:
        limits = x509.NameConstraints([x509.DNSName("inside.example")], None)
        ca = issue(name("ca"), ca=True, more=[limits])
        return [ca], issue(name("x"), ca, usages=[CLIENT], hosts=[host])

    return make


def small_key() -> tuple[list[Issued], Issued]:
    ca = authority("ca")
    return [ca], issue(name("x"), ca, usages=[CLIENT], key=new_key("small"))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        pytest.param(critical, "unknown critical extension", id="unknown critical extension"),
        pytest.param(constrained("a.outside.example"), "unknown authority", id="outside the authority's names"),
        pytest.param(small_key, "weak key", id="1024 bits"),
    ],
)
def test_what_the_handshake_no_longer_checks(
    tmp_path: Path, case: Callable[[], tuple[list[Issued], Issued]], reason: str
) -> None:
    bundle, leaf = case()
    verdict = verifier(tmp_path, *bundle).verify(leaf.der)
    assert isinstance(verdict, Untrusted)
    assert reason in verdict.reason
