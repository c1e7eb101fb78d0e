"""What the backend of `bench.peers.streams` says, whichever protocol it is asked in."""

import enum

SLOW_SECONDS = 10.0
EVENT = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}\n'
ANSWER = b"{}\n"


class Asked(enum.Enum):
    WATCH = enum.auto()
    SLOW = enum.auto()
    ANYTHING = enum.auto()


def asked(target: bytes) -> Asked:
    """What a request target, or the line that it stands in, asks for."""
    if b"watch=1" in target:
        return Asked.WATCH
    return Asked.SLOW if b"/slow" in target else Asked.ANYTHING
