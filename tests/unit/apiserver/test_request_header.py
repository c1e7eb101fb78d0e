from collections.abc import Sequence
from pathlib import Path

import pytest

from apimachinery.identity import RequestHeaderNames, User
from apiserver.auth.request_header import AuthenticationFailed, Authenticator, RequestHeaderAuthenticator
from apiserver.auth.x509 import CertificateAuthenticator
from tests.unit.apiserver.certificates import CLIENT, Issued, authority, issue, name

Headers = Sequence[tuple[str, str]]

CLAIM = [("x-remote-user", "bob"), ("x-remote-group", "g1"), ("x-remote-group", "g2"), ("x-remote-extra-a%2fb", "v")]


class World:
    """A front-proxy CA and a client CA, and certificates under one, the other, both or none."""

    def __init__(self, directory: Path) -> None:
        front, client = authority("front-ca"), authority("client-ca")
        self.front_file = front.write(directory, "front")[0]
        self.client_file = client.write(directory, "client")[0]
        self.both_file = directory / "both.crt"
        self.both_file.write_bytes(front.pem + client.pem)
        self.peers: dict[str, Issued] = {
            "proxy": issue(name("proxy"), front, usages=[CLIENT]),
            "other proxy": issue(name("other"), front, usages=[CLIENT]),
            "alice": issue(name("alice", ["developers"]), client, usages=[CLIENT]),
            "nameless": issue(name(organizations=["g"]), client, usages=[CLIENT]),
            "unauthenticated": issue(name("eve", ["system:unauthenticated"]), client, usages=[CLIENT]),
            "stranger": issue(name("alice"), authority("stranger-ca"), usages=[CLIENT]),
        }

    def authenticator(self, *, client_ca: Path | None = None, names: RequestHeaderNames | None = None) -> Authenticator:
        front = RequestHeaderAuthenticator(self.front_file, allowed_names=["proxy"], names=names)
        return Authenticator(request_header=front, certificates=CertificateAuthenticator(client_ca or self.client_file))

    def der(self, peer: str) -> bytes | None:
        return self.peers[peer].der if peer else None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def told(outcome: User | AuthenticationFailed | None) -> tuple[str, tuple[str, ...]] | str | None:
    if isinstance(outcome, AuthenticationFailed):
        return "failed"
    return (outcome.name, outcome.groups) if outcome is not None else None


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        pytest.param("", CLAIM, None, id="claims without a certificate count for nothing"),
        pytest.param("proxy", CLAIM, ("bob", ("g1", "g2", "system:authenticated")), id="proxy speaks for bob"),
        pytest.param("proxy", [], "failed", id="proxy names nobody and is no client"),
        pytest.param("proxy", [("x-remote-user", "")], "failed", id="proxy names an empty user"),
        pytest.param("other proxy", CLAIM, "failed", id="proxy not in the allowed list"),
        pytest.param("alice", CLAIM, ("alice", ("developers", "system:authenticated")), id="client cannot claim"),
        pytest.param("stranger", CLAIM, "failed", id="stranger"),
        pytest.param("nameless", [], "failed", id="client without a name, no proxy"),
        pytest.param("unauthenticated", [], ("eve", ("system:unauthenticated",)), id="standard group is kept"),
        pytest.param(
            "proxy",
            [("x-remote-user", "system:anonymous"), ("x-remote-group", "system:unauthenticated")],
            ("system:anonymous", ("system:unauthenticated",)),
            id="anonymous through the proxy stays so",
        ),
        pytest.param(
            "proxy",
            [("x-remote-user", "bob"), ("x-remote-group", "system:authenticated")],
            ("bob", ("system:authenticated",)),
            id="standard group is not doubled",
        ),
    ],
)
def test_order(world: World, peer: str, headers: Headers, expected: object) -> None:
    assert told(world.authenticator().authenticate(world.der(peer), headers)) == expected


def test_extra_keys_are_decoded(world: World) -> None:
    user = world.authenticator().authenticate(world.der("proxy"), CLAIM)
    assert isinstance(user, User)
    assert user.extra == {"a/b": ("v",)}


def test_proxy_that_is_also_a_client_is_itself_without_claims(world: World) -> None:
    authenticator = world.authenticator(client_ca=world.both_file)
    assert told(authenticator.authenticate(world.der("proxy"), [])) == ("proxy", ("system:authenticated",))
    assert told(authenticator.authenticate(world.der("proxy"), CLAIM)) == (
        "bob",
        ("g1", "g2", "system:authenticated"),
    )


def test_trusted_proxy_without_claims_is_no_credential_when_there_is_no_client_ca(world: World) -> None:
    alone = Authenticator(request_header=RequestHeaderAuthenticator(world.front_file))
    assert alone.authenticate(world.der("proxy"), []) is None
    assert told(alone.authenticate(world.der("alice"), [])) == "failed"
    assert told(alone.authenticate(world.der("other proxy"), CLAIM)) == ("bob", ("g1", "g2", "system:authenticated"))


def test_failure_tells_the_log_both_reasons(world: World) -> None:
    outcome = world.authenticator().authenticate(world.der("other proxy"), CLAIM)
    assert isinstance(outcome, AuthenticationFailed)
    assert "x509: subject with cn=other is not in the allowed list" in outcome.reason
    assert "client certificate: certificate signed by unknown authority" in outcome.reason


def test_header_names_are_a_setting(world: World) -> None:
    names = RequestHeaderNames(username=("x-first", "X-Second"), group=("x-g",), extra_prefix=())
    authenticator = world.authenticator(names=names)
    outcome = authenticator.authenticate(world.der("proxy"), [("x-second", "bob"), ("x-g", "a"), *CLAIM])
    assert told(outcome) == ("bob", ("a", "system:authenticated"))


@pytest.mark.parametrize(("peer", "reads"), [("", False), ("proxy", True), ("other proxy", False), ("alice", False)])
def test_only_proxies_are_judged_by_headers(world: World, peer: str, reads: bool) -> None:
    assert world.authenticator().reads_headers(world.der(peer)) is reads
