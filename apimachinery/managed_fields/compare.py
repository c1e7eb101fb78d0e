"""What differs between two values, as sets of fields."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from apimachinery.managed_fields import paths
from apimachinery.managed_fields.paths import EMPTY, Element, Path, PathSet
from apimachinery.managed_fields.typed import ListType, MapType, Shape, Type


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """No field is in two of the sets. All are empty when the values are equal."""

    removed: PathSet = EMPTY
    """Fields that only the old value has."""
    modified: PathSet = EMPTY
    """Fields that both have, with different values."""
    added: PathSet = EMPTY
    """Fields that only the new value has."""

    @property
    def same(self) -> bool:
        return not (self.removed or self.modified or self.added)

    def without(self, fields: PathSet) -> "Comparison":
        """The comparison that does not look at these fields and what is in them."""
        if not fields:
            return self
        return Comparison(
            removed=self.removed.without_subtrees(fields),
            modified=self.modified.without_subtrees(fields),
            added=self.added.without_subtrees(fields),
        )


def compare(old: Any, new: Any, of_type: Type) -> Comparison:
    """How to get from `old` to `new`. Atomic lists and objects count as one field.

    TypedError when an item of an associative list has no key.
    """
    walk = _Walk()
    walk.values(old, new, of_type)
    return Comparison(
        removed=PathSet.of(walk.removed), modified=PathSet.of(walk.modified), added=PathSet.of(walk.added)
    )


def equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same. Numbers compare by value, and no number is a boolean."""
    if isinstance(one, dict):
        if not isinstance(other, dict) or one.keys() != other.keys():
            return False
        return all(equal(item, other[name]) for name, item in one.items())
    if isinstance(one, list):
        same_length = isinstance(other, list) and len(one) == len(other)
        return same_length and all(map(equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


class _Absent:
    """The type of ABSENT."""


ABSENT: Final = _Absent()


@dataclass(slots=True)
class _Walk:
    """Walks two values side by side; at each step at most one of them is ABSENT."""

    removed: list[Path] = field(default_factory=list)
    modified: list[Path] = field(default_factory=list)
    added: list[Path] = field(default_factory=list)
    path: list[Element] = field(default_factory=list)

    def values(self, old: Any, new: Any, of_type: Type) -> None:
        if old is new:
            return
        shapes: tuple[Shape, ...]
        if new is ABSENT:
            shapes = (of_type.shape(old),)
        elif old is ABSENT:
            shapes = (of_type.shape(new),)
        else:
            before, after = of_type.shape(old), of_type.shape(new)
            # A value that changed its shape is looked at as either.
            shapes = (before,) if before == after else (before, after)
        for shape in shapes:
            if not self._inside(shape, old, new, of_type):
                self._leaf(old, new)
            elif old is ABSENT or new is ABSENT:
                self._note(self.added if old is ABSENT else self.removed)

    def _inside(self, shape: Shape, old: Any, new: Any, of_type: Type) -> bool:
        """Compare what is in the values; False when they are one field as a whole."""
        if shape == "map":
            assert of_type.map is not None
            before, after = _as(dict, old), _as(dict, new)
            if of_type.map.atomic or not (before or after):
                return False
            self._members(before, after, of_type.map)
            return True
        if shape == "list":
            assert of_type.list is not None
            items, wanted = _as(list, old), _as(list, new)
            if not of_type.list.associative or not (items or wanted):
                return False
            self._items(items, wanted, of_type.list)
            return True
        return False

    def _leaf(self, old: Any, new: Any) -> None:
        if old is ABSENT:
            self._note(self.added)
        elif new is ABSENT:
            self._note(self.removed)
        elif not equal(old, new):
            self._note(self.modified)

    def _note(self, where: list[Path]) -> None:
        where.append(tuple(self.path))

    def _members(self, old: dict[str, Any], new: dict[str, Any], of_type: MapType) -> None:
        for name in (*old, *(name for name in new if name not in old)):
            before, after = old.get(name, ABSENT), new.get(name, ABSENT)
            if before is not after:
                self.path.append(paths.name(name))
                self.values(before, after, of_type.member(name))
                self.path.pop()

    def _items(self, old: list[Any], new: list[Any], of_type: ListType) -> None:
        before, after = _by_element(old, of_type), _by_element(new, of_type)
        for element in (*before, *(element for element in after if element not in before)):
            ours, theirs = before.get(element, []), after.get(element, [])
            self.path.append(element)
            self._same_key(ours, theirs, of_type.element)
            self.path.pop()

    def _same_key(self, old: list[Any], new: list[Any], of_type: Type) -> None:
        """Compare the items with one key. Items that share their key are one field, as a whole."""
        if len(old) <= 1 and len(new) <= 1:
            self.values(_first(old), _first(new), of_type)
        elif len(old) > 1 and len(new) > 1:
            self._leaf(old, new)
        elif len(old) > 1:
            if new:
                self.values(ABSENT, new[0], of_type)
            self._note(self.removed)
        else:
            if old:
                self.values(old[0], ABSENT, of_type)
            self._note(self.added)


def _as(container: type[Any], value: Any) -> Any:
    """The value if it is such a container, otherwise an empty one."""
    return value if isinstance(value, container) else container()


def _first(items: list[Any]) -> Any:
    return items[0] if items else ABSENT


def _by_element(items: Iterable[Any], of_type: ListType) -> dict[Element, list[Any]]:
    found: dict[Element, list[Any]] = {}
    for item in items:
        found.setdefault(of_type.element_of(item), []).append(item)
    return found
