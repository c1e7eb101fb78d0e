"""FieldsV1: how a set of fields is written in `metadata.managedFields`.

Each element of a path is a member of nested objects. An element that is a member of the set is `{}`; if it also has
members below it, its object holds `"."`. `{"f:spec":{"f:size":{},"f:parts":{".":{},"k:{\\"name\\":\\"a\\"}":{}}}}`.
"""

from typing import Any, Final

from apimachinery.managed_fields.paths import EMPTY, Element, PathSet, parse, sort_key
from apimachinery.types import Object

_SELF: Final = "."
_DEPTH_LIMIT: Final = 200


def encode(fields: PathSet) -> Object:
    """The document of a set: `.` first, then the elements in their order."""
    document: Object = {}
    for element in sorted(fields.members | fields.children.keys(), key=sort_key):
        child = fields.children.get(element)
        if child is None:
            document[element] = {}
        else:
            document[element] = {_SELF: {}, **encode(child)} if element in fields.members else encode(child)
    return document


def decode(document: Any) -> PathSet:
    """The set that a document describes; null is the empty set. ValueError when it is no such document.

    What is below `.` does not matter, and an element without anything below it is a member.
    """
    return EMPTY if document is None else _decode(document, 0)


def _decode(document: Any, depth: int) -> PathSet:
    if not isinstance(document, dict):
        raise ValueError(f"expected an object of fields, got {type(document).__name__}")
    if depth > _DEPTH_LIMIT:
        raise ValueError("exceeded max depth")
    members: set[Element] = set()
    children: dict[Element, PathSet] = {}
    for text, inner in document.items():
        if text == _SELF:
            continue
        element = parse(text)
        if inner == {} or (isinstance(inner, dict) and _SELF in inner):
            members.add(element)
        if inner != {}:
            below = _decode(inner, depth + 1)
            if below:
                children[element] = children.get(element, EMPTY) | below
    return PathSet(frozenset(members), children)
