"""The backends of the soak over HTTP/2: one that answers well, and one that fails by stream and by connection."""

import asyncio
import hashlib
import random
import re
import struct
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.soak.faulty import content
from tests.unit.aggregator.http2_kit import DATA, END_STREAM, GOAWAY, INTERNAL, NO_ERROR, REFUSED, frame, head
from tests.unit.aggregator.shared_peer import Asked

_SIZE = re.compile(r"/size-(\d+)")


async def serve_well(asked: Asked) -> None:
    """The right answer: what was uploaded as a digest, a watch, or so many bytes."""
    uploaded = await asked.body()
    if "watch=1" in asked.path:
        asked.head("200", ("content-type", "application/json"))
        while True:
            await asked.data(b'{"type":"BOOKMARK"}\n')
            await asyncio.sleep(0.02)
    size = _SIZE.search(asked.path)
    await asked.answer(content(int(size[1])) if size else hashlib.sha256(uploaded).hexdigest().encode())


def _goaway(asked: Asked, last: int, code: int) -> None:
    asked.peer.write(frame(GOAWAY, 0, 0, struct.pack(">II", last, code)))


class Faults:
    """A backend that fails about every other request, seldom in the same way."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.counted: Counter[str] = Counter()

    async def serve(self, asked: Asked) -> None:
        ways: list[Callable[[Asked], Awaitable[None]]] = [
            self._refuse,
            self._reset,
            self._reset_in_body,
            self._too_short,
            self._malformed,
            self._stall,
            self._slow,
            self._busy,
            self._leave,
            self._leave_at_once,
            self._close,
            self._garbage,
        ]
        if self._random.random() < 0.5:
            await serve_well(asked)
            return
        way = self._random.choice(ways)
        self.counted[way.__name__] += 1
        await way(asked)

    async def _refuse(self, asked: Asked) -> None:
        asked.refuse(REFUSED)

    async def _reset(self, asked: Asked) -> None:
        await asyncio.sleep(0.01)
        asked.refuse(INTERNAL)

    async def _reset_in_body(self, asked: Asked) -> None:
        asked.head("200", ("content-length", "1000"))
        await asked.data(b"half")
        asked.refuse(INTERNAL)

    async def _too_short(self, asked: Asked) -> None:
        fields = ((":status", "200"), ("content-length", "1000"))
        asked.peer.write(head(asked.stream, *fields, end=False), frame(DATA, END_STREAM, asked.stream, b"half"))

    async def _malformed(self, asked: Asked) -> None:
        asked.peer.write(head(asked.stream, (":status", "200"), ("x-a", "1\r\nx-b: 2")))

    async def _stall(self, asked: Asked) -> None:
        await asyncio.sleep(1.5)
        asked.refuse(INTERNAL)

    async def _slow(self, asked: Asked) -> None:
        await asyncio.sleep(0.2)
        await serve_well(asked)

    async def _busy(self, asked: Asked) -> None:
        await asked.answer(b"busy", ("retry-after", "1"), status="503")

    async def _leave(self, asked: Asked) -> None:
        """In two steps, as a server that is replaced does it."""
        _goaway(asked, (1 << 31) - 1, NO_ERROR)
        await serve_well(asked)
        _goaway(asked, max(asked.peer.asked), NO_ERROR)

    async def _leave_at_once(self, asked: Asked) -> None:
        """This one and those behind it have not been looked at."""
        _goaway(asked, max(asked.stream - 2, 0), NO_ERROR)

    async def _close(self, asked: Asked) -> None:
        asked.peer.close()

    async def _garbage(self, asked: Asked) -> None:
        asked.peer.write(self._random.randbytes(200))
