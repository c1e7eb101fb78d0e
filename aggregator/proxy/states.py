"""What a client connection over HTTP/1.1 waits for."""

import enum


class State(enum.IntEnum):
    """What a client connection waits for."""

    IDLE = 0
    """The next request, or the rest of its head."""
    ACTIVE = 1
    """An exchange is in progress."""
    DRAINING = 2
    """The response is complete, the request's body is not: it is read and dropped."""
    TUNNEL = 3
    CLOSED = 4


# Plain integers compare several times faster than the members of an enumeration.
IDLE, ACTIVE, DRAINING, TUNNEL, CLOSED = map(int, State)
