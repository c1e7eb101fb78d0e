"""Bearer tokens that an OpenID Connect provider has signed (JWT), with the rules of the originals."""

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
import orjson

from apimachinery.identity import User
from apiserver.auth.later import Later
from apiserver.auth.oidc_keys import ProviderKeys
from apiserver.auth.outcome import Accepted, AuthenticationFailed
from apiserver.auth.ttl_cache import TTLCache

_REMEMBERED: Final = 4096
_REMEMBERED_SECONDS: Final = 300.0
"""Keys that are withdrawn stop counting after this time at the latest, once they have been fetched again."""
_EARLY_SECONDS: Final = 300.0
"""How much earlier than `nbf` a token may come: clocks differ."""
_MAX_TOKEN_CHARACTERS: Final = 64 * 1024
NO_PREFIX: Final = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """Which tokens count, and what in them says who the user is."""

    issuer_url: str
    client_id: str
    """The audience."""
    username_claim: str = "sub"
    username_prefix: str = ""
    """Empty: `<issuer>#`, nothing for the claim `email`. `-`: nothing."""
    groups_claim: str = ""
    groups_prefix: str = ""
    required_claims: Mapping[str, str]
    signing_algs: Sequence[str] = ("RS256",)


class _Refused(Exception):
    """Why a token does not count."""


class OIDCAuthenticator:
    """Tokens of one provider; others are none of its business. `now` is in epoch seconds."""

    def __init__(self, rules: ClaimRules, keys: ProviderKeys, *, now: Callable[[], float] = time.time) -> None:
        self._rules = rules
        self._keys = keys
        self._now = now
        self._key = secrets.token_bytes(32)
        self._known: TTLCache[Accepted] = TTLCache(_REMEMBERED, now)

    def authenticate(self, token: str) -> Accepted | AuthenticationFailed | Later | None:
        if len(token) > _MAX_TOKEN_CHARACTERS or token.count(".") != 2:
            return None
        digest = hashlib.blake2b(token.encode(), key=self._key, digest_size=32).digest()
        known = self._known.get(digest)
        if known is not None:
            return known
        try:
            header = jwt.get_unverified_header(token)
            claims = _unverified_claims(token)
        except jwt.PyJWTError:
            return None
        if claims.get("iss") != self._rules.issuer_url:
            return None
        if header.get("alg") not in self._rules.signing_algs:
            return AuthenticationFailed("oidc: the token is signed in a way that is not accepted")
        keys = self._keys.find(str(header.get("kid") or ""))
        if isinstance(keys, Later):
            return keys
        try:
            claims = self._verified(token, keys)
            user = user_of(claims, self._rules)
        except _Refused as refusal:
            return AuthenticationFailed(f"oidc: {refusal}")
        accepted = Accepted(user, lambda: self._known.get(digest) is accepted)
        self._known.put(digest, accepted, min(_REMEMBERED_SECONDS, float(claims["exp"]) - self._now()))
        return accepted

    async def stop(self) -> None:
        await self._keys.stop()

    def _verified(self, token: str, keys: Sequence[jwt.PyJWK]) -> Mapping[str, Any]:
        """The claims of a token that is signed by one of the keys, meant for us, and valid now."""
        fault = "no key of the provider has this id"
        for key in keys:
            try:
                claims: Mapping[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=list(self._rules.signing_algs),
                    audience=self._rules.client_id,
                    issuer=self._rules.issuer_url,
                    # The times are looked at below, by our clock.
                    options={
                        "require": ["exp", "iss", "aud"],
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                    },
                )
            except (jwt.PyJWTError, TypeError, ValueError) as error:
                fault = str(error) or type(error).__name__
                continue
            self._check_times(claims)
            return claims
        raise _Refused(fault)

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._now()
        ends, begins = claims["exp"], claims.get("nbf", 0)
        for value in (ends, begins):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _Refused("a time in the token is not a number")
        if now >= ends:
            raise _Refused("the token has expired")
        if now < begins - _EARLY_SECONDS:
            raise _Refused("the token is not valid yet")


def _unverified_claims(token: str) -> Mapping[str, Any]:
    """What the token says of itself, only to find out whose it would be."""
    try:
        found = orjson.loads(jwt.utils.base64url_decode(token.split(".")[1]))
    except (ValueError, TypeError):
        raise jwt.DecodeError("not a JSON payload") from None
    if not isinstance(found, dict):
        raise jwt.DecodeError("not a JSON object")
    return found


def user_of(claims: Mapping[str, Any], rules: ClaimRules) -> User:
    """The user that verified claims describe; _Refused when a claim is missing or of the wrong kind."""
    name = claims.get(rules.username_claim)
    if not isinstance(name, str) or not name:
        raise _Refused(f"the token has no claim {rules.username_claim}")
    if rules.username_claim == "email" and claims.get("email_verified", True) is not True:
        raise _Refused("the email is not verified")
    for claim, wanted in rules.required_claims.items():
        if claims.get(claim) != wanted:
            raise _Refused(f"the required claim {claim} is missing or different")
    prefix = rules.username_prefix
    if not prefix:
        prefix = "" if rules.username_claim == "email" else f"{rules.issuer_url}#"
    elif prefix == NO_PREFIX:
        prefix = ""
    return User(prefix + name, groups=tuple(rules.groups_prefix + group for group in _groups(claims, rules)))


def _groups(claims: Mapping[str, Any], rules: ClaimRules) -> Sequence[str]:
    found = claims.get(rules.groups_claim) if rules.groups_claim else None
    if found is None:
        return ()
    if isinstance(found, str):
        return (found,)
    if isinstance(found, list) and all(isinstance(group, str) for group in found):
        return found
    raise _Refused(f"the claim {rules.groups_claim} is no list of strings")
