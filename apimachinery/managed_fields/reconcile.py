"""Sets of fields that were recorded under another schema."""

from apimachinery.managed_fields import paths
from apimachinery.managed_fields.paths import Element, PathSet
from apimachinery.managed_fields.typed import Type


def reconcile(fields: PathSet, of_type: Type) -> PathSet:
    """The set as the type divides values today: fields in what has become atomic turn into that one field.

    The other way round nothing changes: who owned the whole keeps the field that stands for it.
    """
    members: set[Element] = set(fields.members)
    children: dict[Element, PathSet] = {}
    changed = False
    for element, below in fields.children.items():
        inner = _type_at(element, of_type)
        if inner is not None and _is_atomic(inner):
            members.add(element)
            changed = True
            continue
        children[element] = below if inner is None else reconcile(below, inner)
        changed = changed or children[element] is not below
    return PathSet(frozenset(members), children) if changed else fields


def _type_at(element: Element, of_type: Type) -> Type | None:
    """The type of what is at an element; None when nothing is declared about it."""
    if of_type.map is not None:
        name = element[2:] if paths.is_name(element) else ""
        free = of_type.map.open and not of_type.map.fields
        return of_type.map.member(name) if not free and name and of_type.map.declares(name) else None
    return of_type.list.element if of_type.list is not None else None


def _is_atomic(of_type: Type) -> bool:
    """Whether values are one field. A type that leaves the shape open divides values as they are."""
    if of_type.map is not None:
        return of_type.map.atomic
    return of_type.scalar is None and of_type.list is not None and not of_type.list.associative
