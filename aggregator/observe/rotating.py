"""A log file that several processes may write at a time, and that any of them rotates.

Lines are appended with O_APPEND, whole lines with each write, so those of several processes do not mix. Whoever finds
the file too large renames it under a lock; the others see that the name stands for another file now, and follow. What
one still writes to the renamed file is kept there. Backups are named as the originals name them:
`audit-2026-01-02T15-04-05.000.log` beside `audit.log`.
"""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

_MODE = 0o600
_STAMP = re.compile(r"-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}")
_STAMP_FORMAT = "-%Y-%m-%dT%H-%M-%S.%f"
_DAY_SECONDS = 86400


class RotatingFile:
    """Appends to `path`. OSError from every method when the file system refuses; the next call tries again.

    `max_bytes` 0 never rotates; `max_backups` 0 keeps all; `max_age_days` 0 keeps them for ever.
    """

    def __init__(self, path: Path, *, max_bytes: int = 0, max_backups: int = 0, max_age_days: int = 0) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_backups = max_backups
        self._max_age_days = max_age_days
        self._file = -1
        self._torn = False
        """A line was begun and not ended, as a full disk makes it."""
        self._open()

    def write(self, data: bytes) -> None:
        """Append whole lines."""
        if self._file < 0 or self._moved():
            self._open()
        if self._max_bytes and os.fstat(self._file).st_size + len(data) > self._max_bytes:
            self._rotate(len(data))
        if self._torn:
            data = b"\n" + data
        while data:
            data = data[os.write(self._file, data) :]
            self._torn = bool(data)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        self.close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)

    def _moved(self) -> bool:
        """Whether the name stands for another file than the open one, or for none."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        here = os.fstat(self._file)
        return (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev)

    def _rotate(self, coming: int) -> None:
        with self._locked():
            if self._moved():
                self._open()
            size = os.fstat(self._file).st_size
            if size and size + coming > self._max_bytes:
                os.rename(self._path, self._backup_name())
                self._open()
                self._prune()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process rotates at a time: the directory itself is what they lock."""
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _backup_name(self) -> Path:
        """A name that sorts behind those of all other backups, even when the clock does not go on."""
        moment = datetime.now(UTC)
        newest = max(self._backups(), default=None)
        if newest is not None:
            stamp = newest.name[len(self._path.stem) :].removesuffix(self._path.suffix)
            moment = max(moment, datetime.strptime(f"{stamp}+0000", f"{_STAMP_FORMAT}%z") + timedelta(milliseconds=1))
        return self._path.with_name(f"{self._path.stem}{moment.strftime(_STAMP_FORMAT)[:-3]}{self._path.suffix}")

    def _prune(self) -> None:
        backups = sorted(self._backups(), reverse=True)
        oldest = time.time() - self._max_age_days * _DAY_SECONDS
        for position, backup in enumerate(backups):
            too_many = self._max_backups and position >= self._max_backups
            with contextlib.suppress(FileNotFoundError):
                if too_many or (self._max_age_days and backup.stat().st_mtime < oldest):
                    backup.unlink()

    def _backups(self) -> Iterator[Path]:
        stem, suffix = self._path.stem, self._path.suffix
        for entry in self._path.parent.iterdir():
            name = entry.name
            middle = name[len(stem) : len(name) - len(suffix)]
            if name.startswith(stem) and name.endswith(suffix) and _STAMP.fullmatch(middle):
                yield entry


class StandardOutput:
    """The same interface for standard output."""

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(1, data) :]

    def close(self) -> None:
        """It is not ours to close."""
