"""What the ways of authentication say."""

from collections.abc import Callable
from dataclasses import dataclass

from apimachinery.identity import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User


def never() -> bool:
    """For an answer that counts only for the one request that it was given for."""
    return False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The user that a token stands for."""

    user: User
    counts: Callable[[], bool]
    """Whether the authenticator would still answer the same. Whoever remembers the answer asks before each use of it;
    that another authenticator may come first now is reported by `Tokens.on_change`."""


@dataclass(frozen=True, slots=True)
class AuthenticationFailed:
    """Credentials were given and do not count; `reason` is for the log, not for the client."""

    reason: str


def with_standard_group(user: User) -> User:
    """Everybody but the anonymous user is `system:authenticated`, unless the groups say otherwise already."""
    if user.name == ANONYMOUS or AUTHENTICATED in user.groups or UNAUTHENTICATED in user.groups:
        return user
    return user.with_group(AUTHENTICATED)
