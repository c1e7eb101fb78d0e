"""Documents compressed for clients that accept it, once for all who ask (rest.md A1: gzip over 128 KiB)."""

import asyncio
import gzip
from collections import OrderedDict

from apiserver.documents import Answer

OVER_BYTES = 128 * 1024
LEVEL = 1
"""As the originals: compressed for the network, not for the archive."""
_KEPT_BYTES = 32 * 1024 * 1024


def accepted(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header lists gzip, and not with the weight 0 that refuses it."""
    for clause in accept_encoding.split(","):
        coding, _, weight = clause.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "").rstrip("0") not in ("q=", "q=0.", "q=.")
    return False


class ZippedDocuments:
    """Compressed documents by entity tag and form, those asked for last, up to 32 MiB.

    Each is compressed on a thread, which lets go of the interpreter lock, and once however many ask for it meanwhile.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._size = 0
        self._under_way: dict[tuple[str, str], asyncio.Task[bytes]] = {}

    async def answer(self, answer: Answer, accept_encoding: str) -> Answer:
        """The answer itself, or the same compressed when it is large, has an entity tag and the client accepts it."""
        tag = answer.headers.get("etag", "")
        if answer.code != 200 or len(answer.body) <= OVER_BYTES or not tag:
            return answer
        vary = ", ".join(filter(None, (answer.headers.get("vary", ""), "Accept-Encoding")))
        headers = {**answer.headers, "vary": vary}
        if not accepted(accept_encoding):
            return answer._replace(headers=headers)
        body = await self._zipped((tag, answer.headers["content-type"]), answer.body)
        return answer._replace(headers={**headers, "content-encoding": "gzip"}, body=body)

    async def _zipped(self, key: tuple[str, str], body: bytes) -> bytes:
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._zip(key, body), name="zip document")
            self._under_way[key] = task
        # A client that leaves does not take it away from the others.
        return await asyncio.shield(task)

    async def _zip(self, key: tuple[str, str], body: bytes) -> bytes:
        try:
            zipped = await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
        finally:
            del self._under_way[key]
        self._kept[key] = zipped
        self._size += len(zipped)
        while self._size > _KEPT_BYTES and len(self._kept) > 1:
            self._size -= len(self._kept.popitem(last=False)[1])
        return zipped
