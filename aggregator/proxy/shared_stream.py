"""One exchange on a shared connection: an HTTP/1.1 request goes in, its answer comes out, HTTP/2 is in between."""

from typing import TYPE_CHECKING

from aggregator.proxy import headers
from aggregator.proxy import http2_frames as frames
from aggregator.proxy.exchange import Exchange
from aggregator.proxy.failures import NeverProcessed, Unshared, UpstreamFailure
from aggregator.proxy.http2_hpack import Fields, encode_line
from aggregator.proxy.shared_kept import KeptRequest
from aggregator.proxy.shared_messages import (
    CHUNKED,
    MalformedResponse,
    plain_lines,
    read_head,
    read_regular,
    request_block,
    shareable,
    unchunked,
)

if TYPE_CHECKING:
    from aggregator.proxy.endpoint import Endpoint
    from aggregator.proxy.shared_link import SharedLink

NOWHERE = -1
"""In place of the number of a stream that came too late to get one."""
STREAM_WINDOW = 256 * 1024
"""What of a response may be on its way before its client takes it."""
_HELD_BYTES = 64 * 1024
"""What of a request may wait for the backend's windows before its client is no longer read."""
_LOW_BYTES = _HELD_BYTES // 4
_INFORMATIONAL = 8
"""How many 1xx responses a request may get. No window holds them back: a client that does not read would have us keep
them all."""


