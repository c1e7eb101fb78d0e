"""Update and Apply over values and sets of fields: the algorithm itself, without entries, times and names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from apimachinery.managed_fields.compare import Comparison, compare, equal
from apimachinery.managed_fields.field_sets import fields_of, with_named_parents
from apimachinery.managed_fields.managers import Managed, Manager, Owned
from apimachinery.managed_fields.merge import merge
from apimachinery.managed_fields.paths import EMPTY, Path, PathSet
from apimachinery.managed_fields.reconcile import reconcile
from apimachinery.managed_fields.remove import remove
from apimachinery.managed_fields.typed import Type


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that an apply would change, and another manager of it."""

    manager: Manager
    path: Path


class ConflictsError(Exception):
    """An apply would change fields of other managers and was not forced. Sorted by manager, then by path."""

    def __init__(self, conflicts: tuple[Conflict, ...]) -> None:
        super().__init__(f"{len(conflicts)} conflicts")
        self.conflicts = conflicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an update or apply goes by."""

    type: Type
    api_version: str
    """The version that the request is made in."""
    serves: Callable[[str], bool]
    """Whether an API version still exists. All versions that do are taken to have the same fields."""
    reset: PathSet = field(default=EMPTY)
    """Fields that the request cannot change: what it says of them is ignored, and it never owns them."""


def update(live: Any, new: Any, managed: Managed, me: Manager, rules: Rules) -> dict[Manager, Owned]:
    """The managers after `live` was replaced by `new`: who made it owns every field that changed.

    TypedError when the objects cannot be compared.
    """
    return record(difference(live, new, rules), managed, me, rules)


def difference(live: Any, new: Any, rules: Rules) -> Comparison:
    """What changes, apart from what cannot. TypedError when the objects cannot be compared."""
    return compare(live, new, rules.type).without(rules.reset)


def record(comparison: Comparison, managed: Managed, me: Manager, rules: Rules) -> dict[Manager, Owned]:
    """The managers after an update that made this difference."""
    result = _settled(comparison, _current(managed, rules), me, force=True)
    mine = result.pop(me).fields if me in result else EMPTY
    mine = (mine - comparison.removed) | comparison.modified | comparison.added
    mine = mine.without_subtrees(rules.reset)
    if mine:
        result[me] = Owned(fields=mine, api_version=rules.api_version, time=_time(managed, me))
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What an apply makes: the new value and its managers. `changed`: whether the value differs from the live one."""

    value: Any
    managed: Mapping[Manager, Owned]
    changed: bool


def apply(live: Any, config: Any, managed: Managed, me: Manager, rules: Rules, *, force: bool) -> Applied:
    """Make the live value say what `config` says.

    Fields that `me` applied earlier and does not apply now are removed, unless somebody else owns them. ConflictsError
    when a field of another manager would change and `force` is not given. TypedError when the live value cannot be
    merged. `config` must be valid.
    """
    managers = _current(managed, rules)
    last = managers[me].fields if me in managers else EMPTY
    mine = fields_of(config, rules.type).without_subtrees(rules.reset)
    managers[me] = Owned(fields=mine, api_version=rules.api_version, time=_time(managed, me))
    value = merge(live, config, rules.type)
    if last - mine:
        # What lost everything is null now; where the configuration wants it empty, it shall be empty.
        value = merge(_pruned(value, managers, last, rules), config, rules.type)
    comparison = difference(live, value, rules)
    return Applied(
        value=value,
        managed=_settled(comparison, managers, me, force=force),
        changed=not equal(live, value),
    )


def _time(managed: Managed, me: Manager) -> str:
    return managed[me].time if me in managed else ""


def _current(managed: Managed, rules: Rules) -> dict[Manager, Owned]:
    """The managers with their fields as today's schema divides them."""
    result: dict[Manager, Owned] = {}
    for manager, owned in managed.items():
        # Fields in a version that is gone mean nothing any more.
        if rules.serves(owned.api_version):
            fields = reconcile(owned.fields, rules.type)
            result[manager] = owned if fields is owned.fields else replace(owned, fields=fields)
    return result


def _settled(comparison: Comparison, managed: Managed, me: Manager, *, force: bool) -> dict[Manager, Owned]:
    """The managers when the others have lost what changes. ConflictsError when they must not lose it."""
    changed = comparison.modified | comparison.added
    taken = {other: owned.fields & changed for other, owned in managed.items() if other != me}
    if not force and any(taken.values()):
        losers = sorted((other for other in taken if taken[other]), key=lambda other: other.identity)
        raise ConflictsError(tuple(Conflict(other, path) for other in losers for path in taken[other]))
    result: dict[Manager, Owned] = {}
    for manager, owned in managed.items():
        fields = owned.fields
        if manager != me:
            fields = fields - taken[manager] - comparison.removed
        if fields:
            result[manager] = owned if fields is owned.fields else replace(owned, fields=fields)
    return result


def _pruned(merged: Any, managers: Managed, last: PathSet, rules: Rules) -> Any:
    """The merged value without what was applied last time and nobody owns now."""

    def named(fields: PathSet) -> PathSet:
        return with_named_parents(fields, rules.type)

    def fields_in(value: Any) -> PathSet:
        return named(fields_of(value, rules.type))

    everything = fields_in(merged)
    without_last = remove(merged, named(last), rules.type)
    owned = EMPTY
    for other in managers.values():
        owned |= other.fields
    kept = remove(merged, everything - (fields_in(without_last) | named(owned)), rules.type)
    # Removing an item removes all of it. Only what was applied may go, not what nobody owns.
    return remove(merged, (everything - fields_in(kept)) & named(last), rules.type)
