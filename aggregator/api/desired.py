"""What to do with an APIService that this server manages: the reconcile table of aggregator.md 6.2. Pure."""

import enum
from dataclasses import dataclass

from aggregator.api import references
from aggregator.api.apiservice import AUTOMANAGED_LABEL
from apimachinery.types import Object


class Mode(enum.Enum):
    """How long this server insists on an APIService; the value is the label's."""

    ON_START = "onstart"
    ALWAYS = "true"


class Action(enum.Enum):
    NOTHING = "nothing"
    CREATE = "create"
    UPDATE_SPEC = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """An APIService that should exist, and for how long this server sees to it."""

    apiservice: Object
    mode: Mode
    takes_over: bool = False
    """Also replaces, at the start, an object that nobody marked as managed: what is bundled is served here."""

    @property
    def name(self) -> str:
        name: str = self.apiservice["metadata"]["name"]
        return name

    @property
    def labelled(self) -> Object:
        """The object to create: the desired one, marked as managed."""
        metadata = self.apiservice["metadata"]
        labels = {**(metadata.get("labels") or {}), AUTOMANAGED_LABEL: self.mode.value}
        return {**self.apiservice, "metadata": {**metadata, "labels": labels}}


def managed_mode(apiservice: Object) -> Mode | None:
    """The mode that an object's label names; any other label value means that the object is not managed."""
    label = (apiservice["metadata"].get("labels") or {}).get(AUTOMANAGED_LABEL)
    return next((mode for mode in Mode if mode.value == label), None)


def decide(current: Object | None, desired: Desired | None, *, at_start: bool, synced: bool) -> Action:
    """The one action that brings an object closer to what is desired.

    `at_start`: the object existed when this process began to manage. `synced`: this process has already reconciled the
    name without an error; what is managed `onstart` is left alone from then on.
    """
    if current is None:
        return _decide_missing(desired, synced=synced)
    mode = managed_mode(current)
    if mode is None:
        taken = desired is not None and desired.takes_over and at_start and not synced
        if not taken or desired is None or same_spec(current, desired.apiservice):
            return Action.NOTHING
        return Action.UPDATE_SPEC
    if mode is Mode.ON_START and not at_start:
        return Action.NOTHING
    once = mode is Mode.ON_START or (desired is not None and desired.mode is Mode.ON_START)
    if once and synced:
        return Action.NOTHING
    if desired is None:
        return Action.DELETE
    return Action.NOTHING if same_spec(current, desired.apiservice) else Action.UPDATE_SPEC


def _decide_missing(desired: Desired | None, *, synced: bool) -> Action:
    if desired is None or (desired.mode is Mode.ON_START and synced):
        return Action.NOTHING
    return Action.CREATE


def same_spec(left: Object, right: Object) -> bool:
    """Whether two APIServices mean the same; a missing port is the default one, an empty field is a missing one."""
    return _normalised(left) == _normalised(right)


def _normalised(apiservice: Object) -> Object:
    spec = {key: value for key, value in references.spec(apiservice).items() if value not in (None, False, "", 0)}
    if "service" in spec:
        spec["service"] = references.service(apiservice)
    return spec
