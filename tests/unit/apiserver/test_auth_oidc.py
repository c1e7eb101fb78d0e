"""Tokens of an OpenID Connect provider."""

import asyncio
import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from apimachinery.identity import User
from apiserver.auth import oidc_keys
from apiserver.auth.later import Later, settled
from apiserver.auth.oidc import ClaimRules, OIDCAuthenticator
from apiserver.auth.oidc_keys import ProviderError, ProviderKeys, https_fetch, read_keys
from apiserver.auth.outcome import Accepted, AuthenticationFailed
from tests.unit.aggregator.proxy_kit import PKI

ISSUER = "https://id.example.com/realm"
NOW = 1_000_000.0
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def _jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str = "", **more: str) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        found = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        found = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**found, **({"kid": kid} if kid else {}), **more}


class Provider:
    """Serves its documents from memory."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.issuer = ISSUER
        self.jwks_uri = "https://id.example.com/keys"
        self.fetched: list[str] = []
        self.down = False

    async def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        if self.down:
            raise ProviderError("down")
        if url == f"{ISSUER}/.well-known/openid-configuration":
            return json.dumps({"issuer": self.issuer, "jwks_uri": self.jwks_uri}).encode()
        return json.dumps({"keys": self.keys}).encode()


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def _rules(**more: Any) -> ClaimRules:
    return ClaimRules(**{"issuer_url": ISSUER, "client_id": "us", "required_claims": {}, **more})


class World:
    def __init__(self, *keys: dict[str, Any], **rules: Any) -> None:
        self.clock = Clock()
        self.provider = Provider(*keys)
        self.keys = ProviderKeys(ISSUER, self.provider.fetch, now=self.clock)
        self.subject = OIDCAuthenticator(_rules(**rules), self.keys, now=self.clock)

    async def ask(self, token: str) -> User | AuthenticationFailed | None:
        while isinstance(outcome := self.subject.authenticate(token), Later):
            await settled(outcome)
        return outcome.user if isinstance(outcome, Accepted) else outcome


CLAIMS = {"iss": ISSUER, "aud": "us", "sub": "ann", "exp": NOW + 600}


def _token(claims: Mapping[str, Any] | None = None, key: Any = KEY, alg: str = "RS256", kid: str | None = "k1") -> str:
    return jwt.encode({**CLAIMS, **(claims or {})}, key, algorithm=alg, headers={"kid": kid} if kid else None)


@pytest.mark.parametrize(
    ("rules", "claims", "user"),
    [
        ({}, {}, User(f"{ISSUER}#ann")),
        ({"username_prefix": "-"}, {}, User("ann")),
        ({"username_prefix": "oidc:"}, {}, User("oidc:ann")),
        ({"username_claim": "email"}, {"email": "a@b"}, User("a@b")),
        ({"username_claim": "email"}, {"email": "a@b", "email_verified": True}, User("a@b")),
        ({"username_claim": "name"}, {"name": "x"}, User(f"{ISSUER}#x")),
        ({"groups_claim": "g", "groups_prefix": "p:"}, {"g": ["a", "b"]}, User(f"{ISSUER}#ann", groups=("p:a", "p:b"))),
        ({"groups_claim": "g"}, {"g": "a"}, User(f"{ISSUER}#ann", groups=("a",))),
        ({"groups_claim": "g"}, {}, User(f"{ISSUER}#ann")),
        ({}, {"groups": ["system:masters"]}, User(f"{ISSUER}#ann")),
        ({"required_claims": {"hd": "x"}}, {"hd": "x"}, User(f"{ISSUER}#ann")),
        ({}, {"aud": ["other", "us"]}, User(f"{ISSUER}#ann")),
        ({}, {"nbf": NOW + 299}, User(f"{ISSUER}#ann")),
    ],
)
async def test_claims_say_who_it_is(rules: dict[str, Any], claims: dict[str, Any], user: User) -> None:
    assert await World(_jwk(KEY, "k1"), **rules).ask(_token(claims)) == user


@pytest.mark.parametrize(
    ("rules", "claims", "reason"),
    [
        ({}, {"aud": "other"}, "Audience doesn't match"),
        ({}, {"exp": NOW}, "the token has expired"),
        ({}, {"exp": NOW - 1}, "the token has expired"),
        ({}, {"exp": "soon"}, "a time in the token is not a number"),
        ({}, {"exp": True}, "a time in the token is not a number"),
        ({}, {"nbf": NOW + 301}, "the token is not valid yet"),
        ({}, {"sub": ""}, "the token has no claim sub"),
        ({"username_claim": "email"}, {"email": "a@b", "email_verified": False}, "the email is not verified"),
        ({"username_claim": "email"}, {"email": "a@b", "email_verified": "true"}, "the email is not verified"),
        ({"username_claim": "n"}, {"n": 7}, "the token has no claim n"),
        ({"groups_claim": "g"}, {"g": [1]}, "the claim g is no list of strings"),
        ({"required_claims": {"hd": "x"}}, {}, "the required claim hd is missing or different"),
        ({"required_claims": {"hd": "x"}}, {"hd": "y"}, "the required claim hd is missing or different"),
    ],
)
async def test_claims_that_do_not_count(rules: dict[str, Any], claims: dict[str, Any], reason: str) -> None:
    assert await World(_jwk(KEY, "k1"), **rules).ask(_token(claims)) == AuthenticationFailed(f"oidc: {reason}")


@pytest.mark.parametrize("missing", ["exp", "aud"])
async def test_claims_that_must_be_there(missing: str) -> None:
    claims = {name: value for name, value in CLAIMS.items() if name != missing}
    token = jwt.encode(claims, KEY, algorithm="RS256", headers={"kid": "k1"})
    assert isinstance(await World(_jwk(KEY, "k1")).ask(token), AuthenticationFailed)


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _forged(header: Mapping[str, Any], secret: bytes = b"") -> str:
    """A token without a signature, or signed symmetrically with a secret."""
    signed = f"{_segment(json.dumps(header).encode())}.{_segment(json.dumps(CLAIMS).encode())}"
    signature = hmac.digest(secret, signed.encode(), "sha256") if secret else b""
    return f"{signed}.{_segment(signature)}"


PUBLIC_PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(_token(key=OTHER), id="signed by another key"),
        pytest.param(_token(kid="other"), id="unknown key id"),
        pytest.param(_token(alg="RS384"), id="algorithm not accepted"),
        pytest.param(_token(key=CURVE, alg="ES256"), id="kind of key not accepted"),
        pytest.param(_forged({"alg": "none", "kid": "k1"}), id="not signed"),
        pytest.param(_forged({"alg": "RS256", "kid": "k1"}), id="empty signature"),
        pytest.param(_forged({"kid": "k1"}), id="no algorithm"),
        pytest.param(_forged({"alg": "HS256", "kid": "k1"}, PUBLIC_PEM), id="public key as secret"),
        pytest.param(_token()[:-6] + "AAAAAA", id="broken signature"),
    ],
)
async def test_signatures_that_do_not_count(token: str) -> None:
    assert isinstance(await World(_jwk(KEY, "k1")).ask(token), AuthenticationFailed)


@pytest.mark.parametrize(
    "token", ["abc", "a.b", "a.b.c", "a.b.c.d", "..", _token({"iss": "https://other"}), "a" * 70000 + ".b.c"]
)
async def test_what_is_no_token_of_the_provider_is_left_to_others(token: str) -> None:
    world = World(_jwk(KEY, "k1"))
    assert world.subject.authenticate(token) is None
    assert world.provider.fetched == []


async def test_other_algorithms_and_tokens_without_key_id() -> None:
    world = World(_jwk(KEY, "k1"), _jwk(CURVE), signing_algs=("RS256", "ES256"))
    assert await world.ask(_token(key=CURVE, alg="ES256", kid=None)) == User(f"{ISSUER}#ann")
    assert await world.ask(_token(kid=None)) == User(f"{ISSUER}#ann")


async def test_keys_are_fetched_once_and_verdicts_remembered_while_they_count() -> None:
    world = World(_jwk(KEY, "k1"))
    token = _token()
    first, second = world.subject.authenticate(token), world.subject.authenticate(_token({"sub": "bob"}))
    assert isinstance(first, Later)
    assert first is second
    await settled(first)
    accepted = world.subject.authenticate(token)
    assert isinstance(accepted, Accepted)
    assert accepted is world.subject.authenticate(token)
    assert (accepted.user, accepted.counts()) == (User(f"{ISSUER}#ann"), True)
    assert len(world.provider.fetched) == 2
    world.clock.now += 299
    assert accepted.counts()
    world.clock.now += 1
    assert not accepted.counts()
    again = world.subject.authenticate(token)
    assert isinstance(again, Accepted)
    assert not accepted.counts()
    world.clock.now += 299.5
    assert again.counts()
    world.clock.now += 0.5
    assert not again.counts()
    assert world.subject.authenticate(token) == AuthenticationFailed("oidc: the token has expired")
    await world.subject.stop()


async def test_rotation_of_keys() -> None:
    world = World(_jwk(KEY, "k1"))
    assert isinstance(await world.ask(_token({"exp": NOW + 9999})), User)
    world.provider.keys = [_jwk(OTHER, "k2")]
    assert isinstance(await world.ask(_token(key=OTHER, kid="k2")), AuthenticationFailed), "asked a moment ago"
    world.clock.now += oidc_keys.RETRY_SECONDS + 1
    assert isinstance(await world.ask(_token(key=OTHER, kid="k2")), User)
    world.clock.now += 400
    assert isinstance(await world.ask(_token({"exp": NOW + 9999})), AuthenticationFailed), "the key is gone"


async def test_old_keys_count_while_they_are_fetched_anew() -> None:
    world = World(_jwk(KEY, "k1"))
    long = {"exp": NOW + 9999}
    assert isinstance(await world.ask(_token(long)), User)
    world.clock.now += oidc_keys.REFRESH_SECONDS + 1
    assert isinstance(world.subject.authenticate(_token({**long, "n": 1})), Accepted)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(world.provider.fetched) == 4
    await world.subject.stop()


async def test_a_provider_that_is_down_is_not_asked_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World(_jwk(KEY, "k1"))
    world.provider.down = True
    for _ in range(3):
        assert isinstance(await world.ask(_token()), AuthenticationFailed)
    assert len(world.provider.fetched) == 1
    assert "keys not fetched" in caplog.text
    world.provider.down = False
    world.clock.now += oidc_keys.RETRY_SECONDS + 1
    assert isinstance(await world.ask(_token()), User)


@pytest.mark.parametrize(("field", "value"), [("issuer", "https://other"), ("jwks_uri", "http://x"), ("jwks_uri", 7)])
async def test_a_provider_that_says_odd_things_of_itself(field: str, value: Any) -> None:
    world = World(_jwk(KEY, "k1"))
    setattr(world.provider, field, value)
    assert isinstance(await world.ask(_token()), AuthenticationFailed)


def test_only_public_signature_keys_are_taken() -> None:
    secret = {"kty": "oct", "kid": "s", "k": "c2VjcmV0"}
    listed = [secret, _jwk(KEY, "e", use="enc"), {"kty": "RSA", "kid": "broken"}, 7, _jwk(KEY, "k1", use="sig")]
    assert set(read_keys({"keys": listed})) == {"k1"}
    with pytest.raises(ProviderError):
        read_keys({"keys": {}})


async def test_documents_are_fetched_with_verification(tmp_path_factory: pytest.TempPathFactory) -> None:
    pki = PKI.make(tmp_path_factory.mktemp("pki"))
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        line = b"404 Not Found" if b"missing" in head else b"200 OK"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}" % line)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=pki.server_context("proxy"))
    port = server.sockets[0].getsockname()[1]
    fetch = https_fetch(pki.client_context(None))
    assert await fetch(f"https://localhost:{port}/a?b=c") == b"{}"
    assert heads[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")
    with pytest.raises(ProviderError, match="answered /missing with status 404"):
        await fetch(f"https://localhost:{port}/missing")
    with pytest.raises(ProviderError, match="certificate verify failed"):
        await fetch(f"https://127.0.0.1:{port}/a")
    server.close()
