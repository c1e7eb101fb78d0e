"""Whether a configuration fits its type, in the words of the originals."""

from typing import Any, NamedTuple

from apimachinery.field_errors import quote
from apimachinery.managed_fields import paths
from apimachinery.managed_fields.paths import Element, Path
from apimachinery.managed_fields.typed import ListType, MapType, Scalar, Type, TypedError


class Fault(NamedTuple):
    path: Path
    message: str

    def __str__(self) -> str:
        return f"{paths.text_of(self.path)}: {self.message}" if self.path else self.message


def validate(value: Any, of_type: Type) -> list[Fault]:
    """Members that are not declared, items without or with equal keys, values of the wrong kind. Null fits anywhere."""
    match of_type.shape(value):
        case "map":
            assert of_type.map is not None
            return _map_faults(value, of_type.map)
        case "list":
            assert of_type.list is not None
            return _list_faults(value, of_type.list)
    assert of_type.scalar is not None
    message = _scalar_fault(value, of_type.scalar)
    return [Fault((), message)] if message else []


def text_of(faults: list[Fault]) -> str:
    """All faults in one text: a single one as it is, several as a list."""
    if len(faults) == 1:
        return str(faults[0])
    return "\n".join(["errors:", *(f"  {fault}" for fault in faults)])


def _below(element: Element, faults: list[Fault]) -> list[Fault]:
    return [Fault((element, *fault.path), fault.message) for fault in faults]


def _map_faults(value: Any, of_type: MapType) -> list[Fault]:
    if value is None:
        return []
    if not isinstance(value, dict):
        return [Fault((), f"expected map, got &{{{_go_text(value)}}}")]
    faults: list[Fault] = []
    for name, item in value.items():
        element = paths.name(name)
        if of_type.declares(name):
            faults += _below(element, validate(item, of_type.member(name)))
        else:
            faults.append(Fault((element,), "field not declared in schema"))
    return faults


def _list_faults(value: Any, of_type: ListType) -> list[Fault]:
    if value is None:
        return []
    if not isinstance(value, list):
        return [Fault((), f"expected list, got &{{{_go_text(value)}}}")]
    faults: list[Fault] = []
    seen: set[Element] = set()
    for position, item in enumerate(value):
        element = paths.index(position)
        if of_type.associative:
            try:
                element = of_type.element_of(item)
            except TypedError as error:
                # Without its key nothing more can be said about this item.
                return [*faults, Fault((), f"element {position}: {error}")]
            if element in seen:
                faults.append(Fault((), f"duplicate entries for key {paths.text_of((element,))}"))
            seen.add(element)
        faults += _below(element, validate(item, of_type.element))
    return faults


def _scalar_fault(value: Any, wanted: Scalar) -> str:
    if value is None:
        return ""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match wanted:
        case "numeric" if not is_number:
            return f"expected numeric (int or float), got {_go_type(value)}"
        case "string" if not isinstance(value, str):
            return f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
        case "boolean" if not isinstance(value, bool):
            return f"expected boolean, got &{{{_go_text(value)}}}"
        case "untyped" if isinstance(value, dict | list):
            return f"expected any scalar, got &{{{_go_text(value)}}}"
    return ""


def _go_type(value: Any) -> str:
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list):
        return "[]interface {}"
    return "bool" if isinstance(value, bool) else "string"


def _go_text(value: Any) -> str:
    """A value as Go prints it plainly."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{name}:{_go_text(value[name])}" for name in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_go_text, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)


def _go_syntax(value: Any) -> str:
    """A value as Go writes it in source."""
    if isinstance(value, dict):
        inner = ", ".join(f"{quote(name)}:{_go_syntax(value[name])}" for name in sorted(value))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(map(_go_syntax, value))}}}"
    if isinstance(value, str):
        return quote(value)
    return "interface {}(nil)" if value is None else _go_text(value)
