"""The decision about a request: who asks, may they, and where does it go. A plain function on in-memory snapshots."""

from dataclasses import dataclass
from typing import NamedTuple

import orjson

from aggregator.proxy.headers import identity_lines
from aggregator.proxy.routes import Route, RouteTable, names_group_version
from aggregator.proxy.target import BadTarget, Target, read_target
from apimachinery import authorization, status
from apimachinery.authorization import Policy
from apimachinery.gvk import GroupResource
from apimachinery.identity import ANONYMOUS, UNAUTHENTICATED, User
from apimachinery.status import APIError

_TEXT = b"text/plain; charset=utf-8"
_JSON = b"application/json"


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """What is known about who sends requests, prepared once per certificate where that is possible.

    Compared by identity, which makes it a cheap key.
    """

    user: User | None
    """None: no credentials, or bad ones."""
    failed: bool = False
    """Credentials were given and refused: 401 even where anonymous requests are welcome."""
    privileged: bool = False
    """In a group that may do everything."""
    lines: bytes = b""
    """The X-Remote-* lines that tell a backend who it is."""


ANONYMOUS_USER = User(ANONYMOUS, groups=(UNAUTHENTICATED,))
_ANONYMOUS_LINES = identity_lines(ANONYMOUS_USER)
NOBODY = Identity(None)
REFUSED = Identity(None, failed=True)


def identity_of(user: User | None, policy: Policy) -> Identity:
    """Prepare a user. One that cannot travel in headers is refused."""
    if user is None:
        return NOBODY
    try:
        lines = identity_lines(user)
    except ValueError:
        return REFUSED
    return Identity(user, privileged=not set(policy.privileged_groups).isdisjoint(user.groups), lines=lines)


class Forward(NamedTuple):
    """Send the request to the route's upstream."""

    route: Route
    target: Target
    identity_lines: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Answer without asking any upstream."""

    code: int
    body: bytes
    content_type: bytes = _TEXT
    retry_after: int | None = None
    close: bool = False
    """The connection cannot be used for another request."""
    terminated: bool = False
    """Counts in apiserver_request_terminations_total."""
    target: Target | None = None
    route: str = "local"


def text(code: int, message: str, *, close: bool = False, terminated: bool = False, route: str = "local") -> Reply:
    """A plain-text reply; the text gets its newline here."""
    return Reply(code=code, body=message.encode() + b"\n", close=close, terminated=terminated, route=route)


def from_error(error: APIError, *, target: Target | None = None, close: bool = False) -> Reply:
    """A Status document."""
    return Reply(
        code=error.code,
        body=orjson.dumps(error.status) + b"\n",
        content_type=_JSON,
        retry_after=error.retry_after_seconds,
        target=target,
        close=close,
    )


UNAUTHORIZED = from_error(status.unauthorized())
NOT_INSTALLED = from_error(status.paths_not_installed())
GATEWAY_TIMEOUT = Reply(
    code=504,
    body=orjson.dumps(
        {
            "metadata": {},
            "status": "Failure",
            "message": "Timeout: request did not complete within the allotted timeout",
            "reason": "Timeout",
            "details": {},
            "code": 504,
        }
    )
    + b"\n",
    content_type=_JSON,
)


def decide(table: RouteTable, policy: Policy, identity: Identity, method: bytes, raw_target: bytes) -> Forward | Reply:
    """Authenticate result, authorization, route: the first that objects answers (aggregator.md 2.3, 8.2, 8.4)."""
    target = read_target(method, raw_target)
    if type(target) is BadTarget:
        if target.status_document:
            return from_error(status.bad_request(target.message))
        return text(400, f"400 Bad Request: {target.message}", close=True)
    assert isinstance(target, Target)
    lines = identity.lines
    if not identity.privileged:
        refusal = _authorize(policy, identity, target)
        if refusal is not None:
            return refusal
        if identity.user is None:
            lines = _ANONYMOUS_LINES
    route = table.match(target.path)
    if route.local:
        if not table.complete and names_group_version(target.path):
            return NOT_INSTALLED
    elif not route.available or route.backend is None:
        # Why the service cannot be reached is told in the APIService's condition, not to every client.
        return Reply(code=503, body=b"service unavailable\n", terminated=True, target=target, route=route.name)
    return Forward(route, target, lines)


def _authorize(policy: Policy, identity: Identity, target: Target) -> Reply | None:
    user = identity.user
    if identity.failed:
        return UNAUTHORIZED
    if user is None:
        return None if authorization.allowed(policy, ANONYMOUS_USER, target.info) else UNAUTHORIZED
    if authorization.allowed(policy, user, target.info):
        return None
    return from_error(authorization.forbidden(user, target.info), target=target)


def refuse_impersonation(identity: Identity, wanted: bytes) -> Reply:
    """Impersonation is not offered: to ignore its headers would act with more rights than asked for."""
    name = wanted.decode("utf-8", "replace")
    if not name:
        return from_error(status.bad_request("impersonation headers need Impersonate-User"))
    who = identity.user.name if identity.user is not None else ANONYMOUS
    message = f'User "{who}" cannot impersonate resource "users" in API group "" at the cluster scope'
    return from_error(status.forbidden(GroupResource("", "users"), name, message))
