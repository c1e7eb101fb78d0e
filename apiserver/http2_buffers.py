"""What Hypercorn's HTTP/2 keeps per stream, with bounds, and with a way to wait for a stream's end."""

import asyncio
from typing import Any

from hypercorn.asyncio.worker_context import EventWrapper
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, BUFFER_LOW_WATER, BufferCompleteError, StreamBuffer


class _NoStream:
    """Stands for a stream that has ended while its peer still sends."""

    async def handle(self, event: StreamEvent) -> None:
        return None


class Buffer(StreamBuffer):
    """What waits for the client's flow control window; holds its application back while it is full.

    Hypercorn's own lets the application go on when the window is closed, so that it grows without bound.
    """

    def __init__(self) -> None:
        super().__init__(EventWrapper)
        self.ended = asyncio.Event()
        """The end of the stream has been sent, or never will be."""

    async def close(self) -> None:
        await super().close()
        self.ended.set()

    async def push(self, data: bytes) -> None:
        if self._complete:
            raise BufferCompleteError
        self.buffer.extend(data)
        await self._is_empty.clear()
        while len(self.buffer) >= BUFFER_HIGH_WATER and not self._complete:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class Buffers(dict[int, StreamBuffer]):
    def __setitem__(self, key: int, value: StreamBuffer) -> None:
        super().__setitem__(key, Buffer())

    def __delitem__(self, key: int) -> None:
        ended = self.pop(key)
        if isinstance(ended, Buffer):
            ended.ended.set()


class Streams(dict[int, Any]):
    def __missing__(self, key: int) -> _NoStream:
        return _NoStream()
