"""A file whose content is in effect, taken over again when it changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from apiserver import logs
from apiserver.auth.yaml_fields import FileError

log = logs.get("auth")

T = TypeVar("T")
_Version = tuple[int, int, int]


class WatchedFile(Generic[T]):
    """What `load` makes of a file, as of the last `refresh`. A new content that is bad is logged and not taken.

    FileError when it cannot even be read at first. `load` raises nothing else.
    """

    def __init__(self, path: Path, load: Callable[[Path], T], changed: Callable[[T], None] | None = None) -> None:
        self._path = path
        self._load = load
        self._changed = changed
        self._version = _version(path)
        self.value = load(path)

    def refresh(self) -> bool:
        """Look whether the file has changed, and take it over if so; whether it was. Cheap when it has not."""
        version = _version(self._path)
        if version == self._version:
            return False
        self._version = version
        try:
            self.value = self._load(self._path)
        except FileError as error:
            log.error("changed file not taken over", file=str(self._path), error=str(error))
            return False
        log.info("changed file taken over", file=str(self._path))
        if self._changed is not None:
            self._changed(self.value)
        return True


def _version(path: Path) -> _Version:
    """What tells two states of a file apart: also an exchange by renaming, and of a link's target."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
