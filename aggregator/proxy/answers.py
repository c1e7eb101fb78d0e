"""Words and numbers of answers that both kinds of client get."""

from aggregator.proxy.decide import Reply
from aggregator.proxy.failures import UpstreamFailure
from aggregator.proxy.target import Target

CLIENT_CLOSED = 499
"""Counted for a request whose client went away before the response was complete."""
SILENCE_SECONDS = 4.0
"""A request that waited for less says nothing about its backend."""
UNREACHABLE = "error trying to reach service: "
REDIRECT_REFUSED = "the backend attempted to redirect this request, which is not permitted"


class Overloaded(UpstreamFailure):
    """As many requests as allowed are in progress and waiting. Made once per backend, for all that it refuses."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.answer = Reply(code=503, body=text.encode() + b"\n", retry_after=1, logged=False)


def too_many_requests(target: Target, route: str) -> Reply:
    """The caller has, or all callers have, as many requests in progress as allowed (aggregator.md 8.5)."""
    body = b"Too many requests, please try again later.\n"
    return Reply(code=429, body=body, retry_after=1, terminated=True, target=target, route=route)
