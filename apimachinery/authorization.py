"""Who may do what, how authorizers are put together, and how a refusal reads (aggregator.md 8.4)."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from apimachinery import status
from apimachinery.field_errors import quote
from apimachinery.gvk import GroupResource
from apimachinery.identity import ANONYMOUS, MASTERS, UNAUTHENTICATED, User
from apimachinery.request_info import RequestInfo

ANONYMOUS_USER: Final = User(ANONYMOUS, groups=(UNAUTHENTICATED,))
"""Who makes a request without credentials, where such requests are let in."""
HEALTH_PATHS: Final = ("/healthz", "/livez", "/readyz")
EVERY_PATH: Final = "*"


class Verdict(enum.Enum):
    ALLOW = "allow"
    DENY = "deny"
    """Refused, whatever an authorizer asked later would say."""
    NO_OPINION = "no opinion"


@dataclass(frozen=True, slots=True)
class Decision:
    """What an authorizer says about one request."""

    verdict: Verdict
    reason: str = ""
    """For whoever made the request."""
    error: str = ""
    """Why a part of the answer is missing; with no other authorizer's ALLOW the request fails with it."""
    lasting: bool = True
    """Stays true until the authorizer reports a change; otherwise it must be asked for anew each time."""

    @property
    def allowed(self) -> bool:
        return self.verdict is Verdict.ALLOW


ALLOWED: Final = Decision(Verdict.ALLOW)
NO_OPINION: Final = Decision(Verdict.NO_OPINION)


class Undecided(Protocol):
    """The answer is being fetched from another server: ask the same question again once it is there."""

    def when_known(self, callback: Callable[[], None]) -> None:
        """Call back exactly once, never from within this call. There may then be another thing to wait for."""


class Authorizer(Protocol):
    """Decides in memory; what is not known there comes later."""

    @property
    def privileged_groups(self) -> Sequence[str]:
        """Members may do everything, without being asked about."""

    def authorize(self, user: User, info: RequestInfo) -> Decision | Undecided: ...

    def anonymous_on(self, path: str) -> bool:
        """Whether a request without credentials counts as one of `ANONYMOUS_USER`; 401 otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The requests that are always allowed: an authorizer on its own, and the first part of larger ones."""

    privileged_groups: tuple[str, ...] = (MASTERS,)
    always_allow_paths: tuple[str, ...] = HEALTH_PATHS
    """Paths anybody may use, unless they name an API resource. A `*` at the end makes a prefix of the rest."""
    anonymous_paths: tuple[str, ...] = HEALTH_PATHS
    """Exact paths that need no credentials to be asked for, which is not to say allowed. `*`: every path."""

    def authorize(self, user: User, info: RequestInfo) -> Decision:
        return ALLOWED if allowed(self, user, info) else NO_OPINION

    def anonymous_on(self, path: str) -> bool:
        return path in self.anonymous_paths or EVERY_PATH in self.anonymous_paths


class AlwaysAllow:
    """For a server that only a front door can reach, which has authorized each request already."""

    privileged_groups: tuple[str, ...] = ()

    def authorize(self, user: User, info: RequestInfo) -> Decision:
        return ALLOWED

    def anonymous_on(self, path: str) -> bool:
        return True


def _path_allowed(policy: Policy, path: str) -> bool:
    for pattern in policy.always_allow_paths:
        if path == pattern or (pattern.endswith("*") and path.startswith(pattern[:-1])):
            return True
    return False


def allowed(policy: Policy, user: User, info: RequestInfo) -> bool:
    """Whether the policy lets a user make a request."""
    if privileged(policy, user):
        return True
    return not info.is_resource and _path_allowed(policy, info.path)


def privileged(authorizer: Authorizer, user: User) -> bool:
    """Whether the user is in a group that may do everything."""
    return not set(authorizer.privileged_groups).isdisjoint(user.groups)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _refusal(user: User, info: RequestInfo) -> str:
    subject = f"User {quote(user.name)} cannot {info.verb}"
    if not info.is_resource:
        return f"{subject} path {quote(info.path)}"
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    scope = f"in the namespace {quote(info.namespace)}" if info.namespace else "at the cluster scope"
    return f"{subject} resource {quote(resource)} in API group {quote(info.group)} {scope}"


def forbidden(user: User, info: RequestInfo, reason: str = "") -> status.APIError:
    """403 in the words clients know; the caller adds the header `X-Content-Type-Options: nosniff`.

    What the client itself sent is HTML-escaped in it, `reason` (the authorizer's) is not.
    """
    message = _escape(_refusal(user, info))
    if reason:
        message = f"{message}: {reason}"
    if not info.is_resource:
        return status.forbidden_path(message)
    return status.forbidden(GroupResource(info.group, info.resource), info.name, message)


def refused(user: User, info: RequestInfo, decision: Decision) -> status.APIError:
    """The error of a request that was not allowed: 500 when an authorizer failed, else 403 (aggregator.md 8.4)."""
    if decision.error and decision.verdict is not Verdict.DENY:
        return status.internal_error(decision.error)
    return forbidden(user, info, decision.reason)