class SharedStream:
    """Stands in for a connection to the backend, `transport` included."""

    __slots__ = (
        "_cache_control",
        "_chunked",
        "_code",
        "_has_body",
        "_held",
        "_informational",
        "_kept",
        "_left",
        "_lines",
        "_owed",
        "_paused",
        "_receivable",
        "_sent",
        "_trailers",
        "_unsent",
        "_upstream_full",
        "answered",
        "answering",
        "connection",
        "dedicated",
        "endpoint",
        "exchange",
        "ident",
        "over",
        "window",
    )

    def __init__(self, connection: "SharedLink") -> None:
        self.connection = connection
        self.endpoint: Endpoint = connection.endpoint
        self.exchange: Exchange | None = None
        self.ident = 0
        """0 until the request's head is written."""
        self.dedicated = False
        self.answered = False
        """Anything of a response has arrived."""
        self.over = False
        self.window = 0
        """What the backend takes of the request's body."""
        self._chunked = False
        self._unsent = 0
        """What of a body whose length is known has not been handed over yet."""
        self._held = b""
        """What of the body waits for the backend's windows."""
        self._trailers = b""
        self._sent = False
        """The whole request was handed over."""
        self._upstream_full = False
        self._kept = KeptRequest()
        self.answering = False
        """The final head has come."""
        self._lines: list[bytes] | None = None
        """Status line and fields, if they have nothing special and have not been passed on yet."""
        self._code = 0
        self._cache_control = False
        self._has_body = False
        self._informational = 0
        self._left = -1
        """What has to come of a response whose length is known."""
        self._receivable = STREAM_WINDOW
        self._owed = 0
        self._paused = False

    # Carrier

    @property
    def transport(self) -> "SharedStream":
        return self

    @property
    def reused(self) -> bool:
        return self.connection.proven

    def begin(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def release(self) -> None:
        self.exchange = None
        self._leave(frames.CANCEL)

    close = abort = release

    def is_closing(self) -> bool:
        return self.over

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self.credit()

    def _leave(self, code: int) -> None:
        """Nothing more is wanted of the backend."""
        if not self.over:
            self.over = True
            self._held = b""
            self._kept.forget()
            self.connection.left(self, code)

    # The request

    def write(self, data: bytes) -> None:
        if self.over:
            return
        if not self.ident:
            head, _, data = data.partition(b"\r\n\r\n")
            self._kept.begin(head)
            block, length = request_block(head)
            self._chunked = length == CHUNKED
            self._unsent = max(length, 0)
            self._sent = length == 0
            if shareable(head):
                self.connection.start(self, block, end=self._sent)
            else:
                self.connection.pass_over(self)
        if data:
            self._body(data)

    def _body(self, data: bytes) -> None:
        if self._chunked:
            data, trailers = unchunked(data)
            if trailers is not None:
                self._sent = True
                # Nobody is owed trailers (RFC 9110 6.5.1).
                self._trailers = trailers if shareable(trailers) else b""
        else:
            self._unsent -= len(data)
            self._sent = self._unsent <= 0
        self._held = self._held + data if self._held else data
        if self.ident > 0:
            self.push()

    def push(self) -> None:
        """Send what the backend takes of the body."""
        connection = self.connection
        held = self._held
        size = len(held)
        room = 0 if connection.write_blocked else max(0, min(self.window, connection.window))
        if size > room:
            if room:
                self._kept.add(held[:room])
                connection.due += 2 * room
                connection.send(frames.data(self.ident, held[:room], end=False))
            self._held = held = held[room:]
            if self.window > room:
                connection.waiting[self] = None
            self.window -= room
            connection.window -= room
            self._hold_back(len(held))
            return
        self._held = b""
        if connection.waiting:
            connection.waiting.pop(self, None)
        self.window -= size
        connection.window -= size
        connection.due += 2 * size
        end = self._sent and not self._trailers
        if size or end:
            self._kept.add(held)
            connection.send(frames.data(self.ident, held, end=end))
        if self._sent and self._trailers:
            lines = filter(None, self._trailers.split(b"\r\n"))
            connection.headers(self.ident, b"".join(map(encode_line, lines)), end=True)
        self._hold_back(0)

    def _hold_back(self, held: int) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        if not self._upstream_full and held > _HELD_BYTES:
            self._upstream_full = True
            exchange.upstream_full()
        elif self._upstream_full and held < _LOW_BYTES:
            self._upstream_full = False
            exchange.upstream_ready()

    @property
    def waits(self) -> bool:
        """Some of the request is held back."""
        return bool(self._held)

    # The response: called by the connection, which takes care of the frames

    def fields(self, fields: Fields, *, end: bool) -> None:
        """A block of fields. MalformedResponse."""
        if not self.answered:
            self.answered = self.connection.proven = True
            self._kept.forget()
        if not self.answering:
            self._leading(*read_head(fields), end)
        elif not end:
            raise MalformedResponse("more than one response to one request")
        else:
            self._check_end(end)
            self._end(headers.response_trailers(read_regular(fields)))

    def _leading(self, code: int, fields: headers.Headers, end: bool) -> None:
        exchange = self.exchange
        assert exchange is not None
        head = headers.response(fields, self.endpoint.authority)
        if code < 200:
            self._informational += 1
            if self._informational > _INFORMATIONAL:
                raise MalformedResponse("too many informational responses")
            if end:
                raise MalformedResponse("the response ends before it has begun")
            exchange.response_informational(code, head)
            return
        self._has_body = not (exchange.head_request or code == 204 or code == 304)
        if self._has_body:
            if end and head.content_length < 0:
                head.content_length = 0
            self._left = head.content_length
        self._check_end(end)
        if code == 503 and self.endpoint.asked_to_rest(head.lines) and exchange.response_refused():
            return
        self.answering = True
        if self._left >= 0 and head.location is None and not end:
            self._lines = plain_lines(code, head)
            self._cache_control = head.cache_control
            self._code = code
        elif exchange.response_head(code, head, self._has_body) and end:
            self._end(b"")

    def _check_end(self, end: bool) -> None:
        if end and self._left > 0:
            raise MalformedResponse("the body is shorter than its Content-Length")

    def data(self, payload: bytes, size: int, *, end: bool) -> None:
        """A DATA frame with `size` bytes under flow control. MalformedResponse."""
        self._receivable -= size
        self._owed += size
        left = self._left
        if not self.answering:
            self.answered = True
            raise MalformedResponse("a body without a head")
        if self._receivable < 0:
            self.malformed("more than may be sent", frames.FLOW_CONTROL_ERROR)
            return
        if payload and (not self._has_body or 0 <= left < len(payload)):
            raise MalformedResponse("the body is longer than its head says")
        exchange = self.exchange
        assert exchange is not None
        lines = self._lines
        if lines is not None and end and left == len(payload):
            # All of it in one read: as most answers are small, this is how most of them come.
            self._lines = None
            self._let_go()
            exchange.response_whole(self._code, lines, self._cache_control, payload)
            return
        if left >= 0:
            self._left = left - len(payload)
        self._check_end(end)
        if lines is not None:
            self._pass_head(exchange, lines)
        if payload:
            exchange.response_body(payload)
        if end:
            self._end(b"")

    def _pass_head(self, exchange: Exchange, lines: list[bytes]) -> None:
        self._lines = None
        exchange.response_lines(self._code, lines, self._cache_control)

    def _let_go(self) -> None:
        """All of the response has been read."""
        self.exchange = None
        self._leave(frames.ENDED if self._sent and not self._held else frames.CANCEL)

    def _end(self, trailers: bytes) -> None:
        """The response is complete."""
        exchange = self.exchange
        self._let_go()
        if exchange is not None:
            if self._lines is not None:
                self._pass_head(exchange, self._lines)
            exchange.response_end(trailers)

    def flush(self) -> None:
        """One read of the connection is dealt with."""
        exchange = self.exchange
        if exchange is not None:
            if self._lines is not None:
                self._pass_head(exchange, self._lines)
            exchange.flush()
            self.credit()

    def credit(self) -> None:
        """Let the backend send as much as has been taken."""
        if self._owed >= STREAM_WINDOW // 2 and not self._paused and not self.over:
            self._receivable += self._owed
            self.connection.write(frames.window_update(self.ident, self._owed))
            self._owed = 0

    # Ends

    def broken(self, words: str, code: int) -> None:
        """The backend's answer cannot be used."""
        self._fail(UpstreamFailure(words), code)

    def malformed(self, words: str, code: int = frames.PROTOCOL_ERROR) -> None:
        """The backend's answer is not what RFC 9113 allows."""
        self.broken(f"malformed HTTP response: {words}", code)

    def reset(self, code: int) -> None:
        """The backend breaks the stream off."""
        name = frames.error_name(code)
        words = f"stream error: stream ID {self.ident}; {name}; received from peer"
        if code in (frames.REFUSED_STREAM, frames.HTTP_1_1_REQUIRED) and not self.answered:
            self.unprocessed(words)
        else:
            self._fail(UpstreamFailure(words), frames.ENDED)

    def unprocessed(self, words: str) -> None:
        """The backend has provably not looked at the request (RFC 9113 8.7)."""
        self._fail(NeverProcessed(words, self._handed_over()), frames.ENDED)

    def unshared(self) -> None:
        """The request has to go elsewhere."""
        self._fail(Unshared("http2: a head too large to share a connection", self._handed_over()), frames.ENDED)

    def _handed_over(self) -> bytes | None:
        """All there is of the request, in the form of HTTP/1.1; None if some of it is no longer at hand."""
        return self._kept.whole(self._held, chunked=self._chunked, last=self._trailers if self._sent else None)

    def lost(self, error: BaseException | None) -> None:
        """The connection is gone."""
        self._fail(error, frames.ENDED)

    def _fail(self, error: BaseException | None, code: int) -> None:
        exchange, self.exchange = self.exchange, None
        answered = self.answered
        self._leave(code)
        if exchange is not None:
            if self._lines is not None:
                # What came before the failure stands, whether it came with the same read or not.
                self._pass_head(exchange, self._lines)
            exchange.upstream_lost(error, answered)
