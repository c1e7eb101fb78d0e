"""A request that was read and cannot begin yet."""

from aggregator.proxy.decide import Reply
from aggregator.proxy.headers import Headers


class Pending:
    """A request that waits: a pipelined one for its turn, another for the decision about it.

    `refusal` stands for one that cannot be served.
    """

    __slots__ = (
        "began",
        "body",
        "complete",
        "headers",
        "keep_alive",
        "method",
        "refusal",
        "target",
        "trailers",
        "version",
    )

    def __init__(self, method: bytes, target: bytes, headers: Headers, version: str, keep_alive: bool) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.version = version
        self.keep_alive = keep_alive
        self.body: list[bytes] = []
        self.trailers: Headers = []
        self.complete = False
        self.refusal: Reply | None = None
        self.began = 0.0
        """When it was first looked at; 0 before that."""
