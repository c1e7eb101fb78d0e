"""The objects of one resource in memory, always in list order."""

from bisect import bisect_left
from collections.abc import Iterable

from apiserver.storage.base import Event, Key, Stored


class Table:
    """Lookup by key in constant time; the sorted tuple of a list is built once per change, then shared."""

    __slots__ = ("_by_key", "_lists", "_order", "_values")

    def __init__(self, items: Iterable[Stored] = ()) -> None:
        self._values = sorted(items, key=lambda stored: _position(stored.key))
        self._order = [_position(stored.key) for stored in self._values]
        self._by_key = dict(zip(self._order, self._values, strict=True))
        self._lists: dict[str, tuple[Stored, ...]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> Stored | None:
        return self._by_key.get(_position(key))

    def list(self, namespace: str) -> tuple[Stored, ...]:
        """All objects in key order; those of one namespace unless `namespace` is empty."""
        items = self._lists.get(namespace)
        if items is None:
            items = tuple(self._values[self._range(namespace)])
            if items:
                # Empty lists are not kept: anybody can ask for any number of namespaces that do not exist.
                self._lists[namespace] = items
        return items

    def apply(self, event: Event) -> None:
        self._set(event.current.key, None if event.type == "DELETED" else event.current)

    def undo(self, event: Event) -> None:
        """Go back to the state before `event`, the newest one."""
        self._set(event.current.key, event.previous)

    def copy(self) -> "Table":
        other = Table()
        other._values = self._values.copy()
        other._order = self._order.copy()
        other._by_key = self._by_key.copy()
        return other

    def _set(self, key: Key, stored: Stored | None) -> None:
        self._lists.clear()
        position = _position(key)
        index = bisect_left(self._order, position)
        exists = position in self._by_key
        if stored is None:
            if exists:
                del self._by_key[position], self._order[index], self._values[index]
            return
        self._by_key[position] = stored
        if exists:
            self._values[index] = stored
        else:
            self._order.insert(index, position)
            self._values.insert(index, stored)

    def _range(self, namespace: str) -> slice:
        if not namespace:
            return slice(None)
        # "\0" makes the smallest string that is greater than the namespace.
        return slice(bisect_left(self._order, (namespace, "")), bisect_left(self._order, (namespace + "\0", "")))


def _position(key: Key) -> tuple[str, str]:
    return (key.namespace, key.name)
