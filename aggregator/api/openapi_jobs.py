"""The slow work on OpenAPI documents, from bytes to bytes, so that it can be done in another process.

`python -m aggregator.api.openapi_jobs JOB` is that process: it reads its input from standard input, writes the result
to standard output, and ends.
"""

import os
import resource
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from aggregator.api import openapi_answer
from aggregator.api.openapi_answer import UnusableDocumentError
from apimachinery.gvk import GroupVersion
from apimachinery.openapi import merge, protobuf

Job = Callable[[Sequence[bytes]], list[bytes]]

UNUSABLE_EXIT: Final = 3
"""Exit status of a process whose output says why a document cannot be used."""
MEMORY_LIMIT_BYTES: Final = 2 * 1024**3
CPU_LIMIT_SECONDS: Final = 120
_NICE: Final = 10
_LENGTH: Final = struct.Struct("<Q")
_UNMERGEABLE = (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError)


def encode_owned(owned: Sequence[GroupVersion]) -> bytes:
    return orjson.dumps([str(group_version) for group_version in owned])


def _owned(data: bytes) -> list[GroupVersion]:
    return [GroupVersion.parse(text) for text in orjson.loads(data)]


def _check_v3(parts: Sequence[bytes]) -> list[bytes]:
    (body,) = parts
    openapi_answer.check_v3(body)
    return []


def _reduce_v2(parts: Sequence[bytes]) -> list[bytes]:
    body, owned = parts
    return [openapi_answer.reduced_v2(body, _owned(owned))]


def _convert(parts: Sequence[bytes]) -> list[bytes]:
    spec, owned = parts
    pairs = openapi_answer.converted(spec, _owned(owned)).items()
    return [item for key, body in pairs for item in (key.encode(), body)]


def _merge_v2(parts: Sequence[bytes]) -> list[bytes]:
    """The first document and the others in one; what cannot be merged is left out.

    Gives JSON, protobuf, and a JSON list of the positions of what was left out (0 is the first of the others).
    """
    local, *others = parts
    merged = merge.merge([orjson.loads(local)])
    skipped: list[int] = []
    for position, data in enumerate(others):
        try:
            merged = merge.merge([merged, orjson.loads(data)])
        except _UNMERGEABLE:
            skipped.append(position)
    body = orjson.dumps(merged, option=orjson.OPT_APPEND_NEWLINE)
    return [body, protobuf.encode_v2(merged), orjson.dumps(skipped)]


JOBS: Final[dict[str, Job]] = {
    "check-v3": _check_v3,
    "reduce-v2": _reduce_v2,
    "convert": _convert,
    "merge-v2": _merge_v2,
}


def pack(parts: Sequence[bytes]) -> bytes:
    """Several byte strings in one."""
    return b"".join(item for part in parts for item in (_LENGTH.pack(len(part)), part))


def unpack(data: bytes) -> list[bytes]:
    """The inverse of `pack`. ValueError when the data is cut short."""
    parts: list[bytes] = []
    position = 0
    while position < len(data):
        if position + _LENGTH.size > len(data):
            raise ValueError("cut short")
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        part = data[position : position + length]
        if len(part) < length:
            raise ValueError("cut short")
        parts.append(part)
        position += length
    return parts


def main(name: str) -> int:
    """Do one job and return the exit status. What the input makes of it is bounded in memory and time."""
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_SECONDS, CPU_LIMIT_SECONDS))
    try:
        output = pack(JOBS[name](unpack(sys.stdin.buffer.read())))
        code = 0
    except UnusableDocumentError as error:
        output, code = str(error).encode(errors="replace"), UNUSABLE_EXIT
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
