"""Watch event documents: selector transitions, bookmarks, errors (rest.md A5)."""

from collections.abc import Callable
from typing import Literal

from apimachinery.types import Object

EventType = Literal["ADDED", "MODIFIED", "DELETED"]

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the initial events of a WatchList."""


def transition(
    kind: EventType, current: Object, previous: Object | None, matches: Callable[[Object], bool]
) -> tuple[EventType, bool] | None:
    """How a change looks through a selector: (event type, whether the *previous* content is shown); None: not at all.

    What enters the selection is ADDED, what leaves it is DELETED with its previous content (rest.md A5.5).
    """
    old_match = previous is not None and matches(previous)
    if kind == "DELETED":
        return ("DELETED", False) if old_match else None
    new_match = matches(current)
    if new_match:
        return ("MODIFIED" if old_match else "ADDED", False)
    return ("DELETED", True) if old_match else None


def at_revision(obj: Object, revision: int) -> Object:
    """The object with `metadata.resourceVersion` set to `revision`; the original is untouched."""
    return {**obj, "metadata": {**obj.get("metadata", {}), "resourceVersion": str(revision)}}


def bookmark(api_version: str, kind: str, revision: int, *, initial_events_end: bool = False) -> Object:
    """The object of a BOOKMARK event: the watched kind with nothing but a resourceVersion."""
    metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return {"kind": kind, "apiVersion": api_version, "metadata": metadata}
