"""The promise that revisions never go backwards, kept in one small file.

The file holds a revision that has never been exceeded. It is raised, durably, in blocks and before any write may use a
number above it; so a crash skips the rest of a block and reuses nothing, not even the revisions of deletions, which no
object's file remembers. A clean close writes the exact number.
"""

from typing import Final

from apiserver.storage.files import FileSystem, replace_file
from apiserver.storage.layout import TEMPORARY

FILE_NAME: Final = ".revision"
BLOCK: Final = 1000
LOST_FILE_MARGIN: Final = 1_000_000
"""Skipped when the file was lost but objects exist: nobody knows how many deletions followed the newest object."""


class Ceiling:
    """The reserved revisions. Blocking; OSError when the file cannot be written."""

    def __init__(self, files: FileSystem, root: str, value: int) -> None:
        self.value = value
        self._files = files
        self._root = root

    def reserve(self, revision: int) -> None:
        """Return when `revision` may be used. Reserves ahead of need, and fails only when there is need.

        On a full disk, deletions thereby still find some hundred revisions to make room with.
        """
        if revision + BLOCK // 2 <= self.value:
            return
        try:
            self._write(revision + BLOCK)
        except OSError:
            if revision > self.value:
                raise

    def settle(self, revision: int) -> None:
        """Write the exact revision, at a clean close. Nothing may be reserved afterwards."""
        self._write(revision)

    def _write(self, value: int) -> None:
        replace_file(self._files, self._root, FILE_NAME, f"{TEMPORARY}revision", b"%d\n" % value)
        self.value = value


def parse(data: bytes) -> int:
    """The content of the file; ValueError when it is not a positive number."""
    text = data.removesuffix(b"\n")
    if not text.isdigit() or text.startswith(b"0"):
        raise ValueError("not a revision")
    return int(text)
