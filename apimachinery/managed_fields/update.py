"""What each write does to an object and to its `metadata.managedFields` (rest.md A4.3, the processing chain)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from apimachinery.managed_fields import conflicts, last_applied, managers, ownership, validate
from apimachinery.managed_fields.compare import Comparison
from apimachinery.managed_fields.managers import BEFORE_FIRST_APPLY, Manager, Owned
from apimachinery.managed_fields.ownership import ConflictsError, Rules
from apimachinery.managed_fields.paths import PathSet, name
from apimachinery.managed_fields.typed import TypedError
from apimachinery.status import APIError, bad_request
from apimachinery.types import Object

_SYSTEM_METADATA: Final = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
)
_NEVER_OWNED: Final = PathSet.of(
    [
        (name("apiVersion"),),
        (name("kind"),),
        (name("metadata"),),
        *((name("metadata"), name(field)) for field in _SYSTEM_METADATA),
    ]
)
"""What identifies an object and what the server keeps in it belongs to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Who writes, when and through what."""

    manager: str
    now: str
    """RFC 3339 in UTC with whole seconds."""
    subresource: str = ""


def update(live: Object | None, new: Object, rules: Rules, writer: Writer) -> list[Object]:
    """The managedFields of `new`, which is about to be created (`live` is None) or to replace `live`.

    `new` is what the client wants, before the server puts back what the client cannot change. The list may be empty:
    an object that is not tracked stays so until it is applied. What `new` says in its own managedFields counts:
    clients may edit or reset them, except through a subresource. TypedError when the objects cannot be compared.
    """
    given, kept = new["metadata"].get("managedFields"), (live or {}).get("metadata", {}).get("managedFields")
    managed: Mapping[Manager, Owned]
    if live is None:
        managed = {} if managers.is_reset(given) else _decoded(given)
        return managers.encode(_recorded(ownership.difference({}, _untracked(new), rules), managed, rules, writer))
    comparison = ownership.difference(_untracked(live), _untracked(new), rules)
    if writer.subresource or given is None or given == kept:
        if _touches_nobody(comparison):
            # The common case of a write without effect: the entries need not even be read.
            return kept or []
        managed = _decoded(kept)
    elif managers.is_reset(given):
        return []
    else:
        # A client that sends nonsense shall not delete the managers.
        managed = _decoded(given) or _decoded(kept)
    return managers.encode(_recorded(comparison, managed, rules, writer)) if managed else []


def _touches_nobody(comparison: Comparison) -> bool:
    return not any(part - _NEVER_OWNED for part in (comparison.added, comparison.modified, comparison.removed))


def _decoded(entries: Any) -> dict[Manager, Owned]:
    try:
        return managers.decode(entries)
    except ValueError:
        return {}


def _untracked(obj: Object) -> Object:
    metadata = obj.get("metadata") or {}
    return {**obj, "metadata": {field: value for field, value in metadata.items() if field != "managedFields"}}


def _recorded(
    comparison: Comparison, managed: Mapping[Manager, Owned], rules: Rules, writer: Writer
) -> dict[Manager, Owned]:
    """The managers after an update by `writer`, whose entry gets the time only if it took a field."""
    me = managers.updater(writer.manager, rules.api_version, writer.subresource)
    # An update is made by nobody at first: so it shows what it changed, apart from what the writer owned already.
    nobody = managers.updater("", "")
    result = ownership.record(comparison, managed, nobody, rules)
    taken = result.pop(nobody, None)
    fields = taken.fields - _NEVER_OWNED if taken is not None else None
    if fields:
        before = result.get(me)
        mine = fields | before.fields if before is not None else fields
        result[me] = Owned(fields=mine, api_version=rules.api_version, time=writer.now)
    return managers.capped(result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The object as applied, without managedFields, and the managedFields it gets."""

    object: Object
    managed_fields: list[Object]


