"""The options of a request: query parameters, and the body of a DELETE (rest.md A3.1, A3.2)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

from apimachinery import status
from apimachinery.durations import parse_go_duration as parse_go_duration
from apimachinery.field_errors import (
    FieldError,
    Path,
    forbidden,
    invalid,
    not_supported,
    quote,
    required,
    too_long,
)
from apimachinery.gvk import GroupKind
from apimachinery.selectors import FieldSelector, LabelSelector
from apimachinery.types import Object

Query = Mapping[str, Sequence[str]]
"""A decoded query string: every value of every parameter, in order."""

OptionsKind = Literal["CreateOptions", "UpdateOptions", "PatchOptions"]

FIELD_MANAGER_LIMIT: Final = 128
"""The greatest length of a field manager's name, in UTF-8 bytes."""

_INT64_LIMIT = 2**63
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_META_GROUP = "meta.k8s.io"


def parse_query(raw: str | bytes) -> dict[str, list[str]]:
    """Decode a query string (without `?`). Blank values count; undecodable bytes become U+FFFD. Never raises."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors="replace"):
        query.setdefault(name, []).append(value)
    return query


def first(query: Query, name: str) -> str:
    """The first value of a parameter, or an empty string."""
    values = query.get(name)
    return values[0] if values else ""


def parse_bool(text: str) -> bool:
    """`0` and `false` (any case) are false, everything else is true: `?watch` alone asks for a watch."""
    return text.lower() not in ("0", "false")


def _bool(query: Query, name: str) -> bool | None:
    values = query.get(name)
    return parse_bool(values[0]) if values else None


def _integer(query: Query, name: str) -> int | None:
    values = query.get(name)
    if not values:
        return None
    text = values[0]
    if not _INTEGER.fullmatch(text):
        raise status.bad_request(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax")
    # Nineteen digits hold every int64; longer numbers are refused before the conversion, whose cost grows.
    digits = text.lstrip("+-").lstrip("0")
    magnitude = int(digits or "0") if len(digits) <= 19 else _INT64_LIMIT + 1
    value = -magnitude if text.startswith("-") else magnitude
    if not -_INT64_LIMIT <= value < _INT64_LIMIT:
        raise status.bad_request(f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    return value


def _refuse(kind: str, errors: Sequence[FieldError]) -> None:
    if errors:
        raise status.invalid(GroupKind(_META_GROUP, kind), "", errors)


def _dry_run_errors(values: Sequence[str]) -> list[FieldError]:
    if all(value == "All" for value in values):
        return []
    return [not_supported(Path.of("dryRun"), list(values), ["All"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """Options of create, update and patch."""

    dry_run: bool = False
    """Do everything except the write."""
    field_manager: str = "unknown"
    field_validation: Literal["Ignore", "Warn", "Strict"] = "Warn"
    """What happens to unknown and duplicate fields: dropped, dropped with a warning, or refused."""
    force: bool | None = None
    """Only for apply patches: take over fields that others manage."""


def default_field_manager(user_agent: str) -> str:
    """The manager of a client that names none: its User-Agent up to the first `/`, printable characters only."""
    kept: list[str] = []
    size = 0
    for char in user_agent.split("/", 1)[0]:
        if not char.isprintable():
            continue
        size += len(char.encode("utf-8", "replace"))
        if size > FIELD_MANAGER_LIMIT:
            break
        kept.append(char)
    return "".join(kept) or "unknown"


def _field_manager_errors(manager: str) -> list[FieldError]:
    path = Path.of("fieldManager")
    errors: list[FieldError] = []
    if len(manager.encode("utf-8", "replace")) > FIELD_MANAGER_LIMIT:
        errors.append(too_long(path, FIELD_MANAGER_LIMIT))
    position = 0
    for char in manager:
        if not char.isprintable():
            errors.append(invalid(path, manager, f"invalid character U+{ord(char):04X} (at position {position})"))
        position += len(char.encode("utf-8", "replace"))
    return errors


_FIELD_VALIDATION: Final[Mapping[str, Literal["Ignore", "Warn", "Strict"]]] = {
    "": "Warn",
    "Ignore": "Ignore",
    "Strict": "Strict",
    "Warn": "Warn",
}


def parse_write_options(query: Query, *, kind: OptionsKind, user_agent: str, apply_patch: bool = False) -> WriteOptions:
    """Options of a write. APIError 422 with every fault, on `<kind>.meta.k8s.io`."""
    manager = first(query, "fieldManager")
    force = _bool(query, "force") if kind == "PatchOptions" else None
    dry_run = query.get("dryRun", ())
    validation = first(query, "fieldValidation")
    errors: list[FieldError] = []
    if apply_patch and not manager:
        errors.append(required(Path.of("fieldManager"), "is required for apply patch"))
    if not apply_patch and force is not None:
        errors.append(forbidden(Path.of("force"), "may not be specified for non-apply patch"))
    errors += _field_manager_errors(manager)
    errors += _dry_run_errors(dry_run)
    if validation not in _FIELD_VALIDATION:
        errors.append(not_supported(Path.of("fieldValidation"), validation, list(_FIELD_VALIDATION)))
    _refuse(kind, errors)
    return WriteOptions(
        dry_run=bool(dry_run),
        field_manager=manager or default_field_manager(user_agent),
        field_validation=_FIELD_VALIDATION[validation],
        force=force,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """Options of list, watch and deletecollection."""

    label_selector: LabelSelector
    field_selector: FieldSelector
    limit: int = 0
    """The greatest number of items in a page; 0 means all."""
    continue_: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    timeout_seconds: int | None = None
    watch: bool = False
    allow_watch_bookmarks: bool = False
    send_initial_events: bool | None = None


def _list_errors(options: ListOptions) -> list[FieldError]:
    path = Path.of("resourceVersionMatch")
    errors: list[FieldError] = []
    match = options.resource_version_match
    if match:
        if not options.resource_version:
            errors.append(forbidden(path, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if options.continue_:
            errors.append(forbidden(path, "resourceVersionMatch is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            errors.append(not_supported(path, match, ["Exact", "NotOlderThan", ""]))
        if match == "Exact" and options.resource_version == "0":
            errors.append(forbidden(path, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if options.send_initial_events is not None:
        errors.append(forbidden(Path.of("sendInitialEvents"), "sendInitialEvents is forbidden for list"))
    return errors


def _watch_errors(options: ListOptions) -> list[FieldError]:
    path = Path.of("resourceVersionMatch")
    errors: list[FieldError] = []
    match = options.resource_version_match
    if options.send_initial_events is not None and match != "NotOlderThan":
        errors.append(forbidden(path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
    if match:
        if options.send_initial_events is None:
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            errors.append(forbidden(path, why))
        if match != "NotOlderThan":
            errors.append(not_supported(path, match, ["NotOlderThan"]))
        if options.continue_:
            errors.append(forbidden(path, "resourceVersionMatch is forbidden when continue is provided"))
    return errors


def parse_list_options(query: Query) -> ListOptions:
    """Options of a list or watch.

    APIError 400 for numbers and selectors that do not parse and for a resourceVersion beside `continue`, 422 on
    `ListOptions.meta.k8s.io` for combinations that make no sense. Non-positive limits and timeouts mean none.
    """
    try:
        label_selector = LabelSelector.parse(first(query, "labelSelector"))
        field_selector = FieldSelector.parse(first(query, "fieldSelector"))
    except ValueError as error:
        raise status.bad_request(str(error)) from None
    timeout = _integer(query, "timeoutSeconds")
    options = ListOptions(
        label_selector=label_selector,
        field_selector=field_selector,
        limit=max(_integer(query, "limit") or 0, 0),
        continue_=first(query, "continue"),
        resource_version=first(query, "resourceVersion"),
        resource_version_match=first(query, "resourceVersionMatch"),
        timeout_seconds=timeout if timeout is not None and timeout > 0 else None,
        watch=bool(_bool(query, "watch")),
        allow_watch_bookmarks=bool(_bool(query, "allowWatchBookmarks")),
        send_initial_events=_bool(query, "sendInitialEvents"),
    )
    _refuse("ListOptions", _watch_errors(options) if options.watch else _list_errors(options))
    if options.continue_ and not options.watch and options.resource_version not in ("", "0"):
        raise status.bad_request("specifying resource version is not allowed when using continue")
    return options


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """Options of delete and deletecollection."""

    dry_run: bool = False
    grace_period_seconds: int | None = None
    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    uid: str | None = None
    """Precondition: the object's uid."""
    resource_version: str | None = None
    """Precondition: the object's resourceVersion."""


