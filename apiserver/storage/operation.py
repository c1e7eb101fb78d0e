"""What a write means: the rules of create, compare-and-swap and delete, as one pure function."""

from dataclasses import dataclass

import orjson

from apimachinery.types import Object
from apiserver.storage.base import (
    Event,
    ExistsError,
    InvalidObjectError,
    Key,
    NotFoundError,
    RevisionMismatchError,
    Stored,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Put an object where none is."""

    key: Key
    obj: Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Replace the object that is at revision `expected`."""

    key: Key
    obj: Object
    expected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Remove the object; only if it is at revision `expected`, when that is given."""

    key: Key
    expected: int | None


Operation = Create | Update | Delete


def decide(operation: Operation, current: Stored | None, revision: int) -> Event:
    """The change that `operation` makes to `current`, carrying `revision`.

    NotFoundError, ExistsError, RevisionMismatchError, InvalidObjectError.
    """
    if isinstance(operation, Create):
        if current is not None:
            raise ExistsError(current)
        return Event("ADDED", _stored(operation.key, operation.obj, revision), None, revision)
    if current is None:
        raise NotFoundError(f"{operation.key} does not exist")
    if operation.expected is not None and operation.expected != current.revision:
        raise RevisionMismatchError(current)
    if isinstance(operation, Update):
        return Event("MODIFIED", _stored(operation.key, operation.obj, revision), current, revision)
    last = _encoded(operation.key, current.decoded(), revision)
    return Event("DELETED", last, current, revision)


def _stored(key: Key, obj: Object, revision: int) -> Stored:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        raise InvalidObjectError(f"{key}: metadata is missing")
    named = (metadata.get("namespace") or "", metadata.get("name"))
    if named != (key.namespace, key.name):
        # A file is found again by the names inside it, so they have to agree with the key from the start.
        raise InvalidObjectError(f"{key}: metadata names {named[0]!r}/{named[1]!r}")
    try:
        return _encoded(key, obj, revision)
    except orjson.JSONEncodeError as error:
        raise InvalidObjectError(f"{key}: {error}") from error


def _encoded(key: Key, obj: Object, revision: int) -> Stored:
    """The object as it will be read: encoding is a deep copy, and makes memory equal to what a restart loads."""
    at_revision = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
    return Stored.of_json(key, orjson.dumps(at_revision, option=orjson.OPT_SORT_KEYS), revision)
