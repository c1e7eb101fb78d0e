"""Get and list over a store: selectors, pages at one revision, resourceVersion rules (rest.md A7)."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apimachinery import status
from apimachinery.field_errors import quote
from apimachinery.listing import continue_expired, decode_continue, encode_continue, list_expired
from apimachinery.options import ListOptions
from apimachinery.selectors import FieldSelector, LabelSelector
from apimachinery.types import Object
from apiserver.resource import Resource
from apiserver.rest.context import Context
from apiserver.storage.base import ExpiredError, Key, NotFoundError, Snapshot, Stored

_REVISION_DIGITS = 20
_MATCHED_AT_ONCE = 500
_BEHIND_SECONDS = 3.0
"""How long a read waits for a revision that is not there yet (rest.md A7.2)."""


@dataclass(frozen=True, slots=True)
class Page:
    """The items of a list answer and its ListMeta."""

    items: Sequence[Stored]
    metadata: Object


class Reader:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, resource: Resource, namespace: str, name: str, resource_version: str = "") -> Stored:
        if resource_version not in ("", "0"):
            await self.wait_for(parse_revision(resource_version))
        key = Key(resource.group_resource, namespace, name)
        try:
            return await self._context.store.get(key)
        except NotFoundError:
            obj = resource.unstored(name) if resource.unstored is not None else None
            if obj is None:
                raise status.not_found(resource.group_resource, name) from None
            revision = self._context.store.revision
            obj["metadata"]["resourceVersion"] = str(revision)
            return Stored(key, obj, revision)

    async def list(self, resource: Resource, namespace: str, options: ListOptions) -> Page:
        snapshot, start = await self._snapshot(resource, namespace, options)
        matches = selection(resource, options)
        limit = options.limit
        position = _first_after(snapshot, start)
        items: Sequence[Stored]
        if matches is None:
            items = snapshot.items[position : position + limit if limit else None]
            position += len(items)
        else:
            items, position = await _matching(snapshot.items, position, limit, matches)
        metadata: Object = {"resourceVersion": str(snapshot.revision)}
        if position < len(snapshot.items):
            last = items[-1].key
            metadata["continue"] = encode_continue(snapshot.revision, _start_key(last))
            if matches is None:
                metadata["remainingItemCount"] = len(snapshot.items) - position
        return Page(items, metadata)

    async def wait_for(self, revision: int) -> None:
        """Return once the store has reached `revision`; APIError 504 if that takes too long."""
        store = self._context.store
        deadline = asyncio.get_running_loop().time() + _BEHIND_SECONDS
        while store.revision < revision:
            if asyncio.get_running_loop().time() >= deadline:
                raise status.too_large_resource_version(revision, store.revision)
            await asyncio.sleep(0.05)

    async def _snapshot(self, resource: Resource, namespace: str, options: ListOptions) -> tuple[Snapshot, str]:
        store, wanted = self._context.store, resource.group_resource
        if options.continue_:
            token = decode_continue(options.continue_)
            if token.revision == -1:
                return await store.list(wanted, namespace), token.start
            try:
                return await store.list_at(wanted, namespace, revision=token.revision), token.start
            except (ExpiredError, ValueError):
                raise continue_expired(token) from None
        version = options.resource_version
        if version not in ("", "0"):
            revision = _parse_list_revision(version)
            await self.wait_for(revision)
            if options.resource_version_match == "Exact" or (options.limit and not options.resource_version_match):
                return await self._exact(resource, namespace, revision), ""
        return await store.list(wanted, namespace), ""

    async def _exact(self, resource: Resource, namespace: str, revision: int) -> Snapshot:
        try:
            return await self._context.store.list_at(resource.group_resource, namespace, revision=revision)
        except ExpiredError:
            raise list_expired() from None


def parse_revision(text: str) -> int:
    """A resourceVersion as a number; APIError 500 when it is none (the originals take it for a failure of storage)."""
    fault = _revision_fault(text)
    if fault:
        raise status.APIError(500, "", fault)
    return int(text)


def _parse_list_revision(text: str) -> int:
    """As `parse_revision`, but APIError 400: lists look at the text earlier."""
    fault = _revision_fault(text)
    if fault:
        raise status.bad_request(f"invalid resource version: {fault}")
    return int(text)


def _revision_fault(text: str) -> str:
    if not text.isascii() or not text.isdigit():
        fault = "invalid syntax"
    elif len(text.lstrip("0")) > _REVISION_DIGITS or int(text) >= 2**64:
        fault = "value out of range"
    else:
        return ""
    quoted = quote(text)
    return f"resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: {fault}"


def selection(resource: Resource, options: ListOptions) -> Callable[[Object], bool] | None:
    """The predicate of a request's selectors, or None when everything matches. APIError 400 for unknown fields."""
    labels, fields = options.label_selector, options.field_selector
    check_fields(resource, fields)
    if labels.empty and fields.empty:
        return None
    return lambda obj: _selected(resource, obj, labels, fields)


def check_fields(resource: Resource, selector: FieldSelector) -> None:
    known = {"metadata.name", *resource.selectable_fields}
    if resource.namespaced:
        known.add("metadata.namespace")
    for name, _operator, _value in selector.requirements:
        if name not in known:
            listed = ", ".join(f'"{item}"' for item in sorted(known))
            raise status.bad_request(f'"{name}" is not a known field selector: only {listed}')


def _selected(resource: Resource, obj: Object, labels: LabelSelector, fields: FieldSelector) -> bool:
    metadata = obj["metadata"]
    if not labels.empty and not labels.matches(metadata.get("labels") or {}):
        return False
    return fields.empty or fields.matches(field_values(resource, obj))


def field_values(resource: Resource, obj: Object) -> dict[str, str]:
    """The values that field selectors of this resource look at."""
    metadata = obj["metadata"]
    values = {"metadata.name": metadata["name"]}
    if resource.namespaced:
        values["metadata.namespace"] = metadata.get("namespace", "")
    for path in resource.selectable_fields:
        value: object = obj
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        values[path] = "" if value is None else _text(value)
    return values


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def _matching(
    items: Sequence[Stored], position: int, limit: int, matches: Callable[[Object], bool]
) -> tuple[list[Stored], int]:
    """The objects that match from `position` on, at most `limit` (0: all), and where to go on."""
    found: list[Stored] = []
    while position < len(items) and not (limit and len(found) == limit):
        if matches(items[position].decoded()):
            found.append(items[position])
        position += 1
        if position % _MATCHED_AT_ONCE == 0:
            # Other requests get their turn during a long search.
            await asyncio.sleep(0)
    return found, position


def _start_key(key: Key) -> str:
    return f"{key.namespace}/{key.name}\0" if key.namespace else f"{key.name}\0"


def _first_after(snapshot: Snapshot, start: str) -> int:
    """Position of the first item whose key is not before `start` (items are in key order)."""
    if not start:
        return 0
    namespace, _, name = start.rpartition("/")
    low, high = 0, len(snapshot.items)
    while low < high:
        middle = (low + high) // 2
        key = snapshot.items[middle].key
        if (key.namespace, key.name) < (namespace, name):
            low = middle + 1
        else:
            high = middle
    return low
