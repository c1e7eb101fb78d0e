"""Acting as somebody else: what headers ask for, what must be allowed for it, and who results (aggregator.md 8.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from apimachinery import names, status
from apimachinery.identity import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User, unescape_extra_key
from apimachinery.request_info import RequestInfo

USER_HEADER: Final = "impersonate-user"
GROUP_HEADER: Final = "impersonate-group"
UID_HEADER: Final = "impersonate-uid"
EXTRA_PREFIX: Final = "impersonate-extra-"
HEADER_PREFIX: Final = "impersonate-"
_AUTHENTICATION: Final = "authentication.k8s.io"
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"
_SERVICE_ACCOUNTS: Final = "system:serviceaccounts"


@dataclass(frozen=True, slots=True)
class Impersonation:
    """Whom a request wants to be made as."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read(headers: Sequence[tuple[str, str]]) -> Impersonation | None:
    """What the headers of a request ask for; None for nothing. Names must be lower-case.

    APIError 400 for anything without a user, and for headers of the family whose meaning is unknown: to ignore them
    would act with more rights than asked for.
    """
    user = uid = ""
    groups: list[str] = []
    extra: dict[str, tuple[str, ...]] = {}
    found = False
    for name, value in headers:
        if not name.replace("_", "-").startswith(HEADER_PREFIX):
            continue
        found = True
        if name == USER_HEADER:
            user = user or value
        elif name == GROUP_HEADER:
            groups.append(value)
        elif name == UID_HEADER:
            uid = uid or value
        elif name.startswith(EXTRA_PREFIX) and len(name) > len(EXTRA_PREFIX):
            key = unescape_extra_key(name[len(EXTRA_PREFIX) :])
            extra[key] = (*extra.get(key, ()), value)
        else:
            raise status.bad_request(f"unknown impersonation header {name}")
    if not found:
        return None
    if not user:
        raise status.bad_request("requested impersonation without impersonating a user")
    return Impersonation(user, uid, tuple(groups), extra)


def required(wanted: Impersonation) -> list[RequestInfo]:
    """The requests that must all be allowed: the verb `impersonate` on each piece, in the originals' order."""
    account = service_account(wanted.user)
    if account is not None:
        checks = [_check("", "serviceaccounts", account[1], namespace=account[0])]
    else:
        checks = [_check("", "users", wanted.user)]
    checks += [_check("", "groups", group) for group in wanted.groups]
    for key, values in wanted.extra.items():
        checks += [_check(_AUTHENTICATION, "userextras", value, subresource=key) for value in values]
    if wanted.uid:
        checks.append(_check(_AUTHENTICATION, "uids", wanted.uid))
    return checks


def _check(group: str, resource: str, name: str, *, namespace: str = "", subresource: str = "") -> RequestInfo:
    return RequestInfo(
        verb="impersonate",
        path="",
        is_resource=True,
        group=group,
        version="v1",
        namespace=namespace,
        resource=resource,
        name=name,
        subresource=subresource,
    )


def service_account(user: str) -> tuple[str, str] | None:
    """Namespace and name, when a user name is that of a service account."""
    namespace, _, name = user.removeprefix(_SERVICE_ACCOUNT).partition(":")
    if not user.startswith(_SERVICE_ACCOUNT) or ":" in name:
        return None
    if names.validate_dns1123_label(namespace) or names.validate_dns1123_subdomain(name):
        return None
    return namespace, name


def impersonated(wanted: Impersonation) -> User:
    """The user that the request is then made as, with the groups that such a user has anyway."""
    groups = wanted.groups
    account = service_account(wanted.user)
    if account is not None and not groups:
        groups = (_SERVICE_ACCOUNTS, f"{_SERVICE_ACCOUNTS}:{account[0]}")
    if wanted.user == ANONYMOUS:
        if UNAUTHENTICATED not in groups:
            groups = (*groups, UNAUTHENTICATED)
    elif AUTHENTICATED not in groups and UNAUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return User(wanted.user, wanted.uid, groups, wanted.extra)
