"""Identity by bearer token: the ways of reading one, asked in order."""

from collections.abc import Sequence
from typing import Protocol

from apimachinery.authorization import Undecided
from apimachinery.identity import User
from apiserver.auth.outcome import AuthenticationFailed, with_standard_group
from apiserver.auth.static_tokens import StaticTokens
from apiserver.auth.watched import WatchedFile


class TokenAuthenticator(Protocol):
    def authenticate(self, token: str) -> User | AuthenticationFailed | Undecided | None:
        """The user of a token; None when it is no token of this kind."""


class StaticTokenAuthenticator:
    """Tokens of a file that is read again when it changes."""

    def __init__(self, file: WatchedFile[StaticTokens]) -> None:
        self._file = file

    def authenticate(self, token: str) -> User | None:
        return self._file.value.user(token)


class Tokens:
    """All ways of reading tokens together; without any, a token is as good as none."""

    def __init__(self, authenticators: Sequence[TokenAuthenticator] = ()) -> None:
        self._authenticators = tuple(authenticators)

    def __bool__(self) -> bool:
        return bool(self._authenticators)

    def authenticate(self, token: str) -> User | AuthenticationFailed | Undecided:
        """The user, in the standard groups. What one says never keeps another from accepting the token."""
        reasons: list[str] = []
        undecided: Undecided | None = None
        for authenticator in self._authenticators:
            outcome = authenticator.authenticate(token)
            if isinstance(outcome, User):
                return with_standard_group(outcome)
            if isinstance(outcome, AuthenticationFailed):
                reasons.append(outcome.reason)
            elif outcome is not None:
                undecided = outcome
                break
        if undecided is not None:
            return undecided
        return AuthenticationFailed("; ".join(["invalid bearer token", *reasons]))
