"""The part of `bench.peers.streams` that speaks HTTP/2: the same answers, and what Go's servers allow of streams."""

import asyncio
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from bench.peers.streams_asked import ANSWER, EVENT, SLOW_SECONDS, Asked, asked

_STREAMS = 250
_WINDOW = 1024 * 1024
# Nothing of what the proxy sends is checked: that costs time on the core that the load generators need.
_CONFIG = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)
_TYPE = (b"content-type", b"application/json")
_WATCHING = [(b":status", b"200"), _TYPE]
_ANSWERED = [(b":status", b"200"), _TYPE, (b"content-length", b"%d" % len(ANSWER))]


class Http2Connection(asyncio.Protocol):
    """One connection, after its handshake."""

    __slots__ = ("_asked", "_h2", "_transport")

    def __init__(self) -> None:
        self._h2 = H2Connection(_CONFIG)
        self._asked: dict[int, Asked] = {}
        """By stream, until it is answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        settings = {SettingCodes.MAX_CONCURRENT_STREAMS: _STREAMS, SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW}
        self._h2.local_settings = Settings(client=False, initial_values=settings)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._h2.receive_data(data):
                self._take(event)
        except ProtocolError:
            self._flush()
            self._transport.close()
            return
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._asked.clear()

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            target = next((value for name, value in event.headers if name == b":path"), b"")
            self._asked[event.stream_id] = asked(target)
        elif isinstance(event, DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self._asked_for(event.stream_id)
        elif isinstance(event, StreamReset):
            self._asked.pop(event.stream_id, None)

    def _asked_for(self, stream: int) -> None:
        kind = self._asked[stream]
        if kind is Asked.WATCH:
            self._h2.send_headers(stream, _WATCHING)
            self._h2.send_data(stream, EVENT)
        elif kind is Asked.SLOW:
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._answer_late, stream)
        else:
            self._answer(stream)

    def _answer_late(self, stream: int) -> None:
        if stream in self._asked:
            self._answer(stream)
            self._flush()

    def _answer(self, stream: int) -> None:
        del self._asked[stream]
        self._h2.send_headers(stream, _ANSWERED)
        self._h2.send_data(stream, ANSWER, end_stream=True)

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._transport.write(data)
