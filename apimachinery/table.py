"""`meta.k8s.io` Table and PartialObjectMetadata documents (rest.md A1.3, A1.4), and ages as kubectl shows them."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from apimachinery import status
from apimachinery.field_errors import quote
from apimachinery.types import Object

IncludeObject = Literal["None", "Metadata", "Object"]

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_YEAR = 365 * _DAY

UNKNOWN_AGE: Final = "<unknown>"
INVALID_AGE: Final = "<invalid>"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    type: str
    """An OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`."""
    cell: Callable[[Object, float], Any]
    """The JSON value to show for an object, given the time in seconds since the epoch."""
    _: KW_ONLY
    format: str = ""
    """`name` marks the column that identifies the object; other values are OpenAPI formats."""
    description: str = ""
    priority: int = 0
    """0 is always shown, anything greater only in wide output."""

    def definition(self) -> Object:
        """The entry of `columnDefinitions`."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


def _two_units(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def human_duration(seconds: float) -> str:
    """A duration in at most two units, coarser the longer it is (aggregator.md 1.5).

    Clocks differ: up to two seconds of future still count as `0s`, more is `<invalid>`.
    """
    whole = int(seconds)
    if whole < 0:
        return "0s" if whole >= -1 else INVALID_AGE
    if whole < 2 * _MINUTE:
        text = f"{whole}s"
    elif whole < 10 * _MINUTE:
        text = _two_units(whole // _MINUTE, "m", whole % _MINUTE, "s")
    elif whole < 3 * _HOUR:
        text = f"{whole // _MINUTE}m"
    elif whole < 8 * _HOUR:
        text = _two_units(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "m")
    elif whole < 2 * _DAY:
        text = f"{whole // _HOUR}h"
    elif whole < 8 * _DAY:
        text = _two_units(whole // _DAY, "d", whole % _DAY // _HOUR, "h")
    elif whole < 2 * _YEAR:
        text = f"{whole // _DAY}d"
    elif whole < 8 * _YEAR:
        text = _two_units(whole // _YEAR, "y", whole % _YEAR // _DAY, "d")
    else:
        text = f"{whole // _YEAR}y"
    return text


def age(obj: Object, now: float) -> str:
    """How long ago an object was created, from `metadata.creationTimestamp` (RFC 3339); `<unknown>` without one."""
    created = obj.get("metadata", {}).get("creationTimestamp")
    if not created:
        return UNKNOWN_AGE
    try:
        moment = datetime.fromisoformat(created)
    except (TypeError, ValueError):
        return UNKNOWN_AGE
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return human_duration(now - moment.timestamp())


def _name(obj: Object, _now: float) -> str:
    return str(obj.get("metadata", {}).get("name", ""))


NAME_COLUMN: Final = Column(
    "Name",
    "string",
    _name,
    format="name",
    description="The name of the object, unique among the objects of its resource in a namespace. It cannot change.",
)
AGE_COLUMN: Final = Column(
    "Age",
    "string",
    age,
    description="The time since the server created the object. It is set by the server and cannot be changed.",
)
DEFAULT_COLUMNS: Final = (NAME_COLUMN, AGE_COLUMN)


def parse_include_object(text: str) -> IncludeObject:
    """The `includeObject` query parameter; empty means Metadata. APIError 400 for an unknown word."""
    match text:
        case "" | "Metadata":
            return "Metadata"
        case "None":
            return "None"
        case "Object":
            return "Object"
        case _:
            fault = f"Invalid value: {quote(text)}: must be 'Metadata', 'Object', 'None', or empty"
            raise status.bad_request(f"Unable to convert to Table as requested: includeObject: {fault}")


def partial_object_metadata(obj: Object, *, version: str = "v1") -> Object:
    """The object reduced to its metadata."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": obj.get("metadata", {}),
    }


def partial_object_metadata_list(list_meta: Object, objects: Sequence[Object], *, version: str = "v1") -> Object:
    """A list reduced to the metadata of its items; `list_meta` is the list's own metadata."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": list_meta,
        "items": [partial_object_metadata(obj, version=version) for obj in objects],
    }


def build(
    columns: Sequence[Column],
    objects: Sequence[Object],
    *,
    list_meta: Object,
    now: float,
    include_object: IncludeObject = "Metadata",
    version: str = "v1",
    headers: bool = True,
) -> Object:
    """A Table with one row per object, in the order given.

    `list_meta` carries resourceVersion, continue and remainingItemCount of the list (for one object: its
    resourceVersion). `now` is in seconds since the epoch. Without `headers` the column definitions stay empty, as in
    all but the first event of a watch.
    """

    def row_object(obj: Object) -> Object | None:
        match include_object:
            case "None":
                return None
            case "Metadata":
                return partial_object_metadata(obj, version=version)
            case "Object":
                return obj

    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": list_meta,
        "columnDefinitions": [column.definition() for column in columns] if headers else [],
        "rows": [
            {"cells": [column.cell(obj, now) for column in columns], "object": row_object(obj)} for obj in objects
        ],
    }
