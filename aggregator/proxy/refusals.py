"""Requests that an upstream refuses because it is full: counted one by one, told in the log once per second."""

from aggregator.proxy.answers import Overloaded
from apiserver import logs

log = logs.get("aggregator.proxy")


class Refusals:
    """Those of one upstream.

    It refuses thousands a second when it has to: a line for each would hide all others, and cost more than refusing.
    """

    def __init__(self, name: str, *, in_progress: int, waiting: int) -> None:
        """`name` is for the log; refused is what comes when so many requests are in progress and waiting."""
        self.total = 0
        self.error = Overloaded(f"too many requests: {in_progress} in progress, {waiting} waiting")
        """What to refuse a request with."""
        self._name = name
        self._told = 0
        self._quiet = False
        """There has been a line since the last sweep."""

    def count(self) -> None:
        """A request is refused. The first one is told at once."""
        self.total += 1
        if not self._quiet:
            self._tell()

    def sweep(self) -> None:
        """Once per second, and at the end: tell of those since the last line."""
        self._quiet = False
        if self.total > self._told:
            self._tell()

    def _tell(self) -> None:
        refused = self.total - self._told
        self._told = self.total
        self._quiet = True
        log.warning("requests refused", upstream=self._name, requests=refused, error=str(self.error))
