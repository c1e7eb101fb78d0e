"""How much of what costs us more than it costs the client one HTTP/2 connection may ask for."""

import time

from aggregator.proxy.http2_frames import ENHANCE_YOUR_CALM, ConnectionFault

_FAULTS = 400
"""Streams that a client may break off, or have broken off for its faults, at once. Each may have made us connect to a
backend, or given up a connection to one (CVE-2023-44487, CVE-2025-8671)."""
_FAULTS_PER_SECOND = 40.0
_TRIFLES = 2000
"""Frames that carry nothing forward, at once: PING, SETTINGS, empty DATA, tiny WINDOW_UPDATE and the like
(CVE-2019-9511 to 9518)."""
_TRIFLES_PER_SECOND = 1000.0


class Calm:
    """Two leaky buckets. Looks at the clock only once one of them is full."""

    __slots__ = ("_faults", "_faults_at", "_trifles", "_trifles_at")

    def __init__(self) -> None:
        self._faults = 0.0
        self._trifles = 0.0
        self._faults_at = self._trifles_at = time.monotonic()

    def fault(self) -> None:
        """A stream was broken off. ConnectionFault when that was once too often."""
        self._faults += 1
        if self._faults > _FAULTS:
            now = time.monotonic()
            self._faults = max(0.0, self._faults - (now - self._faults_at) * _FAULTS_PER_SECOND)
            self._faults_at = now
            if self._faults > _FAULTS:
                raise ConnectionFault(ENHANCE_YOUR_CALM, "too many broken streams")

    def trifle(self, weight: int = 1) -> None:
        """A frame that carries nothing forward. ConnectionFault when that was once too often."""
        self._trifles += weight
        if self._trifles > _TRIFLES:
            now = time.monotonic()
            self._trifles = max(0.0, self._trifles - (now - self._trifles_at) * _TRIFLES_PER_SECOND)
            self._trifles_at = now
            if self._trifles > _TRIFLES:
                raise ConnectionFault(ENHANCE_YOUR_CALM, "too many frames that carry nothing")
