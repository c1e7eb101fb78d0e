"""Create, update, patch and apply over a store: merge, stamp, validate, compare-and-swap (rest.md A3.4, A3.5, A4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from apimachinery import status
from apimachinery.json_values import copy_json
from apimachinery.options import WriteOptions
from apimachinery.patch import apply_patch
from apimachinery.types import Object
from apiserver.resource import Resource
from apiserver.rest import objects
from apiserver.rest.context import Context
from apiserver.rest.shape import check_patched_shape, check_shape
from apiserver.rest.tracking import Configuration, Tracker, same, set_managed_fields
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


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants an object to be, in the shape of its kind, and who then manages its fields."""

    object: Object
    managed_fields: list[Object]
    warnings: list[str] = field(default_factory=list)


Change = Callable[[Object], Wish]
"""From the live object to the client's wish for the new one."""


class Writer:
    def __init__(self, context: Context) -> None:
        self._context = context
        self.tracker = Tracker(context.now)

    async def create(
        self, resource: Resource, namespace: str, document: Any, options: WriteOptions, duplicates: Sequence[str] = ()
    ) -> Result:
        """Store a new object. APIError 409 when it exists, 422 with all causes when it is invalid.

        `duplicates` are sentences about keys that the client's document repeats.
        """
        checked = check_shape(resource, document, options.field_validation, duplicates)
        objects.check_namespace(resource, checked.object, namespace)
        generated = not checked.object["metadata"].get("name") and checked.object["metadata"].get("generateName")
        for attempt in range(_GENERATE_ATTEMPTS if generated else 1):
            obj = copy_json(checked.object) if generated else checked.object
            objects.clear_system_fields(obj)
            managed = self.tracker.updated(resource, None, obj, options)
            try:
                stored = await self._create(resource, obj, managed, options)
                return Result(stored, created=True, warnings=checked.warnings)
            except ExistsError as error:
                name = obj["metadata"]["name"]
                if not generated:
                    being_deleted = "deletionTimestamp" in error.current.object["metadata"]
                    raise status.already_exists(resource.group_resource, name, being_deleted=being_deleted) from None
                if attempt == _GENERATE_ATTEMPTS - 1:
                    raise status.generate_name_exhausted(resource.group_resource, name) from None
        raise AssertionError("unreachable")

    async def _create(
        self, resource: Resource, obj: Object, managed_fields: list[Object], options: WriteOptions
    ) -> Stored:
        context = self._context
        objects.stamp_new(resource, obj, uid=context.new_uid(), now=context.now(), suffix=context.new_suffix())
        resource.strategy.prepare_create(obj)
        set_managed_fields(obj, managed_fields)
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
        duplicates: Sequence[str] = (),
        *,
        status_only: bool = False,
    ) -> Result:
        """Replace an object (or its status). APIError 404, 409 when it changed meanwhile, 422 when invalid."""
        checked = check_shape(resource, document, options.field_validation, duplicates)
        objects.check_namespace(resource, checked.object, namespace)
        objects.check_name(checked.object, name)
        objects.require_resource_version(resource, checked.object)

        def change(live: Object) -> Wish:
            obj = copy_json(checked.object)
            managed = self.tracker.updated(resource, live, obj, options, subresource=_subresource(status_only))
            return Wish(obj, managed, checked.warnings)

        key = Key(resource.group_resource, namespace, name)
        return await self.change(resource, key, change, options, status_only=status_only)

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

        def change(live: Object) -> Wish:
            patched = apply_patch(media_type, live, body, resource.schema)
            checked = check_patched_shape(resource, media_type, body, patched, options.field_validation)
            objects.check_patched(resource, checked, live, namespace, name)
            managed = self.tracker.updated(
                resource, live, checked.object, options, subresource=_subresource(status_only)
            )
            return Wish(checked.object, managed, checked.warnings)

        key = Key(resource.group_resource, namespace, name)
        return await self.change(resource, key, change, options, status_only=status_only)

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        config: Configuration,
        options: WriteOptions,
        *,
        status_only: bool = False,
    ) -> Result:
        """Apply a configuration to an object (or its status), or create the object from it.

        APIError 400 and 500 for a configuration that is none, 409 when others manage what it would change and
        `options.force` is not set, 422 when the result is invalid.
        """

        def change(live: Object | None) -> Wish:
            applied = self.tracker.applied(
                resource, live, config.object, options, subresource=_subresource(status_only)
            )
            warnings = config.check_duplicates(options.field_validation)
            checked = check_shape(resource, applied.object, options.field_validation)
            objects.check_patched(resource, checked, live, namespace, name)
            return Wish(checked.object, applied.managed_fields, [*warnings, *checked.warnings])

        key = Key(resource.group_resource, namespace, name)
        while True:
            live = await self._find(key)
            if live is not None:
                result = await self._write(resource, live, change, options, status_only=status_only)
            elif status_only:
                raise status.not_found(key.resource, key.name)
            else:
                result = await self._create_applied(resource, name, change(None), options)
            if result is not None:
                return result

    async def _create_applied(self, resource: Resource, name: str, wish: Wish, options: WriteOptions) -> Result | None:
        """None when the object exists after all."""
        uid = wish.object["metadata"].get("uid")
        if uid:
            known = f"the provided object specified uid {uid}, and no existing object was found"
            raise status.conflict(resource.group_resource, name, f"uid mismatch: {known}")
        objects.clear_system_fields(wish.object)
        try:
            stored = await self._create(resource, wish.object, wish.managed_fields, options)
        except ExistsError:
            return None
        return Result(stored, created=True, warnings=wish.warnings)

    async def change(
        self, resource: Resource, key: Key, change: Change, options: WriteOptions, *, status_only: bool = False
    ) -> Result:
        """Change an object; the compare-and-swap loop ends when a write wins, or with the caller's deadline.

        APIError 404, 409, 422, and what `change` raises.
        """
        while True:
            live = await self._find(key)
            if live is None:
                raise status.not_found(key.resource, key.name)
            result = await self._write(resource, live, change, options, status_only=status_only)
            if result is not None:
                return result

    async def _write(
        self, resource: Resource, live: Stored, change: Change, options: WriteOptions, *, status_only: bool
    ) -> Result | None:
        """One attempt to change a live object; None when another writer was faster."""
        wish = change(live.object)
        obj = wish.object
        objects.check_precondition(resource, obj, live.object)
        self._prepare(resource, obj, live.object, status_only=status_only)
        set_managed_fields(obj, wish.managed_fields)
        objects.validate_changed(resource, obj, live.object, status_only=status_only)
        if same(obj, live.object):
            return Result(live, warnings=wish.warnings)
        gone = "deletionTimestamp" in obj["metadata"] and not obj["metadata"].get("finalizers")
        if options.dry_run:
            return Result(Stored(live.key, obj, live.revision), deleted=gone, warnings=wish.warnings)
        try:
            if gone:
                stored = await self._context.store.delete(live.key, expected=live.revision)
            else:
                stored = await self._context.store.update(live.key, obj, expected=live.revision)
        except (RevisionMismatchError, NotFoundError):
            return None
        except (StorageError, InvalidObjectError) as error:
            raise storage_failed(error) from error
        return Result(stored, deleted=gone, warnings=wish.warnings)

    async def _find(self, key: Key) -> Stored | None:
        try:
            return await self._context.store.get(key)
        except NotFoundError:
            return None

    @staticmethod
    def _prepare(resource: Resource, obj: Object, old: Object, *, status_only: bool) -> None:
        if status_only:
            resource.strategy.prepare_status_update(obj, old)
        else:
            resource.strategy.prepare_update(obj, old)
        objects.restore_metadata(obj, old)
        obj["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        objects.bump_generation(resource, obj, old)


def _subresource(status_only: bool) -> str:
    return "status" if status_only else ""


def key_of(resource: Resource, obj: Object) -> Key:
    metadata = obj["metadata"]
    return Key(resource.group_resource, metadata.get("namespace", "") if resource.namespaced else "", metadata["name"])


def storage_failed(error: StorageError | InvalidObjectError) -> status.APIError:
    """Nothing has changed: 400 when the object cannot be kept, 500 when the medium failed."""
    if isinstance(error, InvalidObjectError):
        return status.bad_request(str(error))
    return status.internal_error(f"storage: {error}")
