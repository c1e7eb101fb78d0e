"""Answers that count for a while."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class TTLCache(Generic[V]):
    """Values by key, each until its time is over; the least recently used go when it is full. `now` is in seconds."""

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self._limit = limit
        self._now = now
        self._known: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        found = self._known.get(key)
        if found is None:
            return None
        if found[0] <= self._now():
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return found[1]

    def put(self, key: Hashable, value: V, seconds: float) -> None:
        self._known[key] = (self._now() + seconds, value)
        self._known.move_to_end(key)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)

    def clear(self) -> None:
        self._known.clear()
