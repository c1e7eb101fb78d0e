"""Header lines judged whole, for heads that hold nothing special. Pure, except for bounded memo tables.

The lines of a head recur from message to message, byte for byte. A line seen before costs one dictionary lookup; a new
one is checked against the grammar of RFC 9112 as strictly as the full parser does it. Whatever is not plainly harmless
is left to the full parser, from the first byte of the message.
"""

import re

from aggregator.proxy.headers import Fate, HeaderRules, response_fate

PASS, DROP, HOST, CACHE_CONTROL, SLOW, AUTHORIZATION = 0, 1, 2, 3, 4, 5
CREDENTIALS = len(b"authorization:")
"""Where the value begins in a line of that name."""
LENGTH = 16
"""A Content-Length of n is reported as LENGTH + n."""

REQUEST_LINE = re.compile(rb"(GET|HEAD|DELETE|OPTIONS) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1")
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([245][0-9][0-9]) [\t\x20-\x7e]*")

_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(rb"(?i:content-length): ?([0-9]{1,15})")
_KEEP_ALIVE = re.compile(rb"(?i:connection:[ \t]*keep-alive[ \t]*)")
_MEMO_LIMIT = 4096
_MEMO_BYTES = 256
_STATUS_LIMIT = 256
_NOT_REMEMBERED = frozenset((b"cookie", b"set-cookie", b"audit-id"))
"""Secret, or different each time."""


class LineMemo:
    """Verdicts about lines; forgets everything when full, which only somebody who sends ever new lines can cause."""

    def __init__(self) -> None:
        self.known: dict[bytes, int] = {}

    def remember(self, line: bytes, name: bytes, verdict: int) -> int:
        if len(line) <= _MEMO_BYTES and name not in _NOT_REMEMBERED:
            if len(self.known) >= _MEMO_LIMIT:
                self.known.clear()
            self.known[line] = verdict
        return verdict


class RequestLines(LineMemo):
    """Verdicts about request lines: PASS, DROP, HOST, SLOW or AUTHORIZATION."""

    def __init__(self, rules: HeaderRules) -> None:
        super().__init__()
        self._rules = rules

    def learn(self, line: bytes) -> int:
        if line[:CREDENTIALS].lower() == b"authorization:":
            # As the credentials of most clients come with every request, and whether they are well formed is known of
            # those that are, looking at every byte of them is left to those who need it.
            return AUTHORIZATION
        if _FIELD.fullmatch(line) is None:
            return SLOW
        name = line.partition(b":")[0]
        fate = self._rules.classify(name)
        if fate == Fate.PASS:
            verdict = PASS
        elif fate == Fate.DROP or (fate == Fate.CONNECTION and _KEEP_ALIVE.fullmatch(line)):
            verdict = DROP
        elif fate == Fate.HOST:
            verdict = HOST
        else:
            verdict = SLOW
        return self.remember(line, name.lower(), verdict)


class ResponseLines(LineMemo):
    """Verdicts about response lines: PASS, DROP, CACHE_CONTROL, LENGTH + n or SLOW."""

    def __init__(self) -> None:
        super().__init__()
        self.status: dict[bytes, int] = {}
        """Codes of status lines whose responses have a body."""

    def learn(self, line: bytes) -> int:
        if _FIELD.fullmatch(line) is None:
            return SLOW
        name = line.partition(b":")[0]
        fate = response_fate(name)
        verdict = SLOW
        if fate == Fate.PASS:
            verdict = PASS
        elif fate == Fate.DROP or (fate == Fate.CONNECTION and _KEEP_ALIVE.fullmatch(line)):
            verdict = DROP
        elif fate == Fate.CACHE_CONTROL:
            verdict = CACHE_CONTROL
        elif fate == Fate.CONTENT_LENGTH:
            match = _LENGTH.fullmatch(line)
            if match is not None:
                verdict = LENGTH + int(match.group(1))
        return self.remember(line, name.lower(), verdict)

    def learn_status(self, line: bytes) -> int:
        """The code, or 0 for what the full parser has to look at: 1xx, 204, 3xx and malformed lines."""
        match = STATUS_LINE.fullmatch(line)
        code = int(match.group(1)) if match is not None else 0
        if code == 204:
            code = 0
        if len(line) <= _MEMO_BYTES and len(self.status) < _STATUS_LIMIT:
            self.status[line] = code
        return code


def is_field(line: bytes) -> bool:
    """Whether the line is a field that every parser reads alike."""
    return _FIELD.fullmatch(line) is not None


def plain_request(memo: RequestLines, lines: list[bytes]) -> tuple[list[bytes], bytes] | None:
    """The lines to forward of a request whose fields are all plain; None leaves the request to the full parser.

    And the line of its Authorization field, empty if there is none: its value, from CREDENTIALS on, is not checked yet.
    """
    kept: list[bytes] = []
    keep = kept.append
    get = memo.known.get
    hosts = 0
    authorization = b""
    for line in lines:
        verdict = get(line)
        if verdict is None:
            verdict = memo.learn(line)
        if verdict == 0:
            keep(line)
        elif verdict == 2:
            hosts += 1
        elif verdict == 5 and not authorization:
            authorization = line
        elif verdict >= 4:
            return None
    return (kept, authorization) if hosts == 1 else None


_RETRY_AFTER = re.compile(rb"(?i:retry-after):[ \t]*([0-9]{1,9})[ \t]*(?:\r\n)?")
LONGEST_RETRY_AFTER = 30.0
"""Seconds of a Retry-After that are believed."""


def retry_after(lines: list[bytes]) -> float | None:
    """The seconds of a Retry-After among header lines; None if there is none in seconds."""
    for line in lines:
        match = _RETRY_AFTER.fullmatch(line)
        if match is not None:
            return min(float(match.group(1)), LONGEST_RETRY_AFTER)
    return None


response_lines = ResponseLines()


def plain_response(data: bytes) -> tuple[int, list[bytes], bool, int, int] | None:
    """Read the head at the start of `data` if it is plain.

    Returns (code, lines to forward with the status line first, whether Cache-Control is among them, content length,
    position of the body), or None: incomplete, unusual or malformed.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = data[:end].split(b"\r\n")
    memo = response_lines
    status = lines[0]
    code = memo.status.get(status)
    if code is None:
        code = memo.learn_status(status)
    if not code:
        return None
    del lines[0]
    kept = [status]
    keep = kept.append
    length = -1
    cache_control = False
    for line, known in zip(lines, map(memo.known.get, lines), strict=True):
        if known == 0:
            keep(line)
            continue
        verdict = memo.learn(line) if known is None else known
        if verdict == 0:
            keep(line)
        elif verdict >= 16:
            if length >= 0:
                return None
            length = verdict - 16
            keep(line)
        elif verdict == 3:
            cache_control = True
            keep(line)
        elif verdict == 4:
            return None
    if length < 0:
        return None
    return code, kept, cache_control, length, end + 4
