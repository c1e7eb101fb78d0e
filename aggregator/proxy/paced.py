"""The size and the pace of request bodies, over HTTP/1.1 and HTTP/2 alike."""

import time
from math import inf

from aggregator.proxy.client_side import ClientSide
from aggregator.proxy.oversize import BODY_TOO_SLOW, body_too_large
from aggregator.proxy.plane import Plane
from aggregator.proxy.states import ACTIVE


class PacedBody(ClientSide):
    """An exchange that ends when the body of its request is too large, or when the client sends it too slowly."""

    __slots__ = ("_end", "_received", "_received_before")

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane)
        self._received = 0
        self._received_before = 0
        """Bytes of the request's body: all, and those that had been there when the pace was looked at last."""
        self._end = inf
        """The deadline of the exchange once its request is complete."""

    def expired(self) -> None:
        if self.state == ACTIVE and not self.request_complete and self.deadline < self._end:
            self._look_at_pace()
        else:
            super().expired()

    def _look_at_pace(self) -> None:
        """Part of a request body's time is over: go on if it arrives at a decent pace, or if it cannot."""
        limits = self.plane.limits
        came = self._received - self._received_before
        if self._held_back() or came >= limits.body_rate * limits.body_window_seconds:
            self._pace_from(time.monotonic())
        elif self.head_sent:
            self._log_failure("response broken off", "the request body arrives too slowly")
            self.abort()
        else:
            self.reply(BODY_TOO_SLOW)

    def _pace_from(self, now: float) -> None:
        limits = self.plane.limits
        self._received_before = self._received
        if limits.body_rate and not self.long_running:
            self._expire_at(min(self._end, now + limits.body_window_seconds))

    def _pace_anew(self) -> None:
        """The upstream takes more of the body again: only from now on it is the client who is slow."""
        if self.state == ACTIVE and not self.request_complete:
            self._pace_from(time.monotonic())

    def _expire_at(self, deadline: float) -> None:
        self.deadline = deadline

    def _body_too_large(self) -> None:
        """More of the body has come than may be."""
        if self.head_sent:
            self._log_failure("response broken off", "the request body is too large")
            self.abort()
        else:
            self.reply(body_too_large(self.plane.limits))

    def _held_back(self) -> bool:
        """Whether the client may send no more at this moment."""
        raise NotImplementedError
