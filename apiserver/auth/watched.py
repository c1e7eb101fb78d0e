"""A file whose content is in effect, taken over again when it changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from apiserver.reload import stamp

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """What `load` made of a file when it was last good; `reload` is for a Reloader to call.

    FileError when the file cannot be used at first. `load` raises nothing else.
    """

    def __init__(self, path: Path, load: Callable[[Path], T], changed: Callable[[T], None] | None = None) -> None:
        self.path = path
        self._load = load
        self._changed = changed
        self._stamp = stamp(path)
        self.value = load(path)

    def reload(self) -> bool:
        """Take the file over if it is another one than before; whether it was. FileError leaves the former content."""
        found = stamp(self.path)
        if found == self._stamp:
            return False
        self.value = self._load(self.path)
        self._stamp = found
        if self._changed is not None:
            self._changed(self.value)
        return True
