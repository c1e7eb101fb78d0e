"""A backend whose answers over HTTP/2 are almost right, and clients that know which of them have to be."""

import asyncio
import contextlib
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable

import hpack

from tests.soak import answers
from tests.unit.aggregator.fault_callers import PROTOCOLS, Caller, Outcome
from tests.unit.aggregator.proxy_kit import read_head
from tests.unit.aggregator.shared_peer import Asked, Peer

CLEAN = "/clean"
_TOGETHER_SECONDS = 0.01
"""How long a batch is waited for to be complete."""
_ANSWER_SECONDS = 5.0
"""Beyond every deadline of a request."""
_ODD = {503, 504, 502}


def asked_at(head: bytes) -> str:
    """The path of a request of HTTP/1.1."""
    return head.split(b" ", 2)[1].decode().partition("?")[0]


async def over_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The right answer, once: connections that are kept would be preferred to shared ones."""
    path = asked_at(await read_head(reader))
    body = answers.content(path)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nX-Path: {path[-100:]}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    writer.close()
    with contextlib.suppress(ssl.SSLError):
        await writer.wait_closed()


async def well(asked: Asked) -> None:
    await asked.body()
    path = asked.path.partition("?")[0]
    await asked.answer(answers.content(path), ("x-path", path[-100:]))


class Damaging:
    """Answers what comes together on a connection in one go."""

    def __init__(self, chance: random.Random) -> None:
        self.said = b""
        """The latest."""
        self.undamaged: dict[str, Peer] = {}
        """Where the clean answers were that nothing took away but the end of the connection."""
        self._chance = chance
        self._pending: dict[Peer, dict[int, str]] = {}
        self._encoders: dict[Peer, hpack.Encoder] = {}

    async def __call__(self, asked: Asked) -> None:
        peer = asked.peer
        pending = self._pending.setdefault(peer, {})
        pending[asked.stream] = asked.path.partition("?")[0]
        if len(pending) > 1:
            return
        await asyncio.sleep(_TOGETHER_SECONDS)
        del self._pending[peer]
        clean = next((stream for stream, path in pending.items() if path.endswith(CLEAN)), 0)
        for stream in [stream for stream, path in pending.items() if path.endswith(CLEAN) and stream != clean]:
            peer.write(*answers.right(stream, pending.pop(stream)))
        chance = self._chance
        batch = answers.Batch(clean, pending, self._encoders.setdefault(peer, hpack.Encoder()))
        self.said = data = answers.said(chance, batch)
        if clean and answers.undamaged(data, batch):
            self.undamaged[pending[clean]] = peer
        while data:
            size = chance.choice((1, 9, 100, 20_000, 1 << 20))
            piece, data = data[:size], data[size:]
            peer.write(piece)
            if chance.random() < 0.1:
                await asyncio.sleep(0)
        end = chance.random()
        if end < 0.05:
            peer.close()
        elif end < 0.08:
            peer.writer.transport.abort()


Connect = Callable[[str], contextlib.AbstractAsyncContextManager[Caller]]


class Clients:
    """Three at a time, one of whom asks for what has to be right; now and then somebody asks another backend."""

    def __init__(self, connect: Connect, group: str, canary: str, damaging: Damaging, chance: random.Random) -> None:
        self.counted: Counter[str] = Counter()
        self._connect, self._group, self._canary, self._damaging, self._chance = (
            connect,
            group,
            canary,
            damaging,
            chance,
        )

    async def run(self, until: float) -> None:
        number = 0
        while time.monotonic() < until:
            number += 1
            base = f"/apis/{self._group}/v1/n{number}"
            wanted = [self._ask(f"{base}{CLEAN}"), self._ask(f"{base}/a"), self._ask(f"{base}/b")]
            if number % 5 == 0:
                wanted.append(self._ask(f"/apis/{self._canary}/v1/n{number}{CLEAN}", sound=True))
            await asyncio.gather(*wanted)

    async def _ask(self, path: str, *, sound: bool = False) -> None:
        chance = self._chance
        protocol = chance.choice(PROTOCOLS)
        method, body = ("POST", b"x" * chance.choice((1, 30_000))) if chance.random() < 0.2 else ("GET", b"")
        async with self._connect(protocol) as caller, asyncio.timeout(_ANSWER_SECONDS):
            found = await caller.ask(method, path if sound else f"{path}?timeout=400ms", body)
        clean = path.endswith(CLEAN)
        told = f"{method} {path} over {protocol}: {_short(found)}\nof {self._damaging.said[:4000]!r}"
        assert not found.garbled, told
        assert not found.all("set-cookie"), told
        if clean and found.whole and found.status == 200:
            assert found.body == answers.content(path), f"wrong: {told}"
            assert found.all("x-path") == [path[-100:]], f"wrong: {told}"
            self.counted["right"] += 1
        elif sound:
            raise AssertionError(f"of the sound backend: {told}")
        elif clean:
            assert found.status in (*_ODD, 200, 0), told
            peer = self._damaging.undamaged.get(path)
            if peer is not None:
                # Nobody else's fault is one of this stream: only that the connection has ended can be.
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await peer.until_closed()
                self.counted["lost with its connection"] += 1
            self.counted["lost"] += 1
        else:
            self.counted["whole" if found.whole else "broken off"] += 1
            self.counted[str(found.status)] += 1


def _short(found: Outcome) -> str:
    return f"{found.status} {found.whole} {found.garbled} {len(found.body)} {found.fields} {found.body[:200]!r}"
