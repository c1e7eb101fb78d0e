"""What the ways of authentication say."""

from dataclasses import dataclass

from apimachinery.identity import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User


@dataclass(frozen=True, slots=True)
class AuthenticationFailed:
    """Credentials were given and do not count; `reason` is for the log, not for the client."""

    reason: str


def with_standard_group(user: User) -> User:
    """Everybody but the anonymous user is `system:authenticated`, unless the groups say otherwise already."""
    if user.name == ANONYMOUS or AUTHENTICATED in user.groups or UNAUTHENTICATED in user.groups:
        return user
    return user.with_group(AUTHENTICATED)
