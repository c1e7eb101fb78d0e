"""Where a key lives below the data directory: <group>/<resource>/[<namespace>/]<name>.json. Pure, and reversible.

Each component is written so that different keys differ on case-insensitive file systems too, no component can be
`.`, `..` or hidden, and none can be taken for something else: only object files end in `.json` at their level, because
namespace directories have no dot.
"""

import hashlib
import re
from typing import Final
from urllib.parse import unquote

from apiserver.storage.base import Key

SUFFIX: Final = ".json"
TEMPORARY: Final = ".tmp-"
"""Prefix of files being written; no object's file name begins with a dot."""

CORE_GROUP: Final = "core"
"""Directory of the group with the empty name."""

_LONGEST_STEM: Final = 220
"""Leaves room in the 255 bytes of a file name for `.json` and a `.damaged-<n>` behind it."""

_UNSAFE = re.compile(r"[^a-z0-9._-]|^\.")
_UNSAFE_OR_DOT = re.compile(r"[^a-z0-9_-]")


def directory_of(key: Key) -> tuple[str, ...]:
    """The directories, below the data directory, that hold the object. ValueError for an empty group or resource."""
    parts = (encode_group(key.resource.group), _encode(key.resource.resource, _UNSAFE_OR_DOT))
    return (*parts, _encode(key.namespace, _UNSAFE_OR_DOT)) if key.namespace else parts


def file_of(key: Key) -> str:
    """The object's file name. ValueError for an empty name.

    A very long name is cut and told apart by a hash. It is the one encoding that cannot be decoded, and needs not be:
    the object inside has its name.
    """
    stem = _encode(key.name, _UNSAFE)
    if len(stem) > _LONGEST_STEM:
        digest = hashlib.sha256(key.name.encode("utf-8", "surrogatepass")).hexdigest()
        stem = f"{stem[: _LONGEST_STEM - 33]}~{digest[:32]}"
    return stem + SUFFIX


def encode_group(group: str) -> str:
    if not group:
        return CORE_GROUP
    return "%63ore" if group == CORE_GROUP else _encode(group, _UNSAFE)


def decode_group(directory: str) -> str | None:
    """The group of a directory; None when it is not one that this module names."""
    group = "" if directory == CORE_GROUP else unquote(directory)
    return group if encode_group(group) == directory else None


def decode_directory(directory: str) -> str | None:
    """The resource or namespace of a directory; None when it is not one that this module names."""
    name = unquote(directory)
    return name if name and _encode(name, _UNSAFE_OR_DOT) == directory else None


def _encode(text: str, unsafe: re.Pattern[str]) -> str:
    if not text:
        raise ValueError("a part of a key is empty")
    return unsafe.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02x}" for byte in match.group().encode("utf-8", "surrogatepass"))
