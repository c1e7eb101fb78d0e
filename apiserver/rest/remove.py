"""Delete and deletecollection over a store: finalizers, preconditions, propagation (rest.md A3.6)."""

from dataclasses import dataclass
from typing import Final

from apimachinery import status
from apimachinery.json_values import copy_json
from apimachinery.options import DeleteOptions, ListOptions
from apimachinery.types import Object
from apiserver.resource import Resource
from apiserver.rest import objects
from apiserver.rest.context import Context
from apiserver.rest.read import Page, Reader
from apiserver.rest.write import storage_failed
from apiserver.storage.base import Key, NotFoundError, RevisionMismatchError, StorageError, Stored

_ORPHAN: Final = "orphan"
_FOREGROUND: Final = "foregroundDeletion"


@dataclass(frozen=True, slots=True)
class Removal:
    """`removed`: the object is gone; otherwise `stored` waits for its finalizers."""

    stored: Stored
    removed: bool


class Remover:
    def __init__(self, context: Context, reader: Reader) -> None:
        self._context = context
        self._reader = reader

    async def delete(self, resource: Resource, namespace: str, name: str, options: DeleteOptions) -> Removal:
        """Remove an object, or mark it as being deleted while finalizers remain. APIError 404, 409."""
        key = Key(resource.group_resource, namespace, name)
        while True:
            live = await self._get(key)
            _check_preconditions(resource, live.object, options)
            finalizers = _finalizers(live.object, options)
            marked = self._marked(live.object, finalizers) if finalizers else None
            if options.dry_run:
                return Removal(live if marked is None else Stored(key, marked, live.revision), marked is None)
            try:
                if marked is None:
                    return Removal(await self._context.store.delete(key, expected=live.revision), True)
                if marked == live.object:
                    return Removal(live, False)
                return Removal(await self._context.store.update(key, marked, expected=live.revision), False)
            except (RevisionMismatchError, NotFoundError):
                continue
            except StorageError as error:
                raise storage_failed(error) from error

    async def delete_collection(
        self, resource: Resource, namespace: str, selection: ListOptions, options: DeleteOptions
    ) -> Page:
        """Delete what the list options select; answers the list of what was selected."""
        page = await self._reader.list(resource, namespace, selection)
        for stored in page.items:
            try:
                await self.delete(resource, stored.key.namespace, stored.key.name, options)
            except status.APIError as error:
                if error.code != 404:
                    raise
        return page

    async def _get(self, key: Key) -> Stored:
        try:
            return await self._context.store.get(key)
        except NotFoundError:
            raise status.not_found(key.resource, key.name) from None

    def _marked(self, live: Object, finalizers: list[str]) -> Object:
        if "deletionTimestamp" in live["metadata"] and live["metadata"].get("finalizers") == finalizers:
            return live
        obj: Object = copy_json(live)
        metadata = obj["metadata"]
        metadata["finalizers"] = finalizers
        if "deletionTimestamp" not in metadata:
            metadata["deletionTimestamp"] = objects.timestamp(self._context.now())
            metadata["deletionGracePeriodSeconds"] = 0
            if metadata.get("generation", 0) > 0:
                metadata["generation"] += 1
        return obj


def _finalizers(live: Object, options: DeleteOptions) -> list[str]:
    """The finalizers left after the propagation policy is taken into account."""
    existing: list[str] = list(live["metadata"].get("finalizers") or [])
    policy = options.propagation_policy
    if policy is None and options.orphan_dependents is not None:
        policy = "Orphan" if options.orphan_dependents else "Background"
    if policy is None or "deletionTimestamp" in live["metadata"]:
        return existing
    kept = [name for name in existing if name not in (_ORPHAN, _FOREGROUND)]
    # Nothing here collects garbage: the owner-reference finalizers would never be taken off again, and an object
    # deleted with --cascade=foreground or orphan would hang. So the policy only ever removes them.
    return kept


def _check_preconditions(resource: Resource, live: Object, options: DeleteOptions) -> None:
    metadata = live["metadata"]
    name = metadata["name"]
    if options.uid is not None and options.uid != metadata["uid"]:
        message = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({metadata['uid']}). "
            "The object might have been deleted and then recreated"
        )
        raise _conflict_on_kind(resource, name, message)
    version = options.resource_version
    if version is not None and version != metadata["resourceVersion"]:
        message = (
            f"the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record "
            f"({metadata['resourceVersion']}). The object might have been modified"
        )
        raise _conflict_on_kind(resource, name, message)


def _conflict_on_kind(resource: Resource, name: str, message: str) -> status.APIError:
    """Delete preconditions name the kind where other conflicts name the resource (rest.md A2)."""
    error = status.conflict(resource.group_resource, name, message)
    text = f'Operation cannot be fulfilled on {resource.group_kind} "{name}": {message}'
    return status.APIError(error.code, error.reason, text, error.details)
