"""Damping: a server that goes up and down again and again has to prove itself before it is used again. Pure."""

from collections import deque

WINDOW_SECONDS = 60.0
FREE_FALLS = 2
"""Falls within the window that cost nothing: a restart, and one that went wrong."""
MOST_CHECKS = 6


class Flapping:
    """Remembers per key when it fell, and how many checks have passed since. Times in seconds of one clock."""

    def __init__(self, window: float = WINDOW_SECONDS) -> None:
        self._window = window
        self._falls: dict[str, deque[float]] = {}
        self._passed: dict[str, int] = {}

    def failed(self, key: str, now: float, *, fell: bool) -> None:
        """Note a check that failed; `fell` when the one before it had passed."""
        self._passed.pop(key, None)
        if fell:
            self._falls.setdefault(key, deque(maxlen=FREE_FALLS + MOST_CHECKS)).append(now)

    def passed(self, key: str, now: float) -> int:
        """Note a check that passed after one that failed; how many more have to pass in a row."""
        done = self._passed[key] = self._passed.get(key, 0) + 1
        wanted = 1 + max(0, self.falls(key, now) - FREE_FALLS)
        left = min(wanted, MOST_CHECKS) - done
        if left <= 0:
            self._passed.pop(key, None)
        return max(left, 0)

    def falls(self, key: str, now: float) -> int:
        """How often the key fell within the window."""
        falls = self._falls.get(key)
        if falls is None:
            return 0
        while falls and now - falls[0] > self._window:
            falls.popleft()
        if not falls:
            del self._falls[key]
            return 0
        return len(falls)

    def forget(self, key: str) -> None:
        self._falls.pop(key, None)
        self._passed.pop(key, None)
