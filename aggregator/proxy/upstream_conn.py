"""One HTTP/1.1 connection to an upstream: parses responses and hands them to the exchange it serves."""

import asyncio
import enum
from typing import TYPE_CHECKING, cast

import httptools

from aggregator.proxy import headers
from aggregator.proxy.exchange import Exchange
from aggregator.proxy.failures import UpstreamFailure
from aggregator.proxy.lines import plain_response

if TYPE_CHECKING:
    from aggregator.proxy.endpoint import Endpoint


class Phase(enum.IntEnum):
    """What the connection waits for."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    DONE = 3
    """The response is complete, the rest of the current read is not."""
    TUNNEL = 4
    CLOSED = 5
    RAW = 6
    """The rest of a body whose length is known: it needs no parser."""


# Plain integers compare several times faster than the members of an enumeration.
_IDLE, _HEAD, _BODY, _DONE, _TUNNEL, _CLOSED, _RAW = map(int, Phase)


_GONE = httptools.HttpResponseParser(object())
CLOSING_SECONDS = 1.0
"""How long an endpoint that closes a connection after its response is left alone: it may be about to stop."""


class UpstreamConnection(asyncio.Protocol):
    """Serves one exchange at a time; between two it waits in the pool of its endpoint."""

    __slots__ = (
        "_fields",
        "_informational",
        "_keep",
        "_parser",
        "_paused",
        "_remaining",
        "_until_close",
        "answered",
        "dedicated",
        "endpoint",
        "exchange",
        "idle_tick",
        "phase",
        "reused",
        "transport",
    )

    def __init__(self, endpoint: "Endpoint") -> None:
        self.endpoint = endpoint
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.exchange: Exchange | None = None
        self.phase: int = _IDLE
        self.answered = False
        """A byte of the current response has arrived."""
        self.reused = False
        """Has served another exchange before the current one."""
        self.dedicated = False
        """Serves one exchange only, as an upgrade does."""
        self.idle_tick = 0
        self._parser = httptools.HttpResponseParser(self)
        self._fields: headers.Headers = []
        self._informational = False
        self._keep = False
        self._until_close = False
        self._paused = False
        self._remaining = 0

    def begin(self, exchange: Exchange) -> None:
        """Serve this exchange; the caller writes the request to `transport`."""
        self.exchange = exchange
        self.phase = _HEAD
        self.answered = False
        self._remaining = 0

    def release(self) -> None:
        """The exchange gives this connection up in the middle: it cannot be used again."""
        self.exchange = None
        if self.phase != _CLOSED:
            self.phase = _CLOSED
            self.transport.abort()

    def pause(self) -> None:
        if not self._paused and self.phase != _CLOSED:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self.phase != _CLOSED:
                self.transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.endpoint.opened(self)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            # Nobody asked: a notice of a closing backend, or a desynchronised one.
            self.close()
            return
        phase = self.phase
        if phase == _HEAD and not self.answered and not exchange.head_request and not self.dedicated:
            self.answered = True
            plain = plain_response(data)
            if plain is not None:
                self._plain(exchange, data, *plain)
                return
        elif phase == _RAW:
            self._raw(exchange, data)
            return
        elif phase == _TUNNEL:
            exchange.tunnel_data(data)
            return
        self._parse(exchange, data)

    def _plain(
        self,
        exchange: Exchange,
        data: bytes,
        code: int,
        lines: list[bytes],
        cache_control: bool,
        length: int,
        start: int,
    ) -> None:
        """A head without anything special, and its body as far as it is here."""
        if code == 503 and self._refused(exchange, lines):
            return
        self._keep = True
        if len(data) - start == length:
            self._let_go(exchange)
            exchange.response_whole(code, lines, cache_control, data[start:])
            return
        self._until_close = False
        exchange.response_lines(code, lines, cache_control)
        self._remaining = length
        self.phase = _RAW
        if len(data) > start:
            self._raw(exchange, data[start:])
        else:
            exchange.flush()

    def _raw(self, exchange: Exchange, data: bytes) -> None:
        left = self._remaining - len(data)
        if left > 0:
            self._remaining = left
            exchange.response_body(data)
            exchange.flush()
            return
        if left < 0:
            # What follows a complete response is nobody's: the response stands, the connection does not.
            self._keep = False
            data = data[:left]
        if data:
            exchange.response_body(data)
        self._finish()

    def _parse(self, exchange: Exchange, data: bytes) -> None:
        self.answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            self._switched(data[switch.args[0] :])
            return
        except httptools.HttpParserError as error:
            if self.phase == _DONE:
                self._keep = False
                self._finish()
            else:
                self._broken(error)
            return
        if self.phase == _DONE:
            self._finish()
            return
        exchange.flush()
        if self.phase == _HEAD:
            self._remaining += len(data)
            if self._remaining > self.endpoint.head_bytes:
                self._give_up(UpstreamFailure(f"server response headers exceeded {self.endpoint.head_bytes} bytes"))

    def eof_received(self) -> None:
        self.endpoint.withdraw(self)

    def connection_lost(self, error: Exception | None) -> None:
        phase, self.phase = self.phase, _CLOSED
        # Parser and connection hold each other: with the TLS session they would wait for the garbage collector.
        self._parser = _GONE
        self.endpoint.lost(self)
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if phase == _BODY and self._until_close and error is None:
            exchange.response_end(b"")
        else:
            exchange.upstream_lost(error, self.answered)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_full()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_ready()

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self.phase != _HEAD:
            raise UpstreamFailure("malformed HTTP response: more than one response to one request")
        fields, self._fields = self._fields, []
        parser = self._parser
        code = parser.get_status_code()
        head = headers.response(fields, self.endpoint.authority)
        exchange = self.exchange
        assert exchange is not None
        if code < 200:
            if code == 101:
                if not exchange.upgrade:
                    raise UpstreamFailure("malformed HTTP response: unexpected 101 Switching Protocols")
                self._fields = fields
                return
            self._informational = True
            exchange.response_informational(code, head)
            return
        self._keep = parser.should_keep_alive() and not self.dedicated
        has_body = not (exchange.head_request or code == 204 or code == 304)
        self._until_close = has_body and not head.chunked and head.content_length < 0
        if code == 503 and self._refused(exchange, head.lines):
            raise UpstreamFailure("given up")
        if not self._keep and not self.dedicated:
            self.endpoint.owner.busy_elsewhere(self.endpoint, CLOSING_SECONDS)
        self.phase = _BODY
        if not exchange.response_head(code, head, has_body):
            raise UpstreamFailure("given up")
        if exchange.head_request:
            # The parser cannot be told that no body follows: it is replaced instead.
            self.phase = _DONE
            self._parser = httptools.HttpResponseParser(self)

    def on_body(self, data: bytes) -> None:
        if self.phase == _BODY:
            assert self.exchange is not None
            self.exchange.response_body(data)
        else:
            self._keep = False

    def on_message_complete(self) -> None:
        if self._informational:
            self._informational = False
        elif self.phase == _BODY:
            self.phase = _DONE

    def _refused(self, exchange: Exchange, lines: list[bytes]) -> bool:
        """Whether a 503 says when to come back, and another endpoint has taken the request."""
        return self.endpoint.asked_to_rest(lines) and exchange.response_refused()

    # ends

    def _finish(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        trailers = b""
        if self._fields:
            trailers = headers.response_trailers(self._fields)
            self._fields = []
        self._let_go(exchange)
        exchange.response_end(trailers)

    def _let_go(self, exchange: Exchange) -> None:
        """The response has been read: back to the pool, or close."""
        self.exchange = None
        if self._keep and exchange.request_complete:
            self.phase = _IDLE
            self.reused = True
            if self._paused:
                self.resume()
            self.endpoint.give_back(self)
        else:
            self.phase = _CLOSED
            self.transport.close()

    def _switched(self, rest: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        fields, self._fields = self._fields, []
        self.phase = _TUNNEL
        exchange.response_switched(headers.response(fields, self.endpoint.authority), rest)

    def _broken(self, error: Exception) -> None:
        """The response is not HTTP, or the exchange gave up while it was being read."""
        cause = error.__context__
        if isinstance(cause, UpstreamFailure | ValueError):
            self._give_up(UpstreamFailure(str(cause)))
        else:
            self._give_up(UpstreamFailure(f"malformed HTTP response: {error}"))

    def _give_up(self, failure: UpstreamFailure) -> None:
        exchange, self.exchange = self.exchange, None
        if self.phase != _CLOSED:
            self.phase = _CLOSED
            self.transport.abort()
        if exchange is not None:
            exchange.upstream_lost(failure, True)

    def close(self) -> None:
        """Close an unused connection."""
        if self.phase != _CLOSED:
            self.phase = _CLOSED
            self.transport.close()
