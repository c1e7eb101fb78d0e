"""One HTTP/1.1 connection of a server: an asyncio protocol on llhttp that runs an ASGI application.

A request costs one task and, as a rule, one write. Requests that a client pipelines wait until the one before them is
answered, and while any waits nothing more is read.
"""

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final, cast

import httptools

from apiserver import logs
from apiserver.asgi import AbortResponse, ASGIApp
from apiserver.http1_exchange import MAX_BUFFERED, Exchange
from apiserver.http1_heads import HEAD_TOO_LARGE, Refusal, RequestFields, refusal, refused, split_target

_log = logs.get("apiserver.serving")

MAX_HEAD: Final = 1024 * 1024
"""Bytes of a request head that are accepted (aggregator.md 0)."""
IDLE_SECONDS: Final = 90.0
_MAX_DISCARDED: Final = 8 * 1024 * 1024
"""Bytes of a request body nobody wants that are read so that the client gets its answer and keeps its connection."""
_LINGER_SECONDS: Final = 2.0
"""How long bytes are read and dropped after the last response: closing at once could destroy it on its way."""
_CLOSE_SECONDS: Final = 30.0
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
_FAILED: Final = Refusal(500, "Internal Server Error")


class _Clock:
    """The date of responses, formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode()
        return self._text


_date = _Clock()


@dataclass(slots=True)
class Shared:
    """What all HTTP/1.1 connections of one server share."""

    app: ASGIApp
    leaving: bool = False
    """The server is about to stop: clients are told not to use their connections again."""
    idle_seconds: float = IDLE_SECONDS
    open: set["HTTP1Connection"] = field(default_factory=set)


class HTTP1Connection(asyncio.Protocol):
    """Serves one client. `state` is copied into each request's scope."""

    def __init__(self, shared: Shared, state: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the connection is closed and no application runs for it any more."""
        self._loop = loop
        self._shared = shared
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._fields = RequestFields()
        self._target = b""
        self._head_bytes = 0
        self._measure = False
        self._in_body = False
        self._current: Exchange | None = None
        self._receiving: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._refusal: Refusal | None = None
        self._discarded = 0
        self._closing = False
        self._lost = False
        self._reading = True
        self._writable: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._idle_since = loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        info = transport.get_extra_info
        self._secure = info("ssl_object") is not None
        self._client, self._server = _address(info("peername")), _address(info("sockname"))
        self._shared.open.add(self)
        self._timer = self._loop.call_later(self._shared.idle_seconds, self._check_idle)

    def data_received(self, data: bytes) -> None:
        if self._closing or self._refusal is not None:
            self._discard(len(data))
            return
        if not self._in_body:
            self._measure = len(data) + self._head_bytes > MAX_HEAD
        rest = data
        while rest:
            rest = self._parse(rest)
        if self._target and not self._in_body and self._refusal is None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refusal = HEAD_TOO_LARGE
        self._settle()

    def _parse(self, data: bytes) -> bytes:
        """What is left to parse anew."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            # An offer to change the protocol may be ignored (RFC 9110 7.8); what follows is the next request.
            self._parser = httptools.HttpRequestParser(self)
            return b"" if self._refusal is not None else data[switch.args[0] :]
        except httptools.HttpParserError as error:
            self._malformed(error)
        return b""

    def eof_received(self) -> bool:
        """A client that closes its half is answered if that needs nothing more of it; a watch ends."""
        for exchange in (self._current, *self._waiting):
            if exchange is not None:
                exchange.leave(gone=False)
        current = self._current
        if current is None or current.ended or self._closing:
            return False
        current.keep_alive = False
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

    # httptools callbacks

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers say nothing that an application here could use.
        if not self._in_body:
            self._fields.add(name, value)

    def on_headers_complete(self) -> None:
        fields, self._fields = self._fields, RequestFields()
        target, self._target = self._target, b""
        self._head_bytes = 0
        self._in_body = True
        self._receiving = None
        if self._refusal is not None:
            return
        method, version = self._parser.get_method(), self._parser.get_http_version()
        if self._measure and len(target) + fields.size > MAX_HEAD:
            self._refusal = HEAD_TOO_LARGE
        else:
            self._refusal = refusal(method, target, version, fields)
        if self._refusal is not None:
            return
        keep_alive = version == "1.1" and self._parser.should_keep_alive()
        scope = self._scope(method.decode("ascii"), target, version, fields)
        exchange = Exchange(self, scope, keep_alive=keep_alive, expects_continue=fields.expects_continue)
        self._receiving = exchange
        if self._current is None:
            self._current = exchange
        else:
            self._waiting.append(exchange)

    def on_body(self, data: bytes) -> None:
        exchange = self._receiving
        if exchange is None:
            return
        if exchange.ended:
            self._discard(len(data))
        else:
            exchange.feed(data)

    def on_message_complete(self) -> None:
        self._in_body = False
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            exchange.finish_request()

    def _scope(self, method: str, target: bytes, version: str, fields: RequestFields) -> dict[str, Any]:
        path, raw_path, query = split_target(target)
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method,
            "scheme": "https" if self._secure else "http",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": fields.lines,
            "client": self._client,
            "server": self._server,
            "state": self._state.copy(),
        }

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
        return _date()

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

    def _malformed(self, error: httptools.HttpParserError) -> None:
        """Not HTTP/1.1, or a form of it that two parsers could read differently: refuse and close."""
        defect = error.__context__
        if isinstance(defect, Exception) and not isinstance(defect, httptools.HttpParserError):
            _log.error("connection failed", error=repr(defect))
            self.abort()
            return
        current = self._current
        if current is not None and not current.keep_alive and current.complete:
            return  # Bytes after a request that was to be the last.
        if self._refusal is None:
            self._refusal = Refusal(400, str(error))
        exchange, self._receiving = self._receiving, None
        if exchange is None:
            return
        # What is malformed is the body of a request that may have begun to be worked on.
        if exchange is not current:
            self._waiting.remove(exchange)
            return
        answered = exchange.head_sent
        exchange.leave(gone=True)
        if exchange.ended or answered:
            self._close()
        else:
            self._refuse(self._refusal)

    def _refuse(self, answer: Refusal) -> None:
        if not self._closing:
            self._transport.write(refused(answer, _date()))
            self._linger()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > _MAX_DISCARDED:
            self.abort()

    def _linger(self) -> None:
        """The last response is written, but the client may still be sending."""
        if self._closing:
            return
        if self._current is not None and self._current.left:
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
        """Close at once when idle, after the current response otherwise."""
        current = self._current
        if current is None or (current.ended and self._task is None):
            self._close()
        else:
            current.keep_alive = False

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


def _address(name: Any) -> tuple[str, int | None] | None:
    """An address as ASGI has it; None for the nameless end of a unix socket."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (str(name), None) if name else None
