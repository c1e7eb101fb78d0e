"""Noting when everything that was there at the start has been looked at once."""

import asyncio
from collections.abc import Iterable


class FirstPass:
    """`done` is set when every name given to `begin` has been `seen` since; at once when there is none."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self._pending: set[str] | None = None

    def begin(self, names: Iterable[str]) -> None:
        self._pending = set(names)
        self._update()

    def seen(self, name: str) -> None:
        """Ignored before `begin`."""
        if self._pending is not None:
            self._pending.discard(name)
            self._update()

    def _update(self) -> None:
        if not self._pending:
            self.done.set()
