"""Create, update and patch over a store: merge, stamp, validate, compare-and-swap (rest.md A3.4, A3.5, A4.1)."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from apimachinery import status
from apimachinery.options import WriteOptions
from apimachinery.patch import apply_patch
from apimachinery.types import Object
from apiserver.resource import Resource
from apiserver.rest import objects
from apiserver.rest.context import Context
from apiserver.storage.base import (
    ExistsError,
    InvalidObjectError,
    Key,
    NotFoundError,
    RevisionMismatchError,
    StorageError,
    Stored,
)

_GENERATE_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Result:
    """What a write left behind. A dry run's `stored` is what would have been."""

    stored: Stored
    created: bool = False
    deleted: bool = False
    warnings: list[str] = field(default_factory=list)


Change = Callable[[Object], objects.Checked]
"""From the live object to the client's wish for the new one (already in the shape of the kind)."""


class Writer:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, resource: Resource, namespace: str, document: Any, options: WriteOptions) -> Result:
        """Store a new object. APIError 409 when it exists, 422 with all causes when it is invalid."""
        checked = objects.check_shape(resource, document, options.field_validation)
        objects.check_namespace(resource, checked.object, namespace)
        generated = not checked.object["metadata"].get("name") and checked.object["metadata"].get("generateName")
        for attempt in range(_GENERATE_ATTEMPTS if generated else 1):
            obj = deepcopy(checked.object) if generated else checked.object
            try:
                return Result(await self._create(resource, obj, options), created=True, warnings=checked.warnings)
            except ExistsError as error:
                name = obj["metadata"]["name"]
                if not generated:
                    being_deleted = "deletionTimestamp" in error.current.object["metadata"]
                    raise status.already_exists(resource.group_resource, name, being_deleted=being_deleted) from None
                if attempt == _GENERATE_ATTEMPTS - 1:
                    raise status.generate_name_exhausted(resource.group_resource, name) from None
        raise AssertionError("unreachable")

    async def _create(self, resource: Resource, obj: Object, options: WriteOptions) -> Stored:
        context = self._context
        objects.stamp_new(resource, obj, uid=context.new_uid(), now=context.now(), suffix=context.new_suffix())
        resource.strategy.prepare_create(obj)
        objects.validate_new(resource, obj)
        key = key_of(resource, obj)
        if options.dry_run:
            await self._check_absent(key)
            return Stored(key, obj, 0)
        try:
            return await context.store.create(key, obj)
        except (StorageError, InvalidObjectError) as error:
            raise storage_failed(error) from error

    async def _check_absent(self, key: Key) -> None:
        try:
            current = await self._context.store.get(key)
        except NotFoundError:
            return
        raise ExistsError(current)

    async def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        document: Any,
        options: WriteOptions,
        *,
        status_only: bool = False,
    ) -> Result:
        """Replace an object (or its status). APIError 404, 409 when it changed meanwhile, 422 when invalid."""
        checked = objects.check_shape(resource, document, options.field_validation)
        objects.check_namespace(resource, checked.object, namespace)
        objects.check_name(checked.object, name)
        objects.require_resource_version(resource, checked.object)
        return await self._change(
            resource,
            Key(resource.group_resource, namespace, name),
            lambda _live: objects.Checked(deepcopy(checked.object), checked.warnings),
            options,
            status_only=status_only,
        )

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        media_type: str,
        body: bytes,
        options: WriteOptions,
        *,
        status_only: bool = False,
    ) -> Result:
        """Patch an object (or its status); applied again to the fresh object when another writer was faster."""

        def change(live: Object) -> objects.Checked:
            patched = apply_patch(media_type, live, body, resource.schema)
            checked = objects.check_shape(resource, patched, options.field_validation)
            objects.check_namespace(resource, checked.object, namespace)
            objects.check_name(checked.object, name)
            if checked.object["metadata"].get("resourceVersion") == live["metadata"]["resourceVersion"]:
                # Unchanged by the patch: the client made no claim, so a lost race is tried again, not refused.
                checked.object["metadata"].pop("resourceVersion")
            return checked

        key = Key(resource.group_resource, namespace, name)
        return await self._change(resource, key, change, options, status_only=status_only)

    async def _change(
        self, resource: Resource, key: Key, change: Change, options: WriteOptions, *, status_only: bool
    ) -> Result:
        """The compare-and-swap loop; ends when a write wins, or with the caller's deadline."""
        while True:
            live = await self._get(key)
            checked = change(live.object)
            obj = checked.object
            objects.check_precondition(resource, obj, live.object)
            self._prepare(resource, obj, live.object, status_only=status_only)
            objects.validate_changed(resource, obj, live.object, status_only=status_only)
            if obj == live.object:
                return Result(live, warnings=checked.warnings)
            gone = "deletionTimestamp" in obj["metadata"] and not obj["metadata"].get("finalizers")
            if options.dry_run:
                return Result(Stored(key, obj, live.revision), deleted=gone, warnings=checked.warnings)
            try:
                if gone:
                    stored = await self._context.store.delete(key, expected=live.revision)
                else:
                    stored = await self._context.store.update(key, obj, expected=live.revision)
            except (RevisionMismatchError, NotFoundError):
                continue
            except (StorageError, InvalidObjectError) as error:
                raise storage_failed(error) from error
            return Result(stored, deleted=gone, warnings=checked.warnings)

    async def _get(self, key: Key) -> Stored:
        try:
            return await self._context.store.get(key)
        except NotFoundError:
            raise status.not_found(key.resource, key.name) from None

    @staticmethod
    def _prepare(resource: Resource, obj: Object, old: Object, *, status_only: bool) -> None:
        if status_only:
            resource.strategy.prepare_status_update(obj, old)
        else:
            resource.strategy.prepare_update(obj, old)
        objects.restore_metadata(obj, old)
        obj["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        objects.bump_generation(resource, obj, old)


def key_of(resource: Resource, obj: Object) -> Key:
    metadata = obj["metadata"]
    return Key(resource.group_resource, metadata.get("namespace", "") if resource.namespaced else "", metadata["name"])


def storage_failed(error: StorageError | InvalidObjectError) -> status.APIError:
    """Nothing has changed: 400 when the object cannot be kept, 500 when the medium failed."""
    if isinstance(error, InvalidObjectError):
        return status.bad_request(str(error))
    return status.internal_error(f"storage: {error}")
