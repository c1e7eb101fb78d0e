"""Bearer tokens from a file: lines of `token,user,uid,"group1,group2"`, as Kubernetes has them."""

import csv
import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path

from apimachinery.identity import User
from apiserver.auth.policy_file import read_text
from apiserver.auth.yaml_fields import FileError

_FEWEST, _MOST = 3, 4


class StaticTokens:
    """The users of known tokens.

    Tokens are kept and looked up as keyed digests, so that neither the time of a lookup nor a dump of memory tells
    much about them.
    """

    def __init__(self, tokens: Mapping[str, User] | None = None) -> None:
        self._key = secrets.token_bytes(32)
        self._users = {self._digest(token): user for token, user in (tokens or {}).items()}

    def user(self, token: str) -> User | None:
        return self._users.get(self._digest(token))

    def _digest(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode(), key=self._key, digest_size=32).digest()


def load(path: Path) -> StaticTokens:
    """Read a token file. FileError, which never quotes the file."""
    return parse(read_text(path), str(path))


def parse(text: str, file: str) -> StaticTokens:
    """The tokens of a text; lines that are empty or begin with `#` say nothing."""
    tokens: dict[str, User] = {}
    reader = csv.reader(text.splitlines(), skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip()) or row[0].startswith("#"):
                continue
            token, user = _entry(row, f"{file}:{reader.line_num}")
            if token in tokens:
                raise FileError(f"{file}:{reader.line_num}: the token is in the file already")
            tokens[token] = user
    except csv.Error as error:
        raise FileError(f"{file}:{reader.line_num}: not valid CSV: {error}") from None
    return StaticTokens(tokens)


def _entry(row: list[str], place: str) -> tuple[str, User]:
    if len(row) < _FEWEST:
        raise FileError(f'{place}: at least token, user and uid are needed: token,user,uid,"group1,group2"')
    if len(row) > _MOST:
        raise FileError(f"{place}: more than four fields; several groups go into quotes")
    token, name, uid = (item.strip() for item in row[:3])
    if not token:
        raise FileError(f"{place}: the token is empty")
    if not name:
        raise FileError(f"{place}: the user is empty")
    groups = [item.strip() for item in row[3].split(",")] if len(row) == _MOST else []
    return token, User(name, uid, tuple(item for item in groups if item))
