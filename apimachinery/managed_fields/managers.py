"""Who manages fields, and the entries of `metadata.managedFields` in which that is kept."""

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson

from apimachinery.field_errors import quote
from apimachinery.managed_fields import fieldsv1
from apimachinery.managed_fields.paths import PathSet
from apimachinery.types import Object

Operation = Literal["Apply", "Update"]

BEFORE_FIRST_APPLY: Final = "before-first-apply"
"""Manager of what was there, unmanaged, when an object was applied for the first time."""
ANCIENT_CHANGES: Final = "ancient-changes"
"""Manager that the oldest updates are merged into."""
MAX_UPDATE_MANAGERS: Final = 10
_FIELDS_TYPE: Final = "FieldsV1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """An identity under which fields are owned. The same name applying and updating are two managers."""

    name: str
    operation: Operation
    api_version: str = ""
    """Empty for appliers: whatever version they apply in, it is the same manager."""
    subresource: str = ""

    @property
    def applies(self) -> bool:
        return self.operation == "Apply"

    @property
    def identity(self) -> str:
        """The text that managers are sorted by."""
        parts = (
            ("manager", self.name),
            ("operation", self.operation),
            ("apiVersion", self.api_version),
            ("subresource", self.subresource),
        )
        return orjson.dumps({name: text for name, text in parts if text}).decode()

    def __str__(self) -> str:
        """As conflicts name a manager: `"kubectl-edit" using apps/v1`."""
        text = quote(self.name)
        if self.subresource:
            text += f" with subresource {quote(self.subresource)}"
        return text if self.applies else f"{text} using {self.api_version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """What a manager owns: fields in the paths of an API version, since a time (RFC 3339 in UTC; empty: unknown)."""

    fields: PathSet
    api_version: str
    time: str = ""


Managed = Mapping[Manager, Owned]


def applier(name: str, subresource: str = "") -> Manager:
    return Manager(name=name, operation="Apply", subresource=subresource)


def updater(name: str, api_version: str, subresource: str = "") -> Manager:
    return Manager(name=name, operation="Update", api_version=api_version, subresource=subresource)


def decode(entries: Any) -> dict[Manager, Owned]:
    """The managers of a `metadata.managedFields` list. ValueError when one of its entries makes no sense."""
    found: dict[Manager, Owned] = {}
    for position, entry in enumerate(entries or ()):
        if not isinstance(entry, dict):
            raise ValueError(f"managed fields entry {position} is not an object")
        operation, version = entry.get("operation"), entry.get("apiVersion") or ""
        if operation not in ("Apply", "Update"):
            raise ValueError("operation must be `Apply` or `Update`")
        if not version:
            raise ValueError("apiVersion must not be empty")
        fields_type = entry.get("fieldsType") or ""
        if fields_type != _FIELDS_TYPE:
            what = f"invalid fieldsType {quote(fields_type)}" if fields_type else "missing fieldsType"
            raise ValueError(f"{what} in managed fields entry {position}")
        manager = Manager(
            name=entry.get("manager") or "",
            operation=operation,
            api_version="" if operation == "Apply" else version,
            subresource=entry.get("subresource") or "",
        )
        fields = fieldsv1.decode(entry.get("fieldsV1"))
        found[manager] = Owned(fields=fields, api_version=version, time=_seconds(entry.get("time") or ""))
    return found


def _seconds(time: str) -> str:
    """A time in UTC with whole seconds, so that times compare as text. ValueError when it is none."""
    if not time or (len(time) == 20 and time.endswith("Z")):
        return time
    moment = datetime.fromisoformat(time.upper().replace("Z", "+00:00"))
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def encode(managed: Managed) -> list[Object]:
    """The list for `metadata.managedFields`: appliers before updaters, then by time, name, version, subresource."""
    ordered = sorted(
        managed.items(),
        key=lambda item: (
            item[0].operation,
            item[1].time,
            item[0].name,
            item[1].api_version,
            item[0].subresource,
        ),
    )
    return [_entry(manager, owned) for manager, owned in ordered]


def _entry(manager: Manager, owned: Owned) -> Object:
    entry: Object = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": owned.api_version,
        "time": owned.time,
        "fieldsType": _FIELDS_TYPE,
        "fieldsV1": fieldsv1.encode(owned.fields),
        "subresource": manager.subresource,
    }
    optional = ("manager", "time", "subresource")
    return {name: value for name, value in entry.items() if value or name not in optional}


def same_but_times(one: Sequence[Object], other: Sequence[Object]) -> bool:
    """Whether two lists of entries differ in nothing but when."""
    return len(one) == len(other) and all(
        {**ours, "time": ""} == {**theirs, "time": ""} for ours, theirs in zip(one, other, strict=True)
    )


def is_reset(entries: Any) -> bool:
    """Whether a list sent by a client asks to forget all managers: an empty one, or one empty entry."""
    return isinstance(entries, list) and (not entries or entries == [{}])


def capped(managed: Managed, limit: int = MAX_UPDATE_MANAGERS) -> dict[Manager, Owned]:
    """At most `limit` updaters, as far as they have versions in common: the oldest of a version become one."""
    result = dict(managed)
    updaters = sorted(
        (manager for manager in managed if not manager.applies), key=lambda one: (managed[one].time, one.identity)
    )
    excess = len(updaters) - limit
    oldest: dict[str, Manager] = {}
    for manager in updaters:
        if excess <= 0:
            break
        version = managed[manager].api_version
        bucket = updater(ANCIENT_CHANGES, version)
        if oldest.setdefault(version, manager) is manager:
            continue
        before = len(result)
        # The oldest one starts the bucket; its turn to be merged comes with the second.
        parts = [result.pop(one) for one in {oldest[version], bucket, manager} if one in result]
        fields = functools.reduce(operator.or_, (part.fields for part in parts))
        result[bucket] = Owned(fields=fields, api_version=version, time=max(part.time for part in parts))
        oldest[version] = bucket
        excess -= before - len(result)
    return result