def apply(live: Object | None, config: Object, rules: Rules, writer: Writer, *, force: bool) -> Applied:
    """Apply a configuration to `live`, or to nothing when the object does not exist.

    `config` must have the right kind (see `check_config`). APIError: 409 with the conflicts, 400 and 500 for a
    configuration that cannot be applied at all.
    """
    before: Object = {"apiVersion": rules.api_version, "kind": config.get("kind"), "metadata": {}}
    tracked: Mapping[Manager, Owned] = {}
    if live is not None:
        before = _untracked(live)
        tracked = _tracked(live, config, rules, writer)
    try:
        applied = _apply(before, config, tracked, rules, writer, force=force)
    except ConflictsError as error:
        raise conflicts.api_error(error.conflicts) from None
    except TypedError as error:
        raise APIError(500, "", f"failed to create typed live object ({_title(config)}): {error}") from None
    me = managers.applier(writer.manager, writer.subresource)
    managed = dict(applied.managed)
    if me in managed:
        fields = managed[me].fields - _NEVER_OWNED
        time = writer.now if applied.changed else managed[me].time
        managed[me] = replace(managed[me], fields=fields, time=time)
        if not fields:
            del managed[me]
    result: Object = applied.value or {}
    if writer.manager == last_applied.MIGRATING_MANAGER and not writer.subresource:
        result = last_applied.refresh(result, config)
    return Applied(object=result, managed_fields=managers.encode(managed))


def _tracked(live: Object, config: Object, rules: Rules, writer: Writer) -> Mapping[Manager, Owned]:
    """The managers of the live object; what is in an untracked one gets a manager of its own."""
    try:
        managed = managers.decode(live["metadata"].get("managedFields"))
    except ValueError as error:
        raise APIError(500, "", f"failed to decode managed fields: {error}") from None
    if managed:
        return managed
    first = replace(writer, manager=BEFORE_FIRST_APPLY)
    empty: Object = {"apiVersion": rules.api_version, "kind": config.get("kind"), "metadata": {}}
    try:
        return _recorded(ownership.difference(empty, _untracked(live), rules), {}, rules, first)
    except TypedError as error:
        raise APIError(500, "", f"failed to create manager for existing fields: {error}") from None


def _apply(
    live: Object, config: Object, managed: Mapping[Manager, Owned], rules: Rules, writer: Writer, *, force: bool
) -> ownership.Applied:
    me = managers.applier(writer.manager, writer.subresource)
    try:
        return ownership.apply(live, config, managed, me, rules, force=force)
    except ConflictsError as error:
        if writer.manager != last_applied.MIGRATING_MANAGER:
            raise
        allowed = last_applied.unchanged_since(live, rules.type, rules.api_version)
        left = tuple(conflict for conflict in error.conflicts if conflict.path not in allowed)
        if left:
            raise ConflictsError(left) from None
    return ownership.apply(live, config, managed, me, rules, force=True)


def check_config(config: Object, rules: Rules, kind: str) -> None:
    """APIError for a configuration that cannot be applied: 400 for the wrong type, 500 when it does not fit."""
    version = config.get("apiVersion") or ""
    if config.get("kind") != kind:
        raise bad_request(f"invalid object type: {_type(config)}")
    if version != rules.api_version:
        raise bad_request(
            "Incorrect version specified in apply patch. "
            f"Specified patch version: {version}, expected: {rules.api_version}"
        )
    metadata = config.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    faults = validate.validate(config, rules.type)
    if faults:
        message = f"failed to create typed patch object ({_title(config)}): {validate.text_of(faults)}"
        raise APIError(500, "", message)


def _type(config: Object) -> str:
    version = str(config.get("apiVersion") or "")
    return f"{version if '/' in version else '/' + version}, Kind={config.get('kind') or ''}"


def _title(config: Object) -> str:
    metadata = config.get("metadata")
    known = metadata if isinstance(metadata, dict) else {}
    return f"{known.get('namespace') or ''}/{known.get('name') or ''}; {_type(config)}"
