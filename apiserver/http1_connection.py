"""One HTTP/1.1 connection of a server: an asyncio protocol on llhttp that runs an ASGI application.

A request costs one task and, as a rule, one write. Requests that a client pipelines wait until the one before them is
answered, and while any waits nothing more is read.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any, Final, cast

from apiserver import http_date, logs
from apiserver.asgi import AbortResponse, ASGIApp
from apiserver.http1_exchange import MAX_BUFFERED, Exchange
from apiserver.http1_heads import Refusal, refused
from apiserver.http1_requests import Requests, address

_log = logs.get("apiserver.serving")

IDLE_SECONDS: Final = 90.0
_MAX_DISCARDED: Final = 8 * 1024 * 1024
"""Bytes of a request body nobody wants that are read so that the client gets its answer and keeps its connection."""
_LINGER_SECONDS: Final = 2.0
"""How long bytes are read and dropped after the last response: closing at once could destroy it on its way."""
_CLOSE_SECONDS: Final = 30.0
FRESH_SECONDS: Final = 1.0
"""Age up to which a connection without a request is not closed by a server that stops: its first one may be on its
way, and a client that loses it cannot know whether it was carried out (Go's net/http waits for five seconds)."""
_FAILED: Final = Refusal(500, "Internal Server Error")


@dataclass(slots=True)
class Shared:
    """What all HTTP/1.1 connections of one server share."""

    app: ASGIApp
    leaving: bool = False
    """The server is about to stop: clients are told not to use their connections again."""
    idle_seconds: float = IDLE_SECONDS
    open: set["HTTP1Connection"] = field(default_factory=set)


class HTTP1Connection(Requests):
    """Serves one client. `state` is copied into each request's scope."""

    def __init__(self, shared: Shared, state: dict[str, Any]) -> None:
        super().__init__(state)
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the connection is closed and no application runs for it any more."""
        self._loop = loop
        self._shared = shared
        self._discarded = 0
        self._closing = False
        self._eof = False
        self._lost = False
        self._reading = True
        self._writable: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._made = self._idle_since = loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        info = transport.get_extra_info
        self._secure = info("ssl_object") is not None
        self._client, self._server = address(info("peername")), address(info("sockname"))
        self._shared.open.add(self)
        self._timer = self._loop.call_later(self._shared.idle_seconds, self._check_idle)

    def data_received(self, data: bytes) -> None:
        if self._closing or self._refusal is not None:
            self._discard(len(data))
            return
        self._feed(data)
        self._settle()

    def eof_received(self) -> bool:
        """A client that closes its half is answered if that needs nothing more of it; a watch ends."""
        self._eof = True
        for exchange in (self._current, *self._waiting):
            if exchange is not None:
                exchange.leave(gone=False)
        current = self._current
        if current is None or current.ended or self._closing:
            return False
        (self._waiting[-1] if self._waiting else current).keep_alive = False
        # TLS has no half-closed connections.
        return not self._secure

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        if self._current is not None:
            self._current.leave(gone=True)
        self.resume_writing()
        self._release()

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    # The connection as its exchanges see it

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def writable(self) -> None:
        if self._writable is not None:
            await self._writable.wait()

    def body_taken(self) -> None:
        if not self._reading:
            self._update_reading()

    @property
    def closes(self) -> bool:
        return self._shared.leaving

    @property
    def date(self) -> bytes:
        return http_date.now()

    # From request to request

    def _settle(self) -> None:
        """After bytes were parsed: start what can start, end what has to end."""
        if self._closing:
            return
        current = self._current
        if current is None:
            if self._refusal is not None:
                self._refuse(self._refusal)
        elif current.ended:
            if current.complete and self._task is None:
                self._next()
        elif self._task is None:
            self._start()
        if not self._closing:
            self._update_reading()

    def _start(self) -> None:
        assert self._current is not None
        self._task = self._loop.create_task(self._serve(self._current), name="http-request")

    async def _serve(self, exchange: Exchange) -> None:
        try:
            await self._shared.app(exchange.scope, exchange.receive, exchange.send)
        except AbortResponse:
            pass
        except asyncio.CancelledError:
            self._task = None
            self.abort()
            raise
        except Exception:
            _log.exception("application failed", method=exchange.scope["method"], path=exchange.scope["path"])
        self._task = None
        self._finish(exchange)

    def _finish(self, exchange: Exchange) -> None:
        """The application has ended."""
        exchange.discard()
        if self._lost or self._closing:
            self._release()
        elif not exchange.ended:
            self._break_off(exchange)
        elif exchange.complete:
            self._next()
        elif exchange.keep_alive and not exchange.left:
            self._idle_since = self._loop.time()
            self._update_reading()
        else:
            self._linger()

    def _break_off(self, exchange: Exchange) -> None:
        if not exchange.head_sent:
            self._refuse(_FAILED)
        elif exchange.cut_short:
            self.abort()
        else:
            self._close()

    def _next(self) -> None:
        """The current request is answered and has arrived whole: go on with the next, if there is one."""
        assert self._current is not None
        keep_alive = self._current.keep_alive
        self._current = None
        self._discarded = 0
        if not keep_alive:
            self._close()
            return
        if self._waiting:
            self._current = self._waiting.popleft()
            self._start()
        elif self._refusal is not None:
            self._refuse(self._refusal)
            return
        else:
            self._idle_since = self._loop.time()
        self._update_reading()

    def _update_reading(self) -> None:
        current = self._current
        full = bool(self._waiting) or (current is not None and current.buffered > MAX_BUFFERED)
        if full == self._reading:
            self._reading = not full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # Ends

    def _defect(self, error: Exception) -> None:
        _log.error("connection failed", error=repr(error))
        self.abort()

    def _body_refused(self, exchange: Exchange, answer: Refusal) -> None:
        answered = exchange.head_sent
        exchange.leave(gone=True)
        if answered:
            self._close()
        else:
            self._refuse(answer)

    def _refuse(self, answer: Refusal) -> None:
        if not self._closing:
            self._transport.write(refused(answer, http_date.now()))
            self._linger()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > _MAX_DISCARDED:
            self.abort()

    def _linger(self) -> None:
        """The last response is written, but the client may still be sending."""
        if self._closing:
            return
        if self._eof:
            self._close()
            return
        self._closing = True
        self._resume()
        if not self._secure:
            # A client that is gone already shows here first.
            with contextlib.suppress(OSError):
                self._transport.write_eof()
        self._end_after(_LINGER_SECONDS)

    def _close(self) -> None:
        """Close as soon as everything is written; a client that does not take it is cut off after a while."""
        if not self._closing:
            self._closing = True
            self._transport.close()
            self._end_after(_CLOSE_SECONDS)

    def _resume(self) -> None:
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def _end_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._lost:
            self._timer = self._loop.call_later(seconds, self._transport.abort)

    def _check_idle(self) -> None:
        """Idle is who has no request under way: between two, within a head, or sending a body nobody wants."""
        idle = self._current is None or (self._current.ended and self._task is None)
        rest = self._shared.idle_seconds
        if idle:
            rest -= self._loop.time() - self._idle_since
            if rest <= 0:
                self._close()
                return
        self._timer = self._loop.call_later(rest, self._check_idle)

    def drain(self) -> None:
        """Close when idle, after the current response otherwise; who has only just connected may ask once."""
        current = self._current
        if current is not None and not (current.ended and self._task is None):
            current.keep_alive = False
            return
        fresh = FRESH_SECONDS - (self._loop.time() - self._made) if self._idle_since == self._made else 0.0
        if fresh <= 0:
            self._close()
        elif not self._closing:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(fresh, self.drain)

    def abort(self) -> None:
        """Cut the client off, and end the application if one runs."""
        self._closing = True
        self._transport.abort()
        if self._task is not None:
            self._task.cancel()
            self._task.add_done_callback(self._cancelled)
        self._release()

    def _cancelled(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            # It had not begun to run.
            self._task = None
            self._release()

    def _release(self) -> None:
        if self._lost and self._task is None and not self.ended.done():
            self._shared.open.discard(self)
            self.ended.set_result(None)
            self._forget()
