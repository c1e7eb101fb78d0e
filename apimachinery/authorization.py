"""Who may do what when no policy engine is asked, and how a refusal reads (aggregator.md 8.4)."""

from dataclasses import dataclass

from apimachinery import status
from apimachinery.field_errors import quote
from apimachinery.gvk import GroupResource
from apimachinery.identity import MASTERS, User
from apimachinery.request_info import RequestInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The requests that are always allowed."""

    privileged_groups: tuple[str, ...] = (MASTERS,)
    """Members may do everything."""
    always_allow_paths: tuple[str, ...] = ("/healthz", "/livez", "/readyz")
    """Paths anybody may use, unless they name an API resource. A `*` at the end makes a prefix of the rest."""


def _path_allowed(policy: Policy, path: str) -> bool:
    for pattern in policy.always_allow_paths:
        if path == pattern or (pattern.endswith("*") and path.startswith(pattern[:-1])):
            return True
    return False


def allowed(policy: Policy, user: User, info: RequestInfo) -> bool:
    """Whether the policy lets a user make a request."""
    if not set(policy.privileged_groups).isdisjoint(user.groups):
        return True
    return not info.is_resource and _path_allowed(policy, info.path)


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
