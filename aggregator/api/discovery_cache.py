"""What aggregated servers said last, kept in a file so that a restart does not forget it."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from aggregator.api.discovery_sources import Known
from apimachinery.gvk import GroupVersion

_FORMAT = 1


def encode(known: Mapping[str, Known]) -> bytes:
    """The file's content for what is known by source key; what a server failed with is not kept."""
    sources = {
        key: {"etag": entry.etag, "documents": {str(gv): document for gv, document in entry.documents.items()}}
        for key, entry in sorted(known.items())
        if entry.documents
    }
    return orjson.dumps({"format": _FORMAT, "sources": sources}, option=orjson.OPT_APPEND_NEWLINE)


def decode(data: bytes) -> dict[str, Known]:
    """The inverse of `encode`, with everything marked as not confirmed. ValueError when the content is damaged."""
    content = orjson.loads(data)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"not a discovery cache of format {_FORMAT}")
    try:
        return {str(key): _known(entry) for key, entry in content["sources"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"damaged discovery cache: {error!r}") from error


def _known(entry: Any) -> Known:
    documents = {GroupVersion.parse(text): document for text, document in entry["documents"].items()}
    if not all(isinstance(document["resources"], list) for document in documents.values()):
        raise ValueError("damaged discovery cache: resources is no list")
    return Known(documents=documents, etag=str(entry["etag"]), failed=frozenset(documents))


def read(file: Path) -> dict[str, Known]:
    """What the file holds; nothing when there is no file. OSError, ValueError."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return {}
    return decode(data)


def write(file: Path, data: bytes) -> None:
    """Replace the file as a whole; a crash leaves the old content or the new. OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
