"""Clients of the soak: HTTP/1.1 and HTTP/2, patient and rude, each of which knows what it must not be told."""

import asyncio
import hashlib
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11

from tests.soak.faulty import content

ANSWER_SECONDS = 8.0
"""Longer than any fault and every deadline of the proxy: whoever waits longer hangs."""
_REFUSALS = {503, 504, 429}


class Wrong(AssertionError):
    """An answer that nobody should ever get."""


class Clients:
    """`run` keeps `per_kind` clients of each kind busy until `stop`; the first wrong answer ends it."""

    def __init__(self, port: int, context: Callable[[list[str]], ssl.SSLContext], seed: int) -> None:
        self.answers: Counter[str] = Counter()
        self._port = port
        self._context = context
        self._seed = seed
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    async def run(self, per_kind: int) -> None:
        kinds = (self._http1, self._http1_rude, self._http2, self._watch)
        async with asyncio.TaskGroup() as tasks:
            for number in range(per_kind):
                for kind in kinds:
                    chance = random.Random(f"{self._seed} {number} {kind.__name__}")
                    tasks.create_task(self._repeat(kind, chance), name=f"{kind.__name__} {number}")

    async def _repeat(self, kind: Callable[[random.Random], Awaitable[None]], chance: random.Random) -> None:
        while not self._stopped:
            async with asyncio.timeout(60):
                await kind(chance)

    async def _open(self, alpn: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = self._context([alpn])
        return await asyncio.open_connection("127.0.0.1", self._port, ssl=context, server_hostname="localhost")

    def _wanted(self, chance: random.Random) -> tuple[str, str, bytes, bytes]:
        """A request by method, target and body, and the body of its right answer."""
        group = chance.choice(("steady", "faulty"))
        if chance.random() < 0.3:
            body = chance.randbytes(chance.choice((0, 10, 5_000, 300_000)))
            digest = hashlib.sha256(body).hexdigest().encode()
            return chance.choice(("POST", "PUT")), f"/apis/{group}/v1/things", body, digest
        size = chance.choice((0, 1, 2_000, 70_000, 1_000_000))
        return "GET", f"/apis/{group}/v1/things/size-{size}", b"", content(size)

    def _judge(self, target: str, status: int, complete: bool, body: bytes, wanted: bytes) -> None:
        kind = "steady" if "/steady/" in target else "faulty"
        self.answers[f"{kind} {status if complete else 'broken off'}"] += 1
        if status == 200 and complete:
            if body != wanted:
                raise Wrong(f"{target}: {len(body)} bytes that are not what the backend said")
        elif kind == "steady" or (complete and status not in _REFUSALS):
            raise Wrong(f"{target}: status {status}, complete {complete}: {body[:200]!r}")

    async def _http1(self, chance: random.Random) -> None:
        """Some requests over one connection."""
        reader, writer = await self._open("http/1.1")
        try:
            for _ in range(chance.randrange(1, 30)):
                method, target, body, wanted = self._wanted(chance)
                async with asyncio.timeout(ANSWER_SECONDS):
                    again = await self._exchange(reader, writer, method, target, body, wanted)
                if not again or self._stopped:
                    break
                await asyncio.sleep(chance.random() * 0.02)
        finally:
            writer.transport.abort()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        method: str,
        target: str,
        body: bytes,
        wanted: bytes,
    ) -> bool:
        protocol = h11.Connection(h11.CLIENT)
        head = h11.Request(
            method=method, target=target, headers=[("Host", "localhost"), ("Content-Length", str(len(body)))]
        )
        status, got = 0, b""
        try:
            for part in (head, h11.Data(data=body), h11.EndOfMessage()):
                writer.write(protocol.send(part) or b"")
            while True:
                event = protocol.next_event()
                if event is h11.NEED_DATA:
                    protocol.receive_data(await reader.read(262_144))
                elif isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    got += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
        except (h11.RemoteProtocolError, ConnectionError):
            self._judge(target, status, False, got, wanted)
            return False
        self._judge(target, status, True, got, wanted)
        return protocol.their_state is h11.DONE

    async def _http1_rude(self, chance: random.Random) -> None:
        """Leaves at any moment: within its request, while it waits, within the answer."""
        reader, writer = await self._open("http/1.1")
        try:
            method, target, body, _ = self._wanted(chance)
            raw = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            part = raw if chance.random() < 0.3 else raw[: chance.randrange(1, len(raw))]
            writer.write(part)
            await asyncio.sleep(chance.random() * 0.1)
            if part == raw:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await reader.read(chance.choice((1, 100, 100_000)))
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        self.answers["rude"] += 1

    async def _watch(self, chance: random.Random) -> None:
        """Some lines of a watch, and off."""
        reader, writer = await self._open("http/1.1")
        try:
            writer.write(b"GET /apis/steady/v1/things?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(ANSWER_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200 "):
                    raise Wrong(f"watch: {head[:200]!r}")
                for _ in range(chance.randrange(1, 20)):
                    await reader.readuntil(b"}\n")
        finally:
            writer.transport.abort()
        self.answers["watch"] += 1

    async def _http2(self, chance: random.Random) -> None:
        """Several requests at a time over one connection, of which some are given up."""
        reader, writer = await self._open("h2")
        try:
            streams = _Streams(self, reader, writer, chance)
            try:
                async with asyncio.timeout(3 * ANSWER_SECONDS):
                    await streams.run()
            except TimeoutError:
                raise Wrong(f"no end: {streams}") from None
        finally:
            writer.transport.abort()

    # For `_Streams`

    def wanted(self, chance: random.Random) -> tuple[str, str, bytes, bytes]:
        return self._wanted(chance)

    def judge(self, target: str, status: int, complete: bool, body: bytes, wanted: bytes) -> None:
        self._judge(target, status, complete, body, wanted)


