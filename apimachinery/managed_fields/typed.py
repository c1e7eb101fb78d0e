"""How a schema divides a value into fields: which parts are owned one by one, and which only as a whole.

Lists are atomic (one field), sets of scalars, or maps of items by their keys; objects are granular unless declared
atomic. Where the schema says nothing, a value has the shape it shows: objects granular, lists atomic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from apimachinery.managed_fields import paths
from apimachinery.managed_fields.paths import Element
from apimachinery.schema import Schema, with_root_fields

Scalar = Literal["numeric", "string", "boolean", "untyped"]
Shape = Literal["map", "list", "scalar"]


class TypedError(ValueError):
    """A value does not fit its type, so it cannot be compared or merged field by field."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ListType:
    element: "Type"
    associative: bool
    """Whether the items are fields of their own."""
    keys: tuple[str, ...] = ()
    """The members that identify an item; none: the items are scalars that identify themselves."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of keys that an item leaves out."""

    def element_of(self, item: Any) -> Element:
        """The path element of an item of an associative list. TypedError when it has none."""
        return self._keyed(item) if self.keys else _set_element(item)

    def _keyed(self, item: Any) -> Element:
        if item is None:
            raise TypedError("associative list with keys may not have a null element")
        if not isinstance(item, dict):
            raise TypedError("associative list with keys may not have non-map elements")
        found: dict[str, Any] = {}
        for key in self.keys:
            if key in item:
                found[key] = item[key]
            elif self.defaults.get(key) is not None:
                found[key] = self.defaults[key]
        if not found:
            listed = " ".join(f'"{key}"' for key in self.keys)
            raise TypedError(
                f"associative list with keys has an element that omits all key fields [{listed}] "
                "(and doesn't have default values for any key fields)"
            )
        return paths.key(found)


def _set_element(item: Any) -> Element:
    if isinstance(item, dict):
        raise TypedError("associative list without keys has an element that's a map type")
    if isinstance(item, list):
        raise TypedError("not supported: associative list with lists as elements")
    if item is None:
        raise TypedError("associative list without keys has an element that's an explicit null")
    return paths.value(item)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapType:
    fields: Mapping[str, "Type"] = field(default_factory=dict)
    """The declared members."""
    element: "Type | None" = None
    """The type of all other members."""
    open: bool = False
    """Whether other members are anything at all; otherwise, without `element`, they are not declared."""
    atomic: bool = False

    def declares(self, name: str) -> bool:
        return name in self.fields or self.element is not None or self.open

    def member(self, name: str) -> "Type":
        """The type of a member; what is not declared has the shape it shows."""
        return self.fields.get(name) or self.element or DEDUCED


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Type:
    """What a value may be: usually one of the three."""

    scalar: Scalar | None = None
    list: ListType | None = None
    map: MapType | None = None

    def shape(self, value: Any) -> Shape:
        """As what to treat a value: as what it is if the type allows that, otherwise as what the type wants."""
        if isinstance(value, dict):
            if self.map is not None:
                return "map"
        elif isinstance(value, list):
            if self.list is not None:
                return "list"
        elif value is not None and self.scalar is not None:
            return "scalar"
        if self.map is not None:
            return "map"
        return "scalar" if self.scalar is not None else "list"


def _deduced() -> Type:
    """Anything: objects granular, lists atomic. Below it everything has this type again."""
    result = Type(scalar="untyped", list=None, map=MapType(open=True))
    object.__setattr__(result, "list", ListType(element=result, associative=False))
    return result


DEDUCED: Final = _deduced()
UNTYPED: Final = Type(scalar="untyped")
_SCALARS: Final[Mapping[str, Scalar]] = {"integer": "numeric", "number": "numeric", "boolean": "boolean"}


def object_type(schema: Schema) -> Type:
    """The type of objects with this object-level schema; apiVersion, kind and metadata are implied."""
    return compile_type(with_root_fields(schema))


def compile_type(schema: Schema) -> Type:
    """The type of values with this schema."""
    if schema.get("x-kubernetes-int-or-string") is True:
        return UNTYPED
    if schema.get("x-kubernetes-embedded-resource") is True:
        schema = with_root_fields(schema)
    wanted = schema.get("type")
    if wanted == "array":
        return Type(list=_list_type(schema))
    if wanted == "object" or "properties" in schema or "additionalProperties" in schema:
        return Type(map=_map_type(schema))
    if wanted == "string":
        # A format may stand for something that is not always written as text.
        return Type(scalar="string" if schema.get("format", "") in ("", "byte") else "untyped")
    scalar = _SCALARS.get(str(wanted))
    return Type(scalar=scalar) if scalar is not None else DEDUCED


def _map_type(schema: Schema) -> MapType:
    properties: Mapping[str, Schema] = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    preserved = schema.get("x-kubernetes-preserve-unknown-fields") is True or additional is True
    return MapType(
        fields={name: compile_type(found) for name, found in properties.items()},
        element=compile_type(additional) if isinstance(additional, dict) else None,
        open=preserved or not (properties or isinstance(additional, dict)),
        atomic=schema.get("x-kubernetes-map-type") == "atomic",
    )


def _list_type(schema: Schema) -> ListType:
    items: Schema = schema.get("items") or {}
    keys = _keys(schema)
    properties: Mapping[str, Schema] = items.get("properties") or {}
    return ListType(
        element=compile_type(items),
        associative=keys is not None,
        keys=keys or (),
        defaults={key: properties[key]["default"] for key in keys or () if "default" in properties.get(key, {})},
    )


def _keys(schema: Schema) -> tuple[str, ...] | None:
    """The keys of the items: none at all for a set, None for a list that is atomic."""
    declared = schema.get("x-kubernetes-list-type")
    if declared is not None:
        keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        return {"map": keys, "set": ()}.get(declared)
    if "merge" not in str(schema.get("x-kubernetes-patch-strategy", "")).split(","):
        return None
    merge_key = schema.get("x-kubernetes-patch-merge-key")
    return (str(merge_key),) if merge_key else ()
