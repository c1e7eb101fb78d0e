"""Bearer tokens that another server judges (TokenReview)."""

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any

from apimachinery.identity import User
from apimachinery.types import Object
from apiserver import logs
from apiserver.auth import webhook
from apiserver.auth.later import Later, Questions
from apiserver.auth.outcome import Accepted, AuthenticationFailed
from apiserver.auth.remote_config import RemoteConfig
from apiserver.auth.ttl_cache import TTLCache

_REMEMBERED = 4096
_Outcome = Accepted | AuthenticationFailed

log = logs.get("auth.webhook")


class TokenWebhook:
    """Answers from its cache, or asks. Tokens are kept as keyed digests only; `now` is in seconds."""

    def __init__(
        self, config: RemoteConfig, *, cache_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._cache_seconds = cache_seconds
        self._key = secrets.token_bytes(32)
        self._known: TTLCache[_Outcome] = TTLCache(_REMEMBERED, now)
        self._questions = Questions("token review")

    def authenticate(self, token: str) -> _Outcome | Later:
        digest = hashlib.blake2b(token.encode(), key=self._key, digest_size=32).digest()
        found = self._known.get(digest)
        return found if found is not None else self._questions.ask(digest, lambda: self._ask(digest, token))

    async def stop(self) -> None:
        await self._questions.stop()

    async def _ask(self, digest: bytes, token: str) -> None:
        question: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": {},
            "spec": {"token": token},
        }
        try:
            outcome = self._outcome(digest, user_of(await webhook.review(self._config, question)))
            seconds = self._cache_seconds
        except webhook.WebhookError as error:
            log.warning("token review failed", error=str(error))
            outcome, seconds = AuthenticationFailed(f"token webhook: {error}"), 0.0
        # Those who wait find the answer even where nothing is to be remembered.
        self._known.put(digest, outcome, max(seconds, webhook.FAILURE_SECONDS))

    def _outcome(self, digest: bytes, user: User | AuthenticationFailed) -> _Outcome:
        if isinstance(user, AuthenticationFailed):
            return user
        accepted = Accepted(user, lambda: self._known.get(digest) is accepted)
        return accepted


def user_of(status: Object) -> User | AuthenticationFailed:
    """What the status of a TokenReview says. WebhookError when it says nothing usable."""
    if status.get("authenticated") is not True:
        return AuthenticationFailed(f"token webhook: {status.get('error') or 'not authenticated'}")
    user: Any = status.get("user")
    name = user.get("username") if isinstance(user, dict) else None
    if not isinstance(name, str) or not name:
        raise webhook.WebhookError("the answer names no user")
    extra = user.get("extra")
    attributes = extra.items() if isinstance(extra, dict) else ()
    return User(
        name,
        str(user.get("uid") or ""),
        webhook.texts(user.get("groups")),
        {str(key).lower(): webhook.texts(values) for key, values in attributes},
    )
