"""Reading and setting status conditions; a condition's transition time moves only when its status does."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from apimachinery.types import Object

AVAILABLE = "Available"
ConditionStatus = Literal["True", "False", "Unknown"]
STATUSES: tuple[ConditionStatus, ...] = ("True", "False", "Unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a controller found out; the transition time is added when it is set."""

    type: str = AVAILABLE
    status: ConditionStatus
    reason: str
    message: str


def get(obj: Mapping[str, Any], condition_type: str = AVAILABLE) -> Object | None:
    """The condition of this type in `status.conditions`, or None."""
    found: list[Object] = (obj.get("status") or {}).get("conditions") or []
    return next((entry for entry in found if entry.get("type") == condition_type), None)


def is_true(obj: Mapping[str, Any], condition_type: str = AVAILABLE) -> bool:
    """Whether the condition is exactly `True`; a missing condition is not."""
    found = get(obj, condition_type)
    return found is not None and found.get("status") == "True"


def with_condition(status: Mapping[str, Any] | None, condition: Condition, now: float) -> Object:
    """A copy of `status` with the condition set, in place when its type is there already; `now` is epoch seconds."""
    entries: list[Object] = list((status or {}).get("conditions") or [])
    position = next((i for i, entry in enumerate(entries) if entry.get("type") == condition.type), None)
    entry: Object = {
        "type": condition.type,
        "status": condition.status,
        "lastTransitionTime": timestamp(now),
        "reason": condition.reason,
        "message": condition.message,
    }
    if position is None:
        entries.append(entry)
    else:
        old = entries[position]
        if old.get("status") == condition.status and old.get("lastTransitionTime"):
            entry["lastTransitionTime"] = old["lastTransitionTime"]
        entries[position] = entry
    return {**(status or {}), "conditions": entries}


def timestamp(now: float) -> str:
    """API time: RFC 3339 in UTC with whole seconds."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
