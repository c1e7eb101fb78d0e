"""Reading a data directory at start: its objects and its revision; what is damaged is set aside, never dropped."""

import errno
import os
from dataclasses import dataclass
from typing import Final

import orjson

from apimachinery.gvk import GroupResource
from apiserver.storage import ceiling, layout
from apiserver.storage.base import Key, Stored
from apiserver.storage.directory import describe
from apiserver.storage.files import Entry, FileSystem, discard

_OF_THIS_PROCESS: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors that say nothing about the file that was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a data directory holds. `ceiling` is what the revision file says, 0 when there is none."""

    items: tuple[Stored, ...]
    revision: int
    ceiling: int
    damaged: tuple[tuple[str, str], ...]
    """Path (where the file is now) and reason of each damaged file."""


class Loader:
    """One pass over a data directory. Blocking."""

    def __init__(self, files: FileSystem, root: str, first_revision: int) -> None:
        self._files = files
        self._root = root
        self._first_revision = first_revision
        self._items: list[Stored] = []
        self._damaged: list[tuple[str, str]] = []

    def load(self) -> Loaded:
        """Everything found. OSError when the directory itself cannot be read or synced."""
        for entry in self._scan(self._root):
            group = layout.decode_group(entry.name) if entry.is_directory else None
            if group is not None:
                self._load_group(group, os.path.join(self._root, entry.name))
        reserved = self._read_ceiling()
        newest = max((stored.revision for stored in self._items), default=0)
        if reserved is None:
            revision = newest + ceiling.LOST_FILE_MARGIN if newest else self._first_revision
        else:
            revision = max(reserved, newest, self._first_revision)
        return Loaded(items=tuple(self._items), revision=revision, ceiling=reserved or 0, damaged=tuple(self._damaged))

    def _load_group(self, group: str, path: str) -> None:
        for entry in self._scan(path):
            name = layout.decode_directory(entry.name) if entry.is_directory else None
            if name is not None:
                resource_path = os.path.join(path, entry.name)
                resource = GroupResource(group, name)
                for inner in self._load_objects(resource, "", resource_path):
                    namespace = layout.decode_directory(inner.name) if inner.is_directory else None
                    if namespace is not None:
                        self._load_objects(resource, namespace, os.path.join(resource_path, inner.name))

    def _load_objects(self, resource: GroupResource, namespace: str, path: str) -> list[Entry]:
        """Load the object files of one directory; returns all its entries."""
        entries = self._scan(path)
        names = {entry.name for entry in entries}
        for entry in entries:
            if entry.is_directory or not entry.name.endswith(layout.SUFFIX):
                continue
            try:
                self._items.append(self._read(resource, namespace, path, entry.name))
            except OSError as error:
                if error.errno in _OF_THIS_PROCESS:
                    raise
                self._set_aside(path, entry.name, names, f"cannot be read: {describe(error)}")
            except ValueError as error:
                self._set_aside(path, entry.name, names, str(error))
        return entries

    def _read(self, resource: GroupResource, namespace: str, path: str, name: str) -> Stored:
        data = self._files.read(os.path.join(path, name))
        try:
            obj = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"is not JSON: {error}") from error
        metadata = obj.get("metadata") if isinstance(obj, dict) else None
        if not isinstance(metadata, dict):
            raise ValueError("is not an API object")
        inside = Key(resource, metadata.get("namespace") or "", metadata.get("name") or "")
        if inside.namespace != namespace or not _is_named(inside, name):
            raise ValueError(f"holds another object, {inside.namespace}/{inside.name}")
        try:
            revision = ceiling.parse(str(metadata.get("resourceVersion")).encode())
        except ValueError as error:
            raise ValueError("has no valid metadata.resourceVersion") from error
        try:
            return Stored.of_json(inside, orjson.dumps(obj, option=orjson.OPT_SORT_KEYS), revision)
        except orjson.JSONEncodeError as error:
            raise ValueError(f"cannot be encoded: {error}") from error

    def _set_aside(self, path: str, name: str, names: set[str], reason: str) -> None:
        source = os.path.join(path, name)
        number = 1
        while (aside := f"{name}.damaged-{number}") in names:
            number += 1
        target = os.path.join(path, aside)
        try:
            self._files.rename(source, target)
        except OSError as error:
            self._damaged.append((source, f"{reason}; cannot be set aside: {describe(error)}"))
        else:
            names.add(aside)
            self._damaged.append((target, reason))

    def _scan(self, path: str) -> list[Entry]:
        """The entries of a directory, after making them durable and without unfinished files.

        What was renamed before a crash but not synced is seen by readers from now on, so it must not vanish later.
        """
        self._files.sync_directory(path)
        entries = []
        for entry in sorted(self._files.entries(path)):
            if entry.name.startswith(layout.TEMPORARY):
                discard(self._files, os.path.join(path, entry.name))
            else:
                entries.append(entry)
        return entries

    def _read_ceiling(self) -> int | None:
        try:
            return ceiling.parse(self._files.read(os.path.join(self._root, ceiling.FILE_NAME)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            names = {entry.name for entry in self._files.entries(self._root)}
            self._set_aside(self._root, ceiling.FILE_NAME, names, str(error))
            return None


def _is_named(key: Key, file_name: str) -> bool:
    return isinstance(key.name, str) and bool(key.name) and layout.file_of(key) == file_name
