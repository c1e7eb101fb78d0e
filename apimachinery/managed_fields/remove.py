"""Removing fields from a value."""

from typing import Any

from apimachinery.managed_fields import paths
from apimachinery.managed_fields.paths import PathSet
from apimachinery.managed_fields.typed import ListType, MapType, Type


def remove(value: Any, fields: PathSet, of_type: Type) -> Any:
    """The value without these members and items; it shares parts with the argument, which stays as it is.

    A container that loses everything in this way becomes null, which is not the same as one that is removed itself.
    """
    if not fields:
        return value
    match of_type.shape(value):
        case "map":
            assert of_type.map is not None
            return _without_members(value, fields, of_type.map)
        case "list":
            assert of_type.list is not None
            return _without_items(value, fields, of_type.list)
    return value


def _without_members(value: Any, fields: PathSet, of_type: MapType) -> Any:
    if not isinstance(value, dict) or of_type.atomic:
        return None
    result: dict[str, Any] = {}
    for name, item in value.items():
        element = paths.name(name)
        if element not in fields.members:
            below = fields.below(element)
            result[name] = remove(item, below, of_type.member(name)) if below else item
    return result or None


def _without_items(value: Any, fields: PathSet, of_type: ListType) -> Any:
    if not isinstance(value, list) or not of_type.associative:
        return None
    result: list[Any] = []
    for item in value:
        element = of_type.element_of(item)
        if element not in fields.members:
            below = fields.below(element)
            result.append(remove(item, below, of_type.element) if below else item)
    return result or None
