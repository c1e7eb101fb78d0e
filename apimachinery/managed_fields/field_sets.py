"""The fields of a value."""

from typing import Any

from apimachinery.managed_fields import paths
from apimachinery.managed_fields.paths import EMPTY, Element, PathSet, tree
from apimachinery.managed_fields.typed import DEDUCED, ListType, MapType, Type


def fields_of(value: Any, of_type: Type) -> PathSet:
    """Every leaf of a value, every item of its associative lists and every member of its maps.

    Nulls and empty objects count as leaves; so do atomic lists and objects, as a whole. TypedError when an item of an
    associative list has no key.
    """
    return _fields(value, of_type)[1]


def _fields(value: Any, of_type: Type) -> tuple[bool, PathSet]:
    """Whether the value is a field itself, and the fields in it."""
    match of_type.shape(value):
        case "map":
            assert of_type.map is not None
            return _map_fields(value, of_type.map)
        case "list":
            assert of_type.list is not None
            return _list_fields(value, of_type.list)
    return True, EMPTY


def _map_fields(value: Any, of_type: MapType) -> tuple[bool, PathSet]:
    if of_type.atomic:
        return True, EMPTY
    if not isinstance(value, dict):
        return False, EMPTY
    members: set[Element] = set()
    children: dict[Element, PathSet] = {}
    for name, item in value.items():
        element = paths.name(name)
        is_field, inside = _fields(item, of_type.member(name))
        # Members of a map come and go, unlike those of a struct: that there is one says something.
        if is_field or item is None or item == {} or name not in of_type.fields:
            members.add(element)
        if inside:
            children[element] = inside
    return False, PathSet(frozenset(members), children)


def _list_fields(value: Any, of_type: ListType) -> tuple[bool, PathSet]:
    if not of_type.associative:
        return True, EMPTY
    if not isinstance(value, list):
        return False, EMPTY
    members: set[Element] = set()
    children: dict[Element, PathSet] = {}
    for item in value:
        element = of_type.element_of(item)
        if element in members:
            # Items that share a key cannot be told apart, so they are owned together, as a whole.
            children.pop(element, None)
            continue
        members.add(element)
        children[element] = _fields(item, of_type.element)[1]
    return False, tree(frozenset(members), children)


def with_named_parents(fields: PathSet, of_type: Type | None) -> PathSet:
    """The set with every declared member of an object added that has a field of the set in it."""
    members = set(fields.members)
    children: dict[Element, PathSet] = {}
    for element, inside in fields.children.items():
        inner: Type | None = None
        if of_type is not None and of_type.map is not None and paths.is_name(element):
            name = element[2:]
            if name in of_type.map.fields:
                members.add(element)
            inner = of_type.map.member(name) if of_type.map.declares(name) else None
        elif of_type is not None and of_type.list is not None and element.startswith("k:"):
            inner = of_type.list.element
        # Below an undeclared member there are no declared ones, which DEDUCED says as well.
        children[element] = with_named_parents(inside, None if inner is DEDUCED else inner)
    return PathSet(frozenset(members), children)
