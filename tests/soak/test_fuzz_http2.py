"""The HTTP/2 front under conversations that are almost right: nobody hangs, nothing spoofed comes through.

`make soak` runs this for FUZZ_SECONDS, an ordinary run for some seconds; a failure shows the bytes and the seed
(FUZZ_SEED) of the run.
"""

import asyncio
import random
import ssl
import time
from collections import Counter
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from tests.soak import frames
from tests.soak.campaign import campaign
from tests.soak.recording import Recording

ANSWER_SECONDS = 8.0
_FINE_EVERY = 20


class Fuzz:
    """One worker: a backend of its own, one connection at a time."""

    def __init__(
        self, port: int, context: ssl.SSLContext, group: str, recording: Recording, chance: random.Random
    ) -> None:
        self.counted: Counter[str] = Counter()
        self._port, self._context, self._group, self._recording = port, context, group, recording
        self._chance = chance

    async def run(self, until: float) -> None:
        number = 0
        while time.monotonic() < until:
            number += 1
            if number % _FINE_EVERY == 0:
                await self._fine()
            else:
                await self._try(frames.conversation(self._chance, self._group, f"n{number}"))

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, ssl=self._context, server_hostname="localhost")

    async def _try(self, data: bytes) -> None:
        reader, writer = await self._open()
        answer = b""
        try:
            writer.write(data)
            async with asyncio.timeout(ANSWER_SECONDS):
                while chunk := await reader.read(65536):
                    answer += chunk
        except ConnectionError:
            pass
        except TimeoutError:
            # A client may close its flow control window for as long as a request may last.
            self.counted["held open"] += 1
        finally:
            writer.transport.abort()
        self._recording.expect_nothing_wrong(lambda: f"sent: {data!r}\nanswered: {answer[:500]!r}")
        self._recording.taken()
        self.counted["answered" if b"ok" in answer else "refused" if answer else "closed"] += 1

    async def _fine(self) -> None:
        """A well-formed request on a fresh connection is served whatever happened before."""
        reader, writer = await self._open()
        protocol = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        protocol.initiate_connection()
        path = f"/apis/{self._group}/v1/fine"
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        protocol.send_headers(1, fields, end_stream=True)
        body, ended = b"", False
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while not ended:
                    writer.write(protocol.data_to_send())
                    data = await reader.read(65536)
                    assert data, "a connection with a well-formed request was closed"
                    for event in protocol.receive_data(data):
                        body += (event.data or b"") if isinstance(event, h2.events.DataReceived) else b""
                        ended = ended or isinstance(event, h2.events.StreamEnded)
        finally:
            writer.transport.abort()
        assert body == b"ok"
        self.counted["fine"] += 1


async def test_http2_front(tmp_path: Path) -> None:
    counted = await campaign(tmp_path, Fuzz, workers=12, alpn="h2")
    assert counted["answered"] > 5
    assert counted["refused"] > 5
    assert counted["held open"] <= counted.total() / 10