_BODY_TYPES: Final[Mapping[str, tuple[type, str]]] = {
    "gracePeriodSeconds": (int, "int64"),
    "propagationPolicy": (str, "v1.DeletionPropagation"),
    "orphanDependents": (bool, "bool"),
    "preconditions": (dict, "v1.Preconditions"),
    "dryRun": (list, "[]string"),
}
_JSON_NAMES: Final = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}


def _mismatch(value: Any, field: str, go_type: str) -> status.APIError:
    found = _JSON_NAMES.get(type(value), "value")
    why = f"json: cannot unmarshal {found} into Go struct field DeleteOptions.{field} of type {go_type}"
    return status.bad_request(f'DeleteOptions in version "v1" cannot be handled as a DeleteOptions: {why}')


def _typed(document: Object, field: str, wanted: type, go_type: str, prefix: str = "") -> Any:
    value = document.get(field)
    if value is not None and type(value) is not wanted:
        raise _mismatch(value, prefix + field, go_type)
    return value


def _from_body(body: Object) -> tuple[DeleteOptions, Sequence[str]]:
    if not isinstance(body, dict) or body.get("kind") not in (None, "", "DeleteOptions"):
        raise status.bad_request("decoded object cannot be converted to DeleteOptions")
    fields = {name: _typed(body, name, wanted, go_type) for name, (wanted, go_type) in _BODY_TYPES.items()}
    dry_run = fields["dryRun"] or []
    for value in dry_run:
        if not isinstance(value, str):
            raise _mismatch(value, "dryRun", "string")
    preconditions = fields["preconditions"] or {}
    options = DeleteOptions(
        dry_run=bool(dry_run),
        grace_period_seconds=fields["gracePeriodSeconds"],
        propagation_policy=fields["propagationPolicy"],
        orphan_dependents=fields["orphanDependents"],
        uid=_typed(preconditions, "uid", str, "types.UID", "preconditions."),
        resource_version=_typed(preconditions, "resourceVersion", str, "string", "preconditions."),
    )
    return options, dry_run


