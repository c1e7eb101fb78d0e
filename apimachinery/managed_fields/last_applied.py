"""Moving from client-side to server-side apply: the annotation that `kubectl apply` leaves."""

from typing import Any, Final

import orjson

from apimachinery.managed_fields.compare import compare
from apimachinery.managed_fields.field_sets import fields_of
from apimachinery.managed_fields.paths import EMPTY, PathSet
from apimachinery.managed_fields.typed import Type, TypedError
from apimachinery.managed_fields.validate import validate
from apimachinery.types import Object
from apimachinery.validation import MAX_ANNOTATIONS_BYTES

ANNOTATION: Final = "kubectl.kubernetes.io/last-applied-configuration"
MIGRATING_MANAGER: Final = "kubectl"
"""The one manager that takes over silently what was applied by a client."""


def _annotations(obj: Object) -> dict[str, Any]:
    found = (obj.get("metadata") or {}).get("annotations")
    return found if isinstance(found, dict) else {}


def unchanged_since(live: Object, of_type: Type, api_version: str) -> PathSet:
    """The fields that client-side apply set and that still have the value it gave them.

    Empty when there is no annotation, or none that can be used: of another version, say.
    """
    text = _annotations(live).get(ANNOTATION)
    if not isinstance(text, str) or not text:
        return EMPTY
    try:
        last = orjson.loads(text)
    except orjson.JSONDecodeError:
        return EMPTY
    if not isinstance(last, dict) or last.get("apiVersion") != api_version or validate(last, of_type):
        return EMPTY
    try:
        comparison = compare(last, live, of_type)
    except TypedError:
        return EMPTY
    return fields_of(last, of_type) - comparison.modified - comparison.added - comparison.removed


def refresh(obj: Object, config: Object) -> Object:
    """`obj` with its annotation, if it has one, telling what is applied now.

    An annotation that would make the annotations too large together is dropped, and client-side apply starts anew.
    """
    annotations = _annotations(obj)
    if not annotations.get(ANNOTATION):
        return obj
    others = {name: value for name, value in annotations.items() if name != ANNOTATION}
    text = _encoded(config)
    size = sum(len(part.encode()) for item in (*others.items(), (ANNOTATION, text)) for part in map(str, item))
    wanted = {**others, ANNOTATION: text} if size <= MAX_ANNOTATIONS_BYTES else others
    return {**obj, "metadata": {**obj["metadata"], "annotations": wanted}}


def _encoded(config: Object) -> str:
    """The configuration as text, without the annotation in it."""
    kept = {name: value for name, value in _annotations(config).items() if name != ANNOTATION}
    metadata = {**(config.get("metadata") or {})}
    if "annotations" in metadata:
        metadata["annotations"] = kept
    return orjson.dumps({**config, "metadata": metadata}, option=orjson.OPT_SORT_KEYS).decode() + "\n"