class _Stream:
    def __init__(self, target: str, body: bytes, wanted: bytes) -> None:
        self.target, self.body, self.wanted = target, body, wanted
        self.status, self.got = 0, b""


class _Streams:
    """The client's side of one HTTP/2 connection, by the h2 library."""

    def __init__(
        self, clients: Clients, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random
    ) -> None:
        self._clients, self._reader, self._writer, self._chance = clients, reader, writer, chance
        self._protocol = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._open: dict[int, _Stream] = {}

    def __str__(self) -> str:
        """What there is still to come."""
        return ", ".join(
            f"{item.target}: {item.status}, {len(item.got)} of {len(item.wanted)} bytes, {len(item.body)} to send"
            for item in self._open.values()
        )

    async def run(self) -> None:
        self._protocol.initiate_connection()
        for _ in range(self._chance.randrange(1, 8)):
            self._begin()
        while self._open:
            for number in list(self._open):
                self._upload(number)
            self._writer.write(self._protocol.data_to_send())
            data = await self._reader.read(262_144)
            if not data:
                raise Wrong(f"the connection ended under {[item.target for item in self._open.values()]}")
            for event in self._protocol.receive_data(data):
                self._on(event)
        self._writer.write(self._protocol.data_to_send())

    def _begin(self) -> None:
        method, target, body, wanted = self._clients.wanted(self._chance)
        number = self._protocol.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", target)]
        self._protocol.send_headers(number, fields, end_stream=not body)
        self._open[number] = _Stream(target, body, wanted)
        if self._chance.random() < 0.1:
            del self._open[number]
            self._protocol.reset_stream(number, 8)
            self._clients.answers["given up"] += 1

    def _upload(self, number: int) -> None:
        stream = self._open[number]
        while stream.body:
            try:
                room = min(
                    self._protocol.local_flow_control_window(number), self._protocol.max_outbound_frame_size, 65536
                )
                if room <= 0:
                    return
                piece, stream.body = stream.body[:room], stream.body[room:]
                self._protocol.send_data(number, piece, end_stream=not stream.body)
            except h2.exceptions.StreamClosedError:
                stream.body = b""

    def _on(self, event: Any) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            raise Wrong(f"GOAWAY {event.error_code} {event.additional_data!r}")
        number = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.DataReceived):
            self._protocol.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        stream = self._open.get(number or 0)
        if stream is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.status = int(next(value for name, value in event.headers or () if name in (":status", b":status")))
        elif isinstance(event, h2.events.DataReceived):
            stream.got += event.data or b""
        elif isinstance(event, h2.events.StreamEnded):
            self._end(number or 0, complete=True)
        elif isinstance(event, h2.events.StreamReset):
            self._end(number or 0, complete=event.error_code == 0 and bool(stream.status))

    def _end(self, number: int, *, complete: bool) -> None:
        stream = self._open.pop(number, None)
        if stream is not None:
            self._clients.judge(stream.target, stream.status, complete, stream.got, stream.wanted)
