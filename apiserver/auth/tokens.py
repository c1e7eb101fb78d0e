"""Identity by bearer token: the ways of reading one, asked in order."""

from collections.abc import Callable, Sequence
from typing import Protocol

from apimachinery.authorization import Undecided
from apimachinery.identity import User
from apiserver.auth.outcome import Accepted, AuthenticationFailed, never, with_standard_group
from apiserver.auth.static_tokens import StaticTokens
from apiserver.auth.watched import WatchedFile


class TokenAuthenticator(Protocol):
    def authenticate(self, token: str) -> Accepted | AuthenticationFailed | Undecided | None:
        """The user of a token; None when it is no token of this kind."""


class StaticTokenAuthenticator:
    """Tokens of a file that is read again when it changes; `Tokens.changed` is to be called then."""

    def __init__(self, file: WatchedFile[StaticTokens]) -> None:
        self._file = file

    def authenticate(self, token: str) -> Accepted | None:
        tokens = self._file.value
        user = tokens.user(token)
        return Accepted(user, lambda: self._file.value is tokens) if user is not None else None


class Tokens:
    """All ways of reading tokens together; without any, a token is as good as none."""

    def __init__(self, authenticators: Sequence[TokenAuthenticator] = ()) -> None:
        self._authenticators = tuple(authenticators)
        self._listeners: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return bool(self._authenticators)

    def authenticate(self, token: str) -> User | AuthenticationFailed | Undecided:
        """The user, in the standard groups."""
        outcome = self.judge(token)
        return outcome.user if isinstance(outcome, Accepted) else outcome

    def judge(self, token: str) -> Accepted | AuthenticationFailed | Undecided:
        """The same, and how long it counts. What one says never keeps another from accepting the token."""
        reasons: list[str] = []
        undecided: Undecided | None = None
        for authenticator in self._authenticators:
            outcome = authenticator.authenticate(token)
            if isinstance(outcome, Accepted):
                # Whoever refused the token and was not heard may accept it later, and would come first then.
                return Accepted(with_standard_group(outcome.user), never if reasons else outcome.counts)
            if isinstance(outcome, AuthenticationFailed):
                reasons.append(outcome.reason)
            elif outcome is not None:
                undecided = outcome
                break
        if undecided is not None:
            return undecided
        return AuthenticationFailed("; ".join(["invalid bearer token", *reasons]))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call back whenever a token may be another authenticator's than it was."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """An authenticator may know tokens now that it did not know."""
        for listener in self._listeners:
            listener()
