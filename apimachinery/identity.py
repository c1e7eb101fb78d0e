"""Who makes a request, and how an identity travels in front-proxy headers (aggregator.md 2.7, 8.2)."""

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = "system:anonymous"
MASTERS = "system:masters"

_TOKEN_CHARACTERS = frozenset((string.ascii_letters + string.digits + "!#$&'*+-.^_`|~").encode())


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity. `extra` maps lower-case keys to values."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def with_group(self, group: str) -> "User":
        if group in self.groups:
            return self
        return User(self.name, self.uid, (*self.groups, group), self.extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeaderNames:
    """Which headers carry a front proxy's identity claims; names compare without case."""

    username: tuple[str, ...] = ("x-remote-user",)
    uid: tuple[str, ...] = ("x-remote-uid",)
    group: tuple[str, ...] = ("x-remote-group",)
    extra_prefix: tuple[str, ...] = ("x-remote-extra-",)


def escape_extra_key(key: str) -> str:
    """Percent-encode what is not an RFC 7230 token character, `%` included, with upper-case hexadecimal digits."""
    return "".join(chr(byte) if byte in _TOKEN_CHARACTERS else f"%{byte:02X}" for byte in key.encode())


def unescape_extra_key(suffix: str) -> str:
    """The key that a header suffix stands for: lower-cased, then decoded; a bad encoding stays as it is."""
    lowered = suffix.lower()
    for position, char in enumerate(lowered):
        digits = lowered[position + 1 : position + 3]
        if char == "%" and not (len(digits) == 2 and all(digit in string.hexdigits for digit in digits)):
            return lowered
    return unquote(lowered, errors="replace")


def to_headers(user: User) -> list[tuple[str, str]]:
    """The X-Remote-* header lines that tell an aggregated server who the user is."""
    lines = [("X-Remote-User", user.name)]
    if user.uid:
        lines.append(("X-Remote-Uid", user.uid))
    lines.extend(("X-Remote-Group", group) for group in user.groups)
    for key, values in user.extra.items():
        name = f"X-Remote-Extra-{escape_extra_key(key)}"
        lines.extend((name, value) for value in values)
    return lines


def from_headers(headers: Sequence[tuple[str, str]], names: RequestHeaderNames) -> User | None:
    """The user a trusted front proxy claims, or None without a user name. Header names must be lower-case."""
    first: dict[str, str] = {}
    for name, value in headers:
        first.setdefault(name, value)

    def pick(candidates: Iterable[str]) -> str:
        return next((first[name.lower()] for name in candidates if first.get(name.lower())), "")

    user = pick(names.username)
    if not user:
        return None
    groups: list[str] = []
    for wanted in names.group:
        groups.extend(value for name, value in headers if name == wanted.lower() and value)
    extra: dict[str, tuple[str, ...]] = {}
    for prefix in names.extra_prefix:
        for name, value in headers:
            if name.startswith(prefix.lower()):
                key = unescape_extra_key(name[len(prefix) :])
                extra[key] = (*extra.get(key, ()), value)
    return User(user, pick(names.uid), tuple(groups), extra)
