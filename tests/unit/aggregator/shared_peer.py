"""One HTTP/2 connection of the proxy as a backend sees it, and the requests that come over it.

What comes in is read by h2, which finds fault with what RFC 9113 does not allow; what goes out is made by h2, or are
the bytes of `Peer.write`, of which h2 knows nothing.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import h2.exceptions

if TYPE_CHECKING:
    from tests.unit.aggregator.shared_kit import Behind

Fields = Sequence[tuple[str, str]]
_FRAME = 16384
_ENDED = (
    h2.exceptions.StreamClosedError,
    h2.exceptions.NoSuchStreamError,
    h2.exceptions.StreamIDTooLowError,
    ConnectionError,
)
"""What a handler meets whose stream, or connection, has ended meanwhile."""


class Asked:
    """One request that has come in over HTTP/2."""

    def __init__(self, peer: "Peer", stream: int, fields: Fields) -> None:
        self.peer = peer
        self.stream = stream
        self.fields = fields
        self.pieces: list[bytes] = []
        self.trailers: Fields = ()
        self.ended = False
        self.reset: int | None = None
        """The code with which the proxy broke it off."""
        self.unpaid = 0
        """Bytes whose windows have not been given back."""

    def value(self, name: str) -> str:
        """The one value of a field."""
        (found,) = [value for key, value in self.fields if key == name]
        return found

    @property
    def method(self) -> str:
        return self.value(":method")

    @property
    def path(self) -> str:
        return self.value(":path")

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)

    async def body(self) -> bytes:
        """The whole body; ConnectionError when the request is broken off."""
        await self.peer.until(lambda: self.ended or self.reset is not None)
        if not self.ended:
            raise ConnectionError("reset")
        return self.received

    async def until_reset(self) -> int:
        await self.peer.until(lambda: self.reset is not None)
        assert self.reset is not None
        return self.reset

    def head(self, status: str = "200", *fields: tuple[str, str], end: bool = False) -> None:
        self.peer.h2.send_headers(self.stream, [(":status", status), *fields], end_stream=end)
        self.peer.flush()

    async def data(self, data: bytes, *, end: bool = False) -> None:
        """Send it as far as the windows go, and wait where they end."""
        peer = self.peer
        while True:
            room = min(peer.h2.local_flow_control_window(self.stream), _FRAME)
            if room <= 0 < len(data):
                await peer.until(lambda: peer.h2.local_flow_control_window(self.stream) > 0)
                continue
            piece, data = data[:room], data[room:]
            peer.h2.send_data(self.stream, piece, end_stream=end and not data)
            peer.flush()
            if not data:
                return

    def end(self, *trailers: tuple[str, str]) -> None:
        if trailers:
            self.peer.h2.send_headers(self.stream, trailers, end_stream=True)
        else:
            self.peer.h2.end_stream(self.stream)
        self.peer.flush()

    async def answer(self, body: bytes = b"shared", *fields: tuple[str, str], status: str = "200") -> None:
        self.head(status, ("content-length", str(len(body))), *fields, end=not body)
        if body:
            await self.data(body, end=True)

    def refuse(self, code: int) -> None:
        self.peer.h2.reset_stream(self.stream, code)
        self.peer.flush()

    def pay(self) -> None:
        """Give back the windows of what has come in."""
        size, self.unpaid = self.unpaid, 0
        if size:
            self.peer.h2.acknowledge_received_data(size, self.stream)
            self.peer.flush()


Handler = Callable[[Asked], Awaitable[None]]


class Peer:
    """One HTTP/2 connection of the proxy, as the backend sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, behind: "Behind") -> None:
        self.reader = reader
        self.writer = writer
        self.behind = behind
        self.asked: dict[int, Asked] = {}
        self.events: list[h2.events.Event] = []
        self.closed = False
        """The proxy has closed it."""
        self.pings = 0
        """How many the proxy has sent."""
        self.acknowledged = 0
        """How many times the proxy has acknowledged settings."""
        self.mute = False
        """Nothing goes out that h2 says on its own or is told to say."""
        config = h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        self.h2 = h2.connection.H2Connection(config)
        self._news = asyncio.Event()

    def write(self, *frames: bytes) -> None:
        """Bytes that h2 knows nothing of."""
        if not self.writer.is_closing():
            self.writer.write(b"".join(frames))

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.mute:
            self.write(data)

    def close(self) -> None:
        self.writer.transport.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """ConnectionError when the proxy closes the connection before."""
        while not condition():
            if self.closed:
                raise ConnectionError("closed")
            self._news.clear()
            await self._news.wait()

    async def until_closed(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.until(lambda: False)

    def goaway(self) -> tuple[int, int] | None:
        """Code and last stream of the proxy's GOAWAY."""
        for event in self.events:
            if isinstance(event, h2.events.ConnectionTerminated):
                return int(event.error_code or 0), event.last_stream_id or 0
        return None

    async def serve(self, handler: Handler) -> None:
        if self.behind.late:
            await asyncio.sleep(self.behind.late)
        self.h2.initiate_connection()
        if self.behind.settings:
            self.h2.update_settings(dict(self.behind.settings))
        self.flush()
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                try:
                    data = await self.reader.read(65536)
                except (ConnectionError, ssl.SSLError):
                    return
                if not data:
                    return
                for event in self._judge(data):
                    self._on(event)
                    if isinstance(event, h2.events.RequestReceived):
                        tasks.add(asyncio.create_task(self._run(handler, self.asked[event.stream_id or 0])))
                self.flush()
                self._news.set()
        finally:
            self.closed = True
            self._news.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _judge(self, data: bytes) -> Sequence[h2.events.Event]:
        try:
            return self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self.behind.faults.append(f"{error!r} after {self.events[-5:]}")
            raise ConnectionError("not HTTP/2") from error

    def _on(self, event: h2.events.Event) -> None:
        self.events.append(event)
        asked = self.asked.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, h2.events.RequestReceived):
            stream = event.stream_id or 0
            fields = [(str(name), str(value)) for name, value in event.headers or ()]
            asked = self.asked[stream] = Asked(self, stream, fields)
            self.behind.asked.append(asked)
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif isinstance(event, h2.events.SettingsAcknowledged):
            self.acknowledged += 1
        elif asked is None:
            return
        elif isinstance(event, h2.events.DataReceived):
            asked.pieces.append(bytes(event.data or b""))
            asked.unpaid += event.flow_controlled_length or 0
            if self.behind.pays:
                asked.pay()
        elif isinstance(event, h2.events.TrailersReceived):
            asked.trailers = [(str(name), str(value)) for name, value in event.headers or ()]
        elif isinstance(event, h2.events.StreamEnded):
            asked.ended = True
        elif isinstance(event, h2.events.StreamReset):
            asked.reset = int(event.error_code or 0)

    async def _run(self, handler: Handler, asked: Asked) -> None:
        try:
            await handler(asked)
        except _ENDED:
            pass
        except Exception as error:
            # Behind a GOAWAY of the proxy h2 sends nothing any more.
            if not (isinstance(error, h2.exceptions.ProtocolError) and asked.peer.goaway() is not None):
                self.behind.errors.append(error)
