"""Pieces of records as text, shared by the audit log, the access log and the traces. Pure."""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_plus

from apiserver.logs import MASK, is_secret, utc

_TRACEPARENT: Final = re.compile(rb"(?i:traceparent):[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_ZERO_TRACE: Final = b"0" * 32
_ZERO_SPAN: Final = b"0" * 16


_USER: Final = re.compile(r"//[^/?#]*@")
_PARAMETER: Final = re.compile(r"(?P<name>[^;=]*)=(?P<value>[^;]*)")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_OTHER: Final = re.compile(r"[^a-z0-9]+")
_SECRET_PARAMETERS: Final = frozenset(
    ("accesstoken", "apikey", "assertion", "auth", "bearer", "jwt", "pwd", "sig", "signature")
)
"""Besides the names that are secret in every log."""


def uri(raw_target: bytes) -> str:
    """A request target as it came, without the values of query parameters whose name says secret, and without the
    user of an absolute URL.

    Nothing here accepts credentials in a URL, but clients send them, and servers behind may accept them.
    """
    text = raw_target.decode("utf-8", "backslashreplace")
    if not text.startswith("/"):
        text = _USER.sub(f"//{MASK}@", text, count=1)
    path, mark, query = text.partition("?")
    if not mark:
        return text
    return f"{path}?{'&'.join(map(_without_secret, query.split('&')))}"


def _without_secret(part: str) -> str:
    """What stands between two `&`. Some servers take `;` for another separator, others for a part of a value: what
    begins with a secret is masked as a whole."""
    for found in _PARAMETER.finditer(part):
        if found["value"] and _is_secret_parameter(found["name"]):
            return f"{part[: found.start('value')]}{MASK}"
    return part


@lru_cache(maxsize=256)
def _is_secret_parameter(name: str) -> bool:
    """By its last word, however the words are put together and encoded: `access_token`, `accessToken`, `a[api-key]`."""
    words = _OTHER.sub("_", _HUMP.sub("_", unquote_plus(name)).lower()).strip("_")
    return is_secret(words) or words.rpartition("_")[2] in _SECRET_PARAMETERS


def field(lines: Sequence[bytes], name: bytes) -> str:
    """The first value of a header field, `name` in lower case with its colon; empty when there is none."""
    size = len(name)
    for line in lines:
        if line[:size].lower() == name:
            return line[size:].strip().decode("utf-8", "replace")
    return ""


def traceparent(lines: Sequence[bytes]) -> tuple[int, bytes, bytes, int] | None:
    """Position, trace id, parent id and flags of a valid traceparent (W3C Trace Context 3.2); None without one."""
    for position, line in enumerate(lines):
        if line[:12].lower() != b"traceparent:":
            continue
        match = _TRACEPARENT.match(line)
        if match is None:
            return None
        version, trace, parent, flags = match.groups()
        rest = line[match.end() :].strip()
        # Version 00 ends here; a later one may go on after a dash; ff is no version.
        if version == b"ff" or (rest and (version == b"00" or not rest.startswith(b"-"))):
            return None
        if trace == _ZERO_TRACE or parent == _ZERO_SPAN:
            return None
        return position, trace, parent, int(flags, 16)
    return None


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, microseconds, as the originals write them."""
    whole = int(seconds)
    return f"{utc(whole)}.{int((seconds - whole) * 1_000_000):06d}Z"


def addresses(forwarded_for: bytes, peer: bytes) -> list[str]:
    """The client's address as far as it is known: what proxies said on the way, then who is connected."""
    last = peer.decode("latin-1")
    if not forwarded_for:
        return [last]
    found = []
    for part in forwarded_for.decode("latin-1").split(","):
        try:
            found.append(str(ipaddress.ip_address(part.strip())))
        except ValueError:
            continue
    if not found or found[-1] != last:
        found.append(last)
    return found
