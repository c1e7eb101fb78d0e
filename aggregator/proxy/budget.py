"""How many retries a service may cost, so that they cannot multiply an outage. Pure."""

SHARE = 0.2
"""Retries per request."""
FLOOR_PER_SECOND = 10.0
BURST = 100.0


class RetryBudget:
    """A bucket that requests and time fill and retries empty."""

    __slots__ = ("refused", "retries", "tokens")

    def __init__(self) -> None:
        self.tokens = BURST
        self.retries = 0
        """Retries made."""
        self.refused = 0
        """Retries that would have been safe and were too many."""

    def earn(self, requests: int, seconds: float) -> None:
        self.tokens = min(BURST, self.tokens + requests * SHARE + seconds * FLOOR_PER_SECOND)

    def spend(self) -> bool:
        """Whether one more retry may be made."""
        if self.tokens < 1:
            self.refused += 1
            return False
        self.tokens -= 1
        self.retries += 1
        return True
