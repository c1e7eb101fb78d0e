"""Requests that another server allows or refuses (SubjectAccessReview)."""

import time
from collections.abc import Callable
from typing import Any

from apimachinery.authorization import Decision, Verdict
from apimachinery.identity import User
from apimachinery.request_info import RequestInfo
from apimachinery.types import Object
from apiserver import logs
from apiserver.auth import webhook
from apiserver.auth.later import Later, Questions
from apiserver.auth.remote_config import RemoteConfig
from apiserver.auth.ttl_cache import TTLCache

_REMEMBERED = 8192

log = logs.get("auth.webhook")


class AccessWebhook:
    """Answers from its caches, or asks; times are in seconds."""

    def __init__(
        self,
        config: RemoteConfig,
        *,
        authorized_seconds: float,
        unauthorized_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._authorized = authorized_seconds
        self._unauthorized = unauthorized_seconds
        self._known: TTLCache[Decision] = TTLCache(_REMEMBERED, now)
        self._questions = Questions("subject access review")

    def authorize(self, user: User, info: RequestInfo) -> Decision | Later:
        key = (user.name, user.uid, user.groups, tuple(user.extra.items()), info)
        found = self._known.get(key)
        return found if found is not None else self._questions.ask(key, lambda: self._ask(key, user, info))

    async def stop(self) -> None:
        await self._questions.stop()

    async def _ask(self, key: Any, user: User, info: RequestInfo) -> None:
        try:
            decision = decision_of(await webhook.review(self._config, question(user, info)))
            seconds = self._authorized if decision.allowed else self._unauthorized
        except webhook.WebhookError as error:
            log.warning("access review failed", error=str(error))
            decision = Decision(Verdict.NO_OPINION, error=f"access webhook: {error}", lasting=False)
            seconds = 0.0
        self._known.put(key, decision, max(seconds, webhook.FAILURE_SECONDS))


def question(user: User, info: RequestInfo) -> Object:
    """The review that asks about a request."""
    spec: Object = {"user": user.name}
    if user.uid:
        spec["uid"] = user.uid
    if user.groups:
        spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}
    if info.is_resource:
        names = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
        spec["resourceAttributes"] = {name: value for name in names if (value := getattr(info, name))}
    else:
        spec["nonResourceAttributes"] = {"path": info.path, "verb": info.verb}
    head = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}}
    return {**head, "spec": spec}


def decision_of(status: Object) -> Decision:
    """What the status of a SubjectAccessReview says. WebhookError when it contradicts itself."""
    allowed, denied = status.get("allowed") is True, status.get("denied") is True
    if allowed and denied:
        raise webhook.WebhookError("the answer both allows and denies")
    reason = status.get("reason")
    text = reason if isinstance(reason, str) else ""
    if allowed:
        return Decision(Verdict.ALLOW, text, lasting=False)
    return Decision(Verdict.DENY if denied else Verdict.NO_OPINION, text, lasting=False)