def _from_query(query: Query) -> tuple[DeleteOptions, Sequence[str]]:
    dry_run = query.get("dryRun", ())
    options = DeleteOptions(
        dry_run=bool(dry_run),
        grace_period_seconds=_integer(query, "gracePeriodSeconds"),
        propagation_policy=first(query, "propagationPolicy") if "propagationPolicy" in query else None,
        orphan_dependents=_bool(query, "orphanDependents"),
    )
    return options, dry_run


def parse_delete_options(query: Query, body: Object | None) -> DeleteOptions:
    """Options of a delete: the body when there is one, else the query.

    APIError 400 for what does not parse, 422 on `DeleteOptions.meta.k8s.io` for values that are not allowed.
    """
    options, dry_run = _from_query(query) if body is None else _from_body(body)
    path = Path.of("propagationPolicy")
    policy = options.propagation_policy
    errors: list[FieldError] = []
    if policy is not None and options.orphan_dependents is not None:
        errors.append(invalid(path, policy, "orphanDependents and deletionPropagation cannot be both set"))
    if policy is not None and policy not in ("Foreground", "Background", "Orphan"):
        errors.append(not_supported(path, policy, ["Foreground", "Background", "Orphan", "nil"]))
    errors += _dry_run_errors(dry_run)
    _refuse("DeleteOptions", errors)
    return options
