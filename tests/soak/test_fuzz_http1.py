"""The HTTP/1.1 front under requests that are almost right: refused or served, never let through half understood.

h11 judges the same bytes: what it calls malformed must not have reached the backend, and what reached the backend must
be what it reads. `make soak` runs this for FUZZ_SECONDS, an ordinary run for some seconds; a failure shows the bytes
and the seed (FUZZ_SEED) of the run.
"""

import asyncio
import itertools
import random
import re
import ssl
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import h11

from tests.soak import mutate
from tests.soak.campaign import campaign
from tests.soak.recording import Recording
from tests.unit.aggregator.proxy_kit import request

ANSWER_SECONDS = 6.0
"""Beyond every deadline of the proxy for a head or a connection without one."""
SAFE = {b"GET", b"HEAD", b"OPTIONS"}
EXPECTED = {100, 101, 200, 400, 401, 403, 404, 405, 408, 413, 414, 431, 501, 503, 505}


@dataclass(frozen=True)
class Judgement:
    """What h11 makes of some bytes."""

    requests: list[tuple[bytes, bytes]]
    """Method and target of each; none when the first one is malformed."""
    malformed: bool
    """Something in there is no HTTP."""
    waiting: bool
    """The end is in the middle of a request."""


def judged(data: bytes) -> Judgement:
    found: list[tuple[bytes, bytes]] = []
    while True:
        # RFC 9112 2.2: empty lines before a request may be ignored. 3: several spaces may stand where one has to.
        data = re.sub(rb"^([A-Z]+) +(/\S*) +(HTTP/)", rb"\1 \2 \3", data.lstrip(b"\r\n"))
        if not data:
            return Judgement(found, False, False)
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        try:
            server.receive_data(data)
            while server.their_state is not h11.DONE and server.their_state is not h11.MUST_CLOSE:
                event = server.next_event()
                if isinstance(event, h11.Request):
                    found.append((event.method, event.target))
                elif event is h11.NEED_DATA:
                    return Judgement(found, False, True)
                elif event is h11.PAUSED:
                    # An upgrade that the backend does not grant: an ordinary answer, and on.
                    server.send(h11.Response(status_code=405, headers=[("Content-Length", "0")]))
                    server.send(h11.EndOfMessage())
        except h11.RemoteProtocolError:
            return Judgement(found, True, False)
        if server.their_state is h11.MUST_CLOSE:
            return Judgement(found, False, False)
        data = server.trailing_data[0]


def statuses(answer: bytes) -> list[int]:
    """The codes of the responses in these bytes; ValueError when they are no responses."""
    found = []
    while answer:
        line, _, _ = answer.partition(b"\r\n")
        if not line.startswith(b"HTTP/1.1 "):
            raise ValueError(line[:80])
        code = int(line[9:12])
        found.append(code)
        head, _, rest = answer.partition(b"\r\n\r\n")
        length = [int(item[15:]) for item in head.lower().split(b"\r\n") if item.startswith(b"content-length:")]
        # The answer to HEAD tells the length of a body that does not come.
        skip = length[0] if length and not rest.startswith(b"HTTP/1.1 ") else 0
        answer = rest[skip:]
    return found


class Fuzz:
    """One worker: a backend of its own, one connection at a time."""

    def __init__(
        self, port: int, context: ssl.SSLContext, group: str, recording: Recording, chance: random.Random
    ) -> None:
        self.counted: Counter[str] = Counter()
        self._port, self._context, self._group, self._recording = port, context, group.encode(), recording
        self._chance = chance
        self._number = 0

    async def run(self, until: float) -> None:
        while time.monotonic() < until:
            self._number += 1
            mark = f"n{self._number}n"
            if self._number % 20 == 0:
                await self._try(request("GET", f"/apis/{self._group.decode()}/v1/{mark}/fine"), plain=True)
            else:
                await self._try(mutate.request(self._chance, self._group, mark.encode()))

    async def _try(self, data: bytes, *, plain: bool = False) -> None:
        answer = await self._exchange(data, wait=plain)
        # What an earlier connection left on its way when it ended is none of this one's.
        seen = [item for item in self._recording.taken() if self._of_this(item[1])]

        def told() -> str:
            return f"sent: {data!r}\nanswered: {answer and answer[:500]!r}\narrived: {seen!r}"

        self._recording.expect_nothing_wrong(told)
        expected = judged(data)
        assert answer is not None or expected.waiting, f"neither answered nor closed\n{told()}"
        try:
            codes = statuses(answer or b"")
        except ValueError as error:
            raise AssertionError(f"no HTTP: {error}\n{told()}") from error
        self.counted.update(map(str, codes or [0]))
        assert EXPECTED.issuperset(codes), told()
        if expected.malformed and not expected.requests:
            assert seen == [], f"malformed, and yet it arrived\n{told()}"
            assert 200 not in codes, told()
        left = iter(expected.requests)
        # A safe request may be sent again when its connection dies (ADR 0010), any other never.
        arrived = [item for item, same in itertools.groupby(seen) for _ in (same if item[0] not in SAFE else (item,))]
        assert all(item in left for item in arrived), f"read differently\n{told()}"
        if plain:
            assert codes == [200], told()

    def _of_this(self, target: bytes) -> bool:
        mark = re.search(rb"/n(\d+)n/", target)
        return mark is None or int(mark[1]) == self._number

    async def _exchange(self, data: bytes, *, wait: bool) -> bytes | None:
        """Everything the proxy says until it closes; None when it neither says anything nor closes."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._context, server_hostname="localhost"
        )
        answer = b""
        try:
            for piece in self._pieces(data):
                writer.write(piece)
                await asyncio.sleep(0)
            async with asyncio.timeout(ANSWER_SECONDS):
                while chunk := await reader.read(65536):
                    answer += chunk
                    if wait and answer.endswith(b"ok"):
                        break
        except ConnectionError:
            pass
        except TimeoutError:
            return answer or None
        finally:
            writer.transport.abort()
        return answer

    def _pieces(self, data: bytes) -> list[bytes]:
        if self._chance.random() < 0.7:
            return [data]
        places = sorted(self._chance.randrange(len(data) + 1) for _ in range(3))
        return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


async def test_http1_front(tmp_path: Path) -> None:
    counted = await campaign(tmp_path, Fuzz, workers=24, alpn="http/1.1")
    assert counted["200"] > 10
    assert counted["400"] > 10
