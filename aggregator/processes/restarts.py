"""When to start a process again that has ended. Pure."""

from typing import Final

FIRST_SECONDS: Final = 0.1
LONGEST_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 10.0
"""Who ran for so long has not failed at its start."""
ATTEMPTS: Final = 5
"""Failures in a row of a process that never was ready, before the whole program gives up."""


class Restarts:
    """Counts the quick ends of one process."""

    def __init__(self) -> None:
        self.failures = 0

    def ended(self, seconds: float) -> float:
        """The process ended after running for so many seconds; returns the pause before its next start."""
        if seconds >= STEADY_SECONDS:
            self.failures = 0
        self.failures += 1
        # The exponent is bounded: a failure every 30 s for a year makes a number that no float holds.
        return float(min(FIRST_SECONDS * 2 ** min(self.failures - 1, 16), LONGEST_SECONDS))

    @property
    def hopeless(self) -> bool:
        return self.failures >= ATTEMPTS
