"""The data directory as a whole: it exists, can be written, and belongs to one process."""

import fcntl
import os
import socket
from pathlib import Path
from typing import Final

LOCK_FILE: Final = ".lock"


class DataDirectoryError(Exception):
    """The data directory cannot be used; the message names it and says why."""


class DataDirectoryInUseError(DataDirectoryError):
    """Another process, or another store of this one, owns the data directory; the message names it if it is known."""


class DirectoryLock:
    """Ownership of a data directory, held until `release` or the end of the process, however that comes.

    The lock file stays: removing it would let two processes lock two different files of that name.
    """

    def __init__(self, directory: Path) -> None:
        """Create the directory if need be and lock it. DataDirectoryError, DataDirectoryInUseError."""
        path = directory / LOCK_FILE
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirectoryError(f"data directory {directory} cannot be used: {describe(error)}") from error
        try:
            self._lock(directory, path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _lock(self, directory: Path, path: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            # In containers a process id alone says little, so the owner also leaves its host name.
            owner = os.pread(self._descriptor, 300, 0).decode(errors="replace").strip() or "another process"
            raise DataDirectoryInUseError(
                f"data directory {directory} is in use by {owner} (lock file {path})"
            ) from error
        except OSError as error:
            raise DataDirectoryError(f"data directory {directory} cannot be locked: {describe(error)}") from error
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"process {os.getpid()} on host {socket.gethostname()}\n".encode(), 0)
        except OSError:
            # A full disk refuses the note about the owner; the lock itself holds.
            pass

    def release(self) -> None:
        os.close(self._descriptor)


def describe(error: BaseException) -> str:
    """The text of an operating system error without its path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
