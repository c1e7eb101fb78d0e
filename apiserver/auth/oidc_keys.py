"""The signing keys of an OpenID Connect provider: fetched when somebody needs them, kept, and fetched again in time."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import orjson

from apiserver import http1, logs
from apiserver.auth.later import Later, Questions

REFRESH_SECONDS: Final = 600.0
"""Age at which known keys are fetched again, while they go on counting."""
RETRY_SECONDS: Final = 10.0
"""Least time between two fetches, so that tokens with invented key ids cannot make us knock without end."""
_FETCH_SECONDS: Final = 10.0
_MAX_DOCUMENT_BYTES: Final = 1024 * 1024

log = logs.get("auth.oidc")

Fetch = Callable[[str], Awaitable[bytes]]
"""GET of a URL. ProviderError."""


class ProviderError(Exception):
    """The provider cannot be asked, or says nothing usable."""


class ProviderKeys:
    """Keys by their id. `now` is in seconds."""

    def __init__(self, issuer_url: str, fetch: Fetch, *, now: Callable[[], float] = time.monotonic) -> None:
        self._issuer_url = issuer_url
        self._fetch = fetch
        self._now = now
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._questions = Questions("oidc keys")

    def find(self, key_id: str) -> list[jwt.PyJWK] | Later:
        """The keys that may have signed: the one of this id, all for an empty id, none when there is no such key."""
        now = self._now()
        found = [self._keys[key_id]] if key_id in self._keys else [] if key_id else list(self._keys.values())
        if found:
            if now - self._fetched_at > REFRESH_SECONDS and now - self._tried_at > RETRY_SECONDS:
                self._questions.ask("keys", self._refresh)
            return found
        if now - self._tried_at <= RETRY_SECONDS:
            return []
        return self._questions.ask("keys", self._refresh)

    async def stop(self) -> None:
        await self._questions.stop()

    async def _refresh(self) -> None:
        try:
            self._keys = await self._load()
            self._fetched_at = self._now()
            log.info("keys fetched", issuer=self._issuer_url, count=len(self._keys))
        except ProviderError as error:
            log.warning("keys not fetched", issuer=self._issuer_url, error=str(error))
        finally:
            self._tried_at = self._now()

    async def _load(self) -> Mapping[str, jwt.PyJWK]:
        about = _document(await self._fetch(self._issuer_url.rstrip("/") + "/.well-known/openid-configuration"))
        if about.get("issuer") != self._issuer_url:
            raise ProviderError(f"the provider calls itself {about.get('issuer')!r}")
        place = about.get("jwks_uri")
        if not isinstance(place, str) or urlsplit(place).scheme != "https":
            raise ProviderError("the provider names no https address of its keys")
        return read_keys(_document(await self._fetch(place)))


def read_keys(document: Mapping[str, Any]) -> Mapping[str, jwt.PyJWK]:
    """The signature keys of a key set; those of unknown kinds are passed over. ProviderError when it is no key set."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ProviderError("the key set has no keys")
    found: dict[str, jwt.PyJWK] = {}
    for number, item in enumerate(listed):
        # Symmetric keys have no place in a public key set.
        if not isinstance(item, dict) or item.get("use", "sig") != "sig" or item.get("kty") not in ("RSA", "EC"):
            continue
        try:
            key = jwt.PyJWK.from_dict(item)
        except (jwt.PyJWTError, ValueError, KeyError, TypeError):
            continue
        # Without an id a key can only be meant by tokens without one.
        found[str(item.get("kid") or f"\0{number}")] = key
    return found


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ProviderError("the answer is not JSON") from None
    if not isinstance(found, dict):
        raise ProviderError("the answer is not a JSON object")
    return found


def https_fetch(context: ssl.SSLContext) -> Fetch:
    """Fetches with verification by `context`; redirects are not followed."""

    async def fetch(url: str) -> bytes:
        parts = urlsplit(url)
        target = http1.Target(host=parts.hostname or "", port=parts.port or 443, ssl=context)
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                answer = await http1.request(
                    target, "GET", path, (), timeout=_FETCH_SECONDS, max_body=_MAX_DOCUMENT_BYTES
                )
        except (http1.HTTPClientError, TimeoutError) as error:
            raise ProviderError(f"{target}: {error}") from None
        if answer.status != 200:
            raise ProviderError(f"{target} answered {path} with status {answer.status}")
        return answer.body

    return fetch
