"""The exchange of an HTTP/2 stream: what an upstream connection delivers waits here, within bounds, for the stream."""

import asyncio
import math
from collections import deque

from aggregator.proxy.answers import REDIRECT_REFUSED, SILENCE_SECONDS, UNREACHABLE, overloaded
from aggregator.proxy.balancer import Upstream
from aggregator.proxy.decide import Reply, text
from aggregator.proxy.endpoint import Dial
from aggregator.proxy.failures import Overloaded, describe
from aggregator.proxy.headers import ResponseHead
from aggregator.proxy.plane import Plane, log
from aggregator.proxy.upstream_conn import UpstreamConnection
from apiserver.serving import AbortResponse

_HIGH_WATER = 256 * 1024
"""Bytes of a response held for a client before the upstream is no longer read."""


class StreamExchange:
    """An exchange whose response waits in memory, within bounds, until the stream takes it."""

    upgrade = False

    def __init__(self, plane: Plane, head_request: bool, *, remote: str, long_running: bool) -> None:
        """`remote` is the name of the APIService; empty for the local server."""
        self.head_request = head_request
        self.request_complete = False
        self.long_running = long_running
        self.failure: Reply | None = None
        self.deadline = math.inf
        self._plane = plane
        self._remote = remote
        self._upstream: UpstreamConnection | None = None
        self._dial: Dial | None = None
        self._block = b""
        self._replayable = False
        self._retried = False
        self._head: tuple[int, ResponseHead] | None = None
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._at_line_end = False
        self._complete = False
        self._broken = False
        self._gone = False
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._connected = asyncio.Event()

    async def connect(self, backend: Upstream, block: bytes, replayable: bool) -> None:
        """Get a connection and send the head; a failure is kept in `failure`."""
        self._block = block
        self._replayable = replayable
        upstream = backend.take(replayable)
        if upstream is None:
            self._dial = backend.dial(self, long_running=self.long_running)
            await self._connected.wait()
        else:
            self._use(upstream)

    def _use(self, upstream: UpstreamConnection) -> None:
        self._upstream = upstream
        upstream.begin(self)
        upstream.transport.write(self._block)

    async def write(self, data: bytes) -> None:
        await self._writable.wait()
        if self._upstream is not None:
            self._upstream.transport.write(data)

    async def started(self) -> tuple[int, ResponseHead] | Reply:
        """The response's head, or our own reply instead."""
        while self._head is None and self.failure is None:
            await self._wait()
        if self.failure is not None:
            return self.failure
        assert self._head is not None
        return self._head

    async def next(self) -> bytes | None:
        """The next piece of the body, None at its end. AbortResponse when the upstream broke off."""
        while not self._pieces:
            if self._complete:
                return None
            if self._broken:
                raise AbortResponse
            await self._wait()
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        if self._upstream is not None:
            self._upstream.resume()
        return data

    async def _wait(self) -> None:
        if self._gone:
            raise AbortResponse
        self._news.clear()
        await self._news.wait()
        if self._gone:
            raise AbortResponse

    def client_gone(self) -> None:
        self._gone = True
        self._news.set()

    def end_watch(self) -> bool:
        """End the response between two of its lines, as if the server had; False if it is not there."""
        if self._head is None or not self._at_line_end:
            return False
        self.release()
        self._complete = True
        self._news.set()
        return True

    def note_silence(self, seconds: float) -> None:
        """The response has not begun after so long."""
        if self._upstream is not None and self._remote and seconds >= SILENCE_SECONDS:
            endpoint = self._upstream.endpoint
            endpoint.timed_out(endpoint.owner.tick - int(seconds / self._plane.limits.sweep_seconds))

    def release(self) -> None:
        """The stream is over: give up what is still in progress."""
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.release()

    # Exchange

    def response_informational(self, code: int, head: ResponseHead) -> None:
        """ASGI cannot carry it on."""

    def response_refused(self) -> bool:
        upstream = self._upstream
        if upstream is None or not self._replayable or self._retried:
            return False
        if not upstream.endpoint.owner.may_retry(upstream.endpoint, reused=False):
            return False
        upstream.release()
        self._retry(upstream)
        return True

    def _retry(self, upstream: UpstreamConnection) -> None:
        """Send the request again, over another connection than the one that failed it."""
        self._retried = True
        self._upstream = None
        endpoint = upstream.endpoint
        self._dial = endpoint.owner.retry(self, endpoint, long_running=self.long_running)

    def response_head(self, code: int, head: ResponseHead, has_body: bool) -> bool:
        if self._remote and 300 <= code < 400 and head.location is not None and self._plane.limits.reject_redirects:
            self.release()
            self._fail(text(502, REDIRECT_REFUSED))
            return False
        self._replayable = False
        self._head = (code, head)
        return True

    def response_lines(self, code: int, lines: list[bytes], cache_control: bool) -> None:
        head = ResponseHead()
        head.lines = [line + b"\r\n" for line in lines[1:]]
        head.cache_control = cache_control
        self._replayable = False
        self._head = (code, head)

    def response_whole(self, code: int, lines: list[bytes], cache_control: bool, body: bytes) -> None:
        self.response_lines(code, lines, cache_control)
        self.response_body(body)
        self.response_end(b"")

    def response_body(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held += len(data)
        self._at_line_end = data.endswith(b"\n")

    def response_end(self, trailers: bytes) -> None:
        self._upstream = None
        self._complete = True
        self._news.set()

    def response_switched(self, head: ResponseHead, rest: bytes) -> None:
        raise AssertionError("no upgrade was asked for")

    def tunnel_data(self, data: bytes) -> None:
        raise AssertionError("no upgrade was asked for")

    def flush(self) -> None:
        self._news.set()
        if self._held > _HIGH_WATER and self._upstream is not None:
            self._upstream.pause()

    def upstream_lost(self, error: BaseException | None, answered: bool) -> None:
        upstream, self._upstream = self._upstream, None
        self._writable.set()
        if upstream is not None and not answered:
            if not upstream.reused and self._remote:
                upstream.endpoint.failed(error)
            again = self._replayable and not self._retried
            if again and upstream.endpoint.owner.may_retry(upstream.endpoint, reused=upstream.reused):
                self._retry(upstream)
                return
        cause = describe(error, upstream.endpoint.where if upstream is not None else "")
        if self._head is None:
            self._unreachable(cause)
        else:
            log.warning("response broken off", error=cause)
            self._broken = True
            self._news.set()

    def upstream_ready(self) -> None:
        self._writable.set()

    def upstream_full(self) -> None:
        self._writable.clear()

    # Waiter

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        self._dial = None
        self._use(connection)
        self._connected.set()

    def upstream_unreachable(self, error: BaseException) -> None:
        where = self._dial.where if self._dial is not None else ""
        self._dial = None
        if isinstance(error, Overloaded):
            self._fail(overloaded(error))
        else:
            self._unreachable(describe(error, where))

    def _unreachable(self, cause: str) -> None:
        if self._remote:
            self._plane.on_unreachable(self._remote)
        self._fail(text(503, UNREACHABLE + cause))

    def _fail(self, answer: Reply) -> None:
        self.failure = answer
        self._connected.set()
        self._news.set()
