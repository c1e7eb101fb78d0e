"""What is known of the request in progress on an HTTP/1.1 connection, and of whom the connection belongs to."""

from collections import deque

from aggregator.proxy.decide import NOBODY, Identity
from aggregator.proxy.pending import Pending
from aggregator.proxy.plane import Plane
from aggregator.proxy.routed import RoutedRequest
from apimachinery.authorization import Undecided


class RequestState(RoutedRequest):
    """The attributes of `request_side`, and the identity of the connection."""

    __slots__ = (
        "_certificate",
        "_chunk_in",
        "_drained",
        "_early",
        "_forwarded_for",
        "_identity",
        "_identity_until",
        "_peer",
        "_per_request_identity",
        "_queue",
        "_read_paused",
        "_undecided",
        "_undecided_upgrade",
        "_upstream_full",
    )

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane)
        self._queue: deque[Pending] = deque()
        self._early: list[bytes] = []
        self._chunk_in = False
        self._drained = 0
        self._read_paused = False
        self._upstream_full = False
        self._peer = b""
        self._forwarded_for = b""
        self._certificate: bytes | None = None
        self._identity: Identity = NOBODY
        self._identity_until = 0.0
        self._per_request_identity = False
        self._undecided: Undecided | None = None
        """What the request at the head of the queue waits for; the connection counts as busy meanwhile."""
        self._undecided_upgrade = False

    def forget_identity(self) -> None:
        """Judge the certificate anew with the next request."""
        self._identity_until = 0.0

    def _identity_at(self, now: float) -> Identity:
        """Who the connection's certificate says it is; looked at again now and then, since certificates expire."""
        if now >= self._identity_until:
            self._identity = self.plane.connection_identity(self._certificate, now)
            self._identity_until = now + self.plane.limits.identity_seconds
        return self._identity
