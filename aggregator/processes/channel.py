"""Messages between the supervisor and one other process: JSON objects, a line each, over a socket pair."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import orjson

Message = dict[str, Any]
"""`type` says what it is; the other members belong to the type."""

_BACKLOG_BYTES = 8 * 1024 * 1024
"""A peer that leaves this much unread is stuck: what it is told beyond that is dropped."""


class Channel(asyncio.Protocol):
    """One end. `on_message` is called for each message, `on_end` once, when the other end is gone."""

    def __init__(self, on_message: Callable[[Message], None], on_end: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._transport: asyncio.WriteTransport | None = None
        self._partial: list[bytes] = []

    async def open(self, end: socket.socket) -> None:
        """Take over a connected stream socket."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)

    def send(self, kind: str, **members: Any) -> bool:
        """Send without waiting; False when the other end is gone or takes no more."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > _BACKLOG_BYTES:
            return False
        transport.write(orjson.dumps({"type": kind, **members}) + b"\n")
        return True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        *complete, rest = data.split(b"\n")
        for line in complete:
            whole = b"".join((*self._partial, line))
            self._partial.clear()
            self._on_message(orjson.loads(whole))
        if rest:
            self._partial.append(rest)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._on_end()
