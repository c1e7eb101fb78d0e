"""The order of a merged list: what the patch asks for, with the items it does not mention at their old neighbours."""

from typing import Any

from apimachinery import status
from apimachinery.field_errors import render_value

Items = list[Any]


def identity(value: Any) -> tuple[str, Any]:
    """What tells scalars apart: `1`, `true` and `"1"` differ. APIError 400 for an object or array."""
    if isinstance(value, dict | list):
        raise status.bad_request("invalid patch format of primitive list")
    return ("number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__, value)


def key_of(item: Any, key: str) -> tuple[str, Any]:
    """The identity of an item by its merge key, or its own when `key` is empty. APIError 400 without the key."""
    if not key:
        return identity(item)
    if not isinstance(item, dict) or isinstance(item.get(key), dict | list | None):
        raise status.bad_request(f"list item does not contain declared merge key: {render_value(key)}")
    return identity(item[key])


def check(patch: Items, order: Items, key: str) -> None:
    """The items of a patch list must be a subset of its element order, in that order; otherwise APIError 422.

    Items with a `$patch` directive do not count, and an empty order asks for nothing.
    """
    if not order:
        return
    remaining = iter(key_of(item, key) for item in order)
    for item in patch:
        if isinstance(item, dict) and "$patch" in item:
            continue
        wanted = key_of(item, key)
        if wanted not in remaining:
            raise status.patch_not_applicable()


def arrange(items: Items, order: Items, previous: Items, key: str) -> Items:
    """The items in `order`; those absent from it keep their order and their place among their `previous` neighbours."""
    ranks = _ranks(order, key)
    before = _ranks(previous, key)
    last = len(before)
    ordered = sorted((item for item in items if key_of(item, key) in ranks), key=lambda item: ranks[key_of(item, key)])
    others = sorted(
        (item for item in items if key_of(item, key) not in ranks), key=lambda item: before.get(key_of(item, key), last)
    )
    result: Items = []
    position = 0
    for item in ordered:
        place = before.get(key_of(item, key))
        while place is not None and position < len(others) and before.get(key_of(others[position], key), last) < place:
            result.append(others[position])
            position += 1
        result.append(item)
    return result + others[position:]


def _ranks(items: Items, key: str) -> dict[tuple[str, Any], int]:
    ranks: dict[tuple[str, Any], int] = {}
    for position, item in enumerate(items):
        ranks.setdefault(key_of(item, key), position)
    return ranks
