"""The decision about a request: who asks, may they, and where does it go. A plain function on in-memory snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from aggregator.proxy.headers import identity_lines
from aggregator.proxy.routes import Route, RouteTable, names_group_version
from aggregator.proxy.target import BadTarget, Target, read_target
from apimachinery import authorization, impersonation, status
from apimachinery.authorization import ANONYMOUS_USER, Authorizer, Decision, Undecided
from apimachinery.identity import User
from apimachinery.request_info import RequestInfo
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


_ANONYMOUS = Identity(ANONYMOUS_USER, lines=identity_lines(ANONYMOUS_USER))
NOBODY = Identity(None)
REFUSED = Identity(None, failed=True)


def identity_of(user: User | None, authorizer: Authorizer) -> Identity:
    """Prepare a user. One that cannot travel in headers is refused."""
    if user is None:
        return NOBODY
    try:
        lines = identity_lines(user)
    except ValueError:
        return REFUSED
    return Identity(user, privileged=authorization.privileged(authorizer, user), lines=lines)


class Forward(NamedTuple):
    """Send the request to the route's upstream."""

    route: Route
    target: Target
    identity_lines: bytes
    lasting: bool = True
    """Holds until routes or policy change; otherwise every request has to be decided anew."""
    caller: Identity = NOBODY
    """Who the request is made as."""


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
    logged: bool = True
    """What is answered 5xx gets a line in the log, unless one line tells of many of its kind."""


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


def decide(
    table: RouteTable,
    authorizer: Authorizer,
    identity: Identity,
    method: bytes,
    raw_target: bytes,
    wanted: Sequence[tuple[str, str]] = (),
) -> Forward | Reply | Undecided:
    """Authenticate result, impersonation, authorization, route: the first that objects answers (aggregator.md 2.3, 8).

    `wanted` are the impersonation headers, names in lower case. An Undecided has to be waited for, and the same asked
    again.
    """
    target = read_target(method, raw_target)
    if type(target) is BadTarget:
        if target.status_document:
            return from_error(status.bad_request(target.message))
        return text(400, f"400 Bad Request: {target.message}", close=True)
    assert isinstance(target, Target)
    lasting = True
    if wanted or not identity.privileged:
        if identity.failed:
            return UNAUTHORIZED
        if identity.user is None:
            if not authorizer.anonymous_on(target.info.path):
                return UNAUTHORIZED
            identity = _ANONYMOUS
        if wanted:
            other = _impersonate(authorizer, identity, wanted)
            if not isinstance(other, Identity):
                return other
            identity = other
        if not identity.privileged:
            decision = _authorize(authorizer, identity, target.info)
            if not isinstance(decision, Decision):
                return decision
            lasting = decision.lasting
    route = table.match(target.path)
    if route.local:
        if not table.complete and names_group_version(target.path):
            return NOT_INSTALLED
    elif not route.available or route.backend is None:
        # Why the service cannot be reached is told in the APIService's condition, not to every client.
        return Reply(code=503, body=b"service unavailable\n", terminated=True, target=target, route=route.name)
    return Forward(route, target, identity.lines, lasting, identity)


def _authorize(authorizer: Authorizer, identity: Identity, info: RequestInfo) -> Decision | Reply | Undecided:
    """The decision that allows the request, or what to do instead."""
    user = identity.user
    assert user is not None
    decision = authorizer.authorize(user, info)
    if not isinstance(decision, Decision) or decision.allowed:
        return decision
    return from_error(authorization.refused(user, info, decision))


def _impersonate(
    authorizer: Authorizer, identity: Identity, wanted: Sequence[tuple[str, str]]
) -> Identity | Reply | Undecided:
    """Who the request is made as, if the caller may act as each piece of it (aggregator.md 8.3)."""
    try:
        asked = impersonation.read(wanted)
    except APIError as error:
        return from_error(error)
    if asked is None:
        return identity
    if not identity.privileged:
        for check in impersonation.required(asked):
            decision = _authorize(authorizer, identity, check)
            if not isinstance(decision, Decision):
                return decision
    return identity_of(impersonation.impersonated(asked), authorizer)
