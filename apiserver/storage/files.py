"""The file system calls the store makes, and nothing else, so that tests can fail or stop at any one of them."""

import errno
import os
from typing import Final, NamedTuple

_NOT_SYNCABLE: Final = {errno.EINVAL, errno.ENOTSUP}


class Entry(NamedTuple):
    """A directory entry. A symbolic link counts as a file: it may lead out of the data directory."""

    name: str
    is_directory: bool


class FileSystem:
    """Blocking calls; each raises OSError. May be used from several threads at once."""

    def make_directory(self, path: str) -> bool:
        """Make a private directory, True; False for one that exists: it stays as it is."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
            return False
        return True

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""
        os.rmdir(path)

    def create(self, path: str) -> int:
        """A descriptor of a new or emptied private file."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of `data`: a nearly full disk takes a part first and refuses the rest."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is fine."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

    def sync_directory(self, path: str) -> None:
        """Make renames, creations and removals in a directory durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network and FUSE file systems cannot sync a directory; they order such changes by themselves.
            if error.errno not in _NOT_SYNCABLE:
                raise
        finally:
            os.close(descriptor)

    def entries(self, path: str) -> list[Entry]:
        with os.scandir(path) as found:
            return [Entry(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()


def replace_file(files: FileSystem, directory: str, name: str, temporary: str, data: bytes) -> None:
    """Durably give `name` new content, all or nothing. OSError: the old content or the new, but nothing between."""
    source = os.path.join(directory, temporary)
    try:
        descriptor = files.create(source)
        try:
            files.write(descriptor, data)
            files.sync(descriptor)
        finally:
            files.close(descriptor)
        files.rename(source, os.path.join(directory, name))
    except OSError:
        discard(files, source)
        raise
    files.sync_directory(directory)


def discard(files: FileSystem, path: str) -> None:
    """Remove a temporary file if that can be done; otherwise the next start does."""
    try:
        files.remove(path)
    except OSError:
        pass
