"""A disk in memory that can stop the process at any call, refuse calls, and lose what was never synced."""

import errno
import os
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from apiserver.storage.files import Entry, FileSystem


class Crash(Exception):
    """The process is dead: this call, and every later one, does nothing."""


@dataclass(slots=True)
class Node:
    """A file: what readers see, and what is on the platter (None: nothing promised)."""

    content: bytes = b""
    durable: bytes | None = None
    doomed: bool = False
    """A sync failed: later ones succeed without making anything durable, as on Linux."""


@dataclass(slots=True)
class Renaming:
    """A change of a directory that is not durable yet. After a failed sync it may never be."""

    names: Mapping[str, "Node | Directory | None"]
    doomed: bool = False


@dataclass(slots=True)
class Directory:
    entries: dict[str, "Node | Directory"] = field(default_factory=dict)
    durable: dict[str, "Node | Directory"] = field(default_factory=dict)
    pending: list[Renaming] = field(default_factory=list)

    def change(self, names: Mapping[str, "Node | Directory | None"]) -> None:
        _update(self.entries, names)
        self.pending.append(Renaming(names))

    def sync(self) -> None:
        kept: list[Renaming] = []
        for renaming in self.pending:
            if renaming.doomed:
                kept.append(renaming)
            else:
                _update(self.durable, renaming.names)
                kept = [other for other in kept if not other.names.keys() & renaming.names.keys()]
        self.pending = kept


def _update(entries: "dict[str, Node | Directory]", names: Mapping[str, "Node | Directory | None"]) -> None:
    for name, node in names.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


Fault = Callable[[int, str, str], OSError | None]
"""Number, name and path of a call to the error it shall have."""


def no_fault(_number: int, _call: str, _path: str) -> OSError | None:
    return None


class SimulatedDisk(FileSystem):
    """Everything below `root`. The process stops before call number `crash_at` (a write is then half done)."""

    def __init__(self, root: str, top: Directory | None = None, *, crash_at: int | None = None) -> None:
        self.crash_at = crash_at
        self.fault: Fault = no_fault
        self.calls = 0
        self.crashed = False
        self._root = root
        self._top = top or Directory()
        self._open: dict[int, tuple[Node, str]] = {}
        self._lock = threading.RLock()

    def after_crash(self) -> "SimulatedDisk":
        """What a new process finds when only the old one died."""
        return SimulatedDisk(self._root, self._top)

    def after_power_loss(self, chance: random.Random) -> "SimulatedDisk":
        """What is found when the machine died: of what was not synced, anything may be there or not."""
        return SimulatedDisk(self._root, _survivors(self._top, chance))

    def make_directory(self, path: str) -> bool:
        with self._lock:
            self._call("make_directory", path)
            parent, name = self._find(path)
            if name in parent.entries:
                return False
            parent.change({name: Directory()})
            return True

    def remove_directory(self, path: str) -> None:
        with self._lock:
            self._call("remove_directory", path)
            parent, name = self._find(path)
            if self._directory(path).entries:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
            parent.change({name: None})

    def create(self, path: str) -> int:
        with self._lock:
            self._call("create", path)
            parent, name = self._find(path)
            node = Node()
            parent.change({name: node})
            descriptor = 1000 + self.calls
            self._open[descriptor] = (node, path)
            return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        with self._lock:
            node, path = self._open[descriptor]
            try:
                self._call("write", path)
            except (Crash, OSError):
                node.content += data[: len(data) // 2]
                raise
            node.content += data

    def sync(self, descriptor: int) -> None:
        with self._lock:
            node, path = self._open[descriptor]
            try:
                self._call("sync", path)
            except OSError:
                node.doomed = True
                raise
            if not node.doomed:
                node.durable = node.content

    def close(self, descriptor: int) -> None:
        with self._lock:
            _, path = self._open.pop(descriptor)
            self._call("close", path)

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            self._call("rename", target)
            parent, name = self._find(source)
            assert os.path.dirname(source) == os.path.dirname(target)
            parent.change({name: None, os.path.basename(target): parent.entries[name]})

    def remove(self, path: str) -> None:
        with self._lock:
            self._call("remove", path)
            parent, name = self._find(path)
            if name in parent.entries:
                parent.change({name: None})

    def sync_directory(self, path: str) -> None:
        with self._lock:
            directory = self._directory(path)
            try:
                self._call("sync_directory", path)
            except OSError:
                for renaming in directory.pending:
                    renaming.doomed = True
                raise
            directory.sync()

    def entries(self, path: str) -> list[Entry]:
        with self._lock:
            self._call("entries", path)
            found = self._directory(path).entries
            return [Entry(name, isinstance(node, Directory)) for name, node in found.items()]

    def read(self, path: str) -> bytes:
        with self._lock:
            self._call("read", path)
            parent, name = self._find(path)
            node = parent.entries.get(name)
            if not isinstance(node, Node):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return node.content

    @property
    def open_files(self) -> int:
        return len(self._open)

    def files(self) -> dict[str, bytes]:
        """Content by path relative to the root."""
        return dict(_walk(self._top, ""))

    def _call(self, name: str, path: str) -> None:
        number = self.calls
        self.calls += 1
        if self.crashed or number == self.crash_at:
            self.crashed = True
            raise Crash
        error = self.fault(number, name, path)
        if error is not None:
            raise error

    def _find(self, path: str) -> tuple[Directory, str]:
        return self._directory(os.path.dirname(path)), os.path.basename(path)

    def _directory(self, path: str) -> Directory:
        directory = self._top
        relative = os.path.relpath(path, self._root)
        assert not relative.startswith(".."), f"{path} is outside of the data directory"
        for part in relative.split(os.sep):
            if part != ".":
                found = directory.entries.get(part)
                if not isinstance(found, Directory):
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
                directory = found
        return directory


def _survivors(directory: Directory, chance: random.Random) -> Directory:
    names = dict(directory.durable)
    for renaming in directory.pending:
        if chance.random() < 0.5:
            _update(names, renaming.names)
    entries: dict[str, Node | Directory] = {}
    for name, node in names.items():
        if isinstance(node, Directory):
            entries[name] = _survivors(node, chance)
        else:
            content = node.durable
            if content is None:
                content = node.content[: chance.randint(0, len(node.content))]
            entries[name] = Node(content, content)
    return Directory(entries, dict(entries))


def _walk(directory: Directory, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for name, node in directory.entries.items():
        if isinstance(node, Directory):
            found += _walk(node, f"{prefix}{name}/")
        else:
            found.append((prefix + name, node.content))
    return found
