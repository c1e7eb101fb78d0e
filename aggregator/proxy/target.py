"""Reading a request target once, so that what is authorized and what is forwarded cannot be two things. Pure.

The raw bytes travel on unchanged; every target whose meaning could depend on who decodes it is refused: dot segments,
empty segments, encoded slashes, backslashes, control characters and double encoding.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from apimachinery import request_info
from apimachinery.durations import parse_go_duration
from apimachinery.options import parse_query
from apimachinery.request_info import RequestInfo

REQUEST_SECONDS = 60.0
"""Limit of a request that is not long-running (aggregator.md 8.7)."""
DISCOVERY_SECONDS = 5.0
"""Limit of a request with exactly three path segments, such as `/apis/<group>/<version>` (aggregator.md 2.7)."""

_MEMO_TARGET_BYTES = 512
_SEGMENT = rb"[A-Za-z0-9_~:@!$&'()*+,=-][A-Za-z0-9._~:@!$&'()*+,;=-]*"
_PLAIN_PATH = re.compile(rb"/(?:%b(?:/%b)*/?)?" % (_SEGMENT, _SEGMENT))
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")


class Target(NamedTuple):
    """A request target that has one meaning only."""

    path: bytes
    """Decoded."""
    raw_path: bytes
    """As received, without the query."""
    info: RequestInfo
    long_running: bool
    seconds: float
    """Time allowed until the answer is complete; of no meaning when long-running."""
    discovery: bool


class BadTarget(NamedTuple):
    """A target that is refused with 400."""

    message: str
    status_document: bool = False
    """Answer with a Status document rather than plain text."""


def read_target(method: bytes, target: bytes) -> Target | BadTarget:
    """Decode, check and classify a request target."""
    if len(target) <= _MEMO_TARGET_BYTES:
        return _remembered(method, target)
    return _read(method, target)


@lru_cache(maxsize=4096)
def _remembered(method: bytes, target: bytes) -> Target | BadTarget:
    return _read(method, target)


def _read(method: bytes, target: bytes) -> Target | BadTarget:
    raw_path, _, query_text = target.partition(b"?")
    if not raw_path.startswith(b"/"):
        return BadTarget("the request target must be an absolute path")
    if b"#" in target:
        return BadTarget("the request target may not have a fragment")
    path = decode_path(raw_path)
    if path is None:
        return BadTarget("the request path is ambiguous")
    try:
        query = parse_query(query_text)
        info = request_info.parse_request_info(method.decode("ascii"), path.decode(), query)
    except ValueError as error:
        return BadTarget(str(error))
    segments = path.strip(b"/").count(b"/") + 1
    discovery = not info.is_resource and segments == 3
    seconds = DISCOVERY_SECONDS if discovery else REQUEST_SECONDS
    if "timeout" in query:
        wanted = query["timeout"][0]
        try:
            asked = parse_go_duration(wanted) if wanted else 0.0
        except ValueError as error:
            return BadTarget(f"invalid timeout specified in the request URL - {error}", status_document=True)
        if 0 < asked < seconds:
            seconds = asked
    return Target(path, raw_path, info, request_info.is_long_running(info), seconds, discovery)


def decode_path(raw: bytes) -> bytes | None:
    """The decoded path, or None when different servers could read it differently."""
    if _PLAIN_PATH.fullmatch(raw):
        return raw
    if raw.count(b"%") != len(_ENCODED.findall(raw)):
        return None
    path = _ENCODED.sub(lambda match: bytes([int(match.group(1), 16)]), raw)
    if raw.count(b"/") != path.count(b"/"):
        return None
    if b"%" in path or b"\\" in path or b"?" in path or b"#" in path:
        return None
    if any(byte < 32 or byte == 127 for byte in path):
        return None
    try:
        path.decode()
    except UnicodeDecodeError:
        return None
    segments = path[1:].split(b"/")
    if b"" in segments[:-1] or any(_is_dots(segment) for segment in segments):
        return None
    return path


def _is_dots(segment: bytes) -> bool:
    """Dot segments, also those that a server which cuts `;parameters` would see."""
    return segment.partition(b";")[0].strip(b" ") in (b".", b"..")
