"""Short words for tests of a file store on a real directory."""

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from apimachinery.gvk import GroupResource
from apimachinery.types import Object
from apiserver.storage.base import Key
from apiserver.storage.file import FileStore
from apiserver.storage.files import FileSystem

DUMMIES = GroupResource("example.test", "dummies")
NODES = GroupResource("", "nodes")


def never(path: Path, reason: str) -> None:
    raise AssertionError(f"{path}: {reason}")


def opened(directory: Path, files: FileSystem | None = None) -> AbstractAsyncContextManager[FileStore]:
    return FileStore.open(directory, on_damaged=never, files=files or FileSystem())


def key(name: str, namespace: str = "ns", resource: GroupResource = DUMMIES) -> Key:
    return Key(resource, namespace, name)


def obj(of: Key, **spec: object) -> Object:
    metadata: Object = {"name": of.name, "namespace": of.namespace} if of.namespace else {"name": of.name}
    return {"metadata": metadata, "spec": spec}


async def put(store: FileStore, of: Key, **spec: object) -> int:
    return (await store.create(of, obj(of, **spec))).revision


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


class Failing(FileSystem):
    """The real calls; those that `fails` picks (by call and path) raise its error."""

    def __init__(self, fails: Callable[[str, str], int | None]) -> None:
        self._fails = fails
        self._paths: dict[int, str] = {}

    def create(self, path: str) -> int:
        self._check("create", path)
        descriptor = super().create(path)
        self._paths[descriptor] = path
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        try:
            self._check("write", self._paths[descriptor])
        except OSError:
            super().write(descriptor, data[: len(data) // 2])
            raise
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._check("sync", self._paths[descriptor])
        super().sync(descriptor)

    def rename(self, source: str, target: str) -> None:
        self._check("rename", target)
        super().rename(source, target)

    def remove(self, path: str) -> None:
        self._check("remove", path)
        super().remove(path)

    def sync_directory(self, path: str) -> None:
        self._check("sync_directory", path)
        super().sync_directory(path)

    def _check(self, call: str, path: str) -> None:
        code = self._fails(call, path)
        if code is not None:
            raise OSError(code, os.strerror(code), path)
