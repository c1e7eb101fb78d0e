"""One HTTP/2 connection of a server: Hypercorn's protocol engine on an asyncio stream, hardened for an API server.

What Hypercorn leaves open, and clients of an API server meet: an application that answers without reading the body must
not stall the other streams; an HTTP/2 answer that breaks off must reset its
stream; nobody may stay blocked on a connection that is gone.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import h2.errors
import h2.events
import h2.exceptions
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Body, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

from apiserver import logs
from apiserver.asgi import AbortResponse, ASGIApp, Message, Scope
from apiserver.http2_buffers import Buffer, Buffers, Streams

_log = logs.get("apiserver.serving")

_MAX_DROPPED: Final = 1000
"""Messages an application may send to a client that has left before it is ended."""
_CLOSE_SECONDS: Final = 30.0


class Connection(TCPServer):
    """Serves one connection until it ends; `run` never raises except for cancellation."""

    def __init__(
        self,
        app: ASGIApp,
        config: Config,
        context: WorkerContext,
        state: dict[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        wrapper = cast(AppWrapper, app)  # only handed through to _Applications, which calls the bare ASGI application
        loop = asyncio.get_running_loop()
        super().__init__(wrapper, loop, config, context, state, reader, writer)

    async def run(self) -> None:
        try:
            async with _Applications(self.loop) as tasks:
                self._task_group = tasks
                engine = self._engine(tasks)
                self.protocol = cast(ProtocolWrapper, engine)
                await engine.initiate()
                await self.idle_task.restart(tasks, self._idle_timeout)
                await self._read_data()
        except asyncio.CancelledError:
            self.writer.transport.abort()
            raise
        except OSError as error:
            _log.debug("connection lost", error=error)
        except Exception as error:
            # A task group wraps what its tasks raised.
            cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            _log.error("connection failed", error=cause)
        finally:
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData) and self.writer.is_closing():
            return
        await super().protocol_send(event)

    def _engine(self, tasks: TaskGroup) -> "_HTTP2":
        socket = self.writer.get_extra_info("socket")
        return _HTTP2(
            self.app,
            self.config,
            self.context,
            tasks,
            ConnectionState(self.state),
            True,
            parse_socket_addr(socket.family, socket.getpeername()),
            parse_socket_addr(socket.family, socket.getsockname()),
            self.protocol_send,
        )

    async def _close(self) -> None:
        # A peer that neither reads nor answers the end of TLS must not hold the connection.
        deadline = self.loop.call_later(_CLOSE_SECONDS, self.writer.transport.abort)
        try:
            await super()._close()
        finally:
            deadline.cancel()

    async def _initiate_server_close(self) -> None:
        await cast("_HTTP2", self.protocol).say_goodbye()
        await super()._initiate_server_close()


class _Applications(TaskGroup):
    """The tasks of one connection; applications are called here, with an inbox that cannot block the connection."""

    async def spawn_app(
        self, app: AppWrapper, config: Config, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[None]]:
        inbox = _Inbox()
        # Hypercorn 0.17 shares the connection's state between its requests.
        scope["state"] = dict(scope.get("state") or {})
        self.spawn(_run_application, cast(ASGIApp, app), scope, inbox, send)
        return inbox


async def _run_application(app: ASGIApp, scope: Scope, inbox: "_Inbox", send: Callable[[Any], Awaitable[None]]) -> None:
    dropped = 0

    async def send_or_drop(message: Message) -> None:
        nonlocal dropped
        if not inbox.disconnected:
            await send(message)
            return
        dropped += 1
        if dropped > _MAX_DROPPED:
            raise AbortResponse
        # Without this an application that only sends would never let the loop run again.
        await asyncio.sleep(0)

    try:
        await app(scope, inbox.get, send_or_drop)
    except AbortResponse:
        pass
    except Exception:
        _log.exception("application failed", method=scope.get("method"), path=scope.get("path"))
    await inbox.close()
    await send(None)


class _Inbox:
    """What an application receives; calling it is Hypercorn's `put`.

    It never blocks, as other streams share the connection: `on_read` opens the stream's flow control window as the
    application reads.
    """

    def __init__(self) -> None:
        self.on_read: Callable[[int], Awaitable[None]] | None = None
        self._events: deque[Message] = deque()
        self._disconnect: Message | None = None
        self._closed = False
        self._changed = asyncio.Event()

    async def __call__(self, event: Message) -> None:
        if event["type"].endswith(".disconnect"):
            self._disconnect = event
        elif self._closed or self.disconnected:
            await self._read(event)
            return
        else:
            self._events.append(event)
        self._changed.set()

    @property
    def disconnected(self) -> bool:
        """Whether the client is gone or the response complete."""
        return self._disconnect is not None

    async def get(self) -> Message:
        while not self._events and self._disconnect is None:
            self._changed.clear()
            await self._changed.wait()
        if not self._events and self._disconnect is not None:
            return self._disconnect
        event = self._events.popleft()
        await self._read(event)
        return event

    async def close(self) -> None:
        """The application has ended: nothing more will be read."""
        self._closed = True
        while self._events:
            await self._read(self._events.popleft())

    async def _read(self, event: Message) -> None:
        size = len(event.get("body", b""))
        if self.on_read is not None and size:
            await self.on_read(size)


class _HTTP2(H2Protocol):
    """HTTP/2 whose streams cannot stall each other and end visibly when they break off."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.streams = Streams()
        self.stream_buffers = Buffers()

    async def handle(self, event: Event) -> None:
        await super().handle(event)
        if isinstance(event, Closed):
            # Applications may be waiting for room in a buffer that nobody will empty any more.
            for buffer in list(self.stream_buffers.values()):
                await buffer.close()

    async def say_goodbye(self) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.connection.close_connection()
            await self._flush()

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed):
            buffer = self.stream_buffers.get(event.stream_id)
            if buffer is not None and not buffer.complete:
                await self._reset(event.stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
            elif isinstance(buffer, Buffer):
                # While draining, the end of the last stream ends the connection: not before its END_STREAM is sent.
                await buffer.ended.wait()
        await super().stream_send(event)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                await self._data_received(event)
            elif isinstance(event, h2.events.RequestReceived) and self.context.terminated.is_set():
                # RFC 9113 8.7: the client may send a refused request again, on another connection.
                await self._reset(event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
            else:
                await super()._handle_events([event])
        await self._flush()

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        await super()._create_stream(request)
        stream_id = request.stream_id
        inbox = getattr(self.streams.get(stream_id), "app_put", None)
        if isinstance(inbox, _Inbox):

            async def acknowledge(size: int) -> None:
                self._acknowledge(stream_id, size)
                await self._flush()

            inbox.on_read = acknowledge

    async def _data_received(self, event: h2.events.DataReceived) -> None:
        stream_id, data = event.stream_id, event.data or b""
        stream = self.streams.get(stream_id)
        if stream is None or stream.closed:
            self._acknowledge(stream_id, event.flow_controlled_length or 0)
            return
        self._acknowledge(stream_id, (event.flow_controlled_length or 0) - len(data))
        await stream.handle(Body(stream_id=stream_id, data=data))

    def _acknowledge(self, stream_id: int, size: int) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError, ValueError):
            if size > 0:
                self.connection.acknowledge_received_data(size, stream_id)

    async def _reset(self, stream_id: int, code: h2.errors.ErrorCodes) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.connection.reset_stream(stream_id, code)
            await self._flush()
        if stream_id in self.stream_buffers:
            await self.stream_buffers[stream_id].close()
