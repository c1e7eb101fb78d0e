"""Growing waits between attempts that fail, and even ones between those that succeed."""

import random


def spread(seconds: float) -> float:
    """About as long: many things that began together do not stay together."""
    return random.uniform(0.9, 1.1) * seconds


class Backoff:
    """Per key: `base` seconds after the first failure, doubled after each further one, never more than `cap`."""

    def __init__(self, base: float, cap: float) -> None:
        self._base = base
        self._cap = cap
        self._failures: dict[str, int] = {}

    def failing(self, key: str) -> bool:
        return key in self._failures

    def failed(self, key: str) -> float:
        """Note a failure; the seconds to wait."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        return float(min(self._base * 2 ** min(failures, 30), self._cap))

    def reset(self, key: str) -> None:
        self._failures.pop(key, None)
