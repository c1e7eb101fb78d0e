"""HTTP/2 clients: an ASGI application with the decisions, header rules and upstream pool of the HTTP/1.1 path."""

import asyncio
import math
import time
from collections import deque
from email.utils import formatdate

from aggregator.proxy import wire
from aggregator.proxy.client_side import CLIENT_CLOSED, REDIRECT_REFUSED, UNREACHABLE
from aggregator.proxy.decide import GATEWAY_TIMEOUT, Forward, Reply, decide, refuse_impersonation, text
from aggregator.proxy.failures import CONTEXT_DEADLINE, describe
from aggregator.proxy.headers import Headers, RequestHead, ResponseHead, sane_audit_id
from aggregator.proxy.plane import Plane, log
from aggregator.proxy.pool import Dial, Endpoint
from aggregator.proxy.request_side import METHOD_REFUSED, METHODS, REPLAYABLE
from aggregator.proxy.upstream_conn import UpstreamConnection
from apiserver.serving import AbortResponse, ASGIApp, Receive, Scope, Send

_HIGH_WATER = 256 * 1024
"""Bytes of a response held for a client before the upstream is no longer read."""
_CONNECTION_FIELDS = frozenset((b"connection", b"transfer-encoding", b"keep-alive", b"upgrade"))


def application(plane: Plane) -> ASGIApp:
    """The ASGI application of a plane."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise AbortResponse
        await _Request(plane, scope, receive, send).run()

    return serve


class _Request:
    """One stream: owns its exchange and answers for its end."""

    def __init__(self, plane: Plane, scope: Scope, receive: Receive, send: Send) -> None:
        self._plane = plane
        self._scope = scope
        self._receive = receive
        self._send = send
        self._method: bytes = scope["method"].encode("ascii", "replace")
        query: bytes = scope.get("query_string", b"")
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        self._raw_target = b"%b?%b" % (path, query) if query else path
        self._audit_id = b""
        self._route = "local"
        self._code = 0
        self._began = time.monotonic()
        self._head_sent = False

    async def run(self) -> None:
        metrics = self._plane.metrics
        metrics.in_flight += 1
        long_running = False
        try:
            verdict = self._verdict()
            if isinstance(verdict, Reply):
                await self._reply(verdict)
                return
            head, forward, endpoint = verdict
            self._route = forward.route.name
            long_running = forward.target.long_running
            metrics.long_running += long_running
            await self._forward(head, forward, endpoint)
        finally:
            metrics.in_flight -= 1
            metrics.long_running -= long_running
            seconds = time.monotonic() - self._began
            counters = metrics.route(self._route)
            method = self._method if self._method in METHODS else b"OTHER"
            counters.observe(method, self._code or CLIENT_CLOSED, seconds, not long_running)

    def _verdict(self) -> Reply | tuple[RequestHead, Forward, Endpoint]:
        plane = self._plane
        fields: Headers = [(name, value) for name, value in self._scope["headers"] if not name.startswith(b":")]
        head = plane.rules.request(fields)
        self._audit_id = head.audit_id if sane_audit_id(head.audit_id) else plane.audit_ids.next()
        if self._method not in METHODS:
            return METHOD_REFUSED
        if any(name in _CONNECTION_FIELDS for name, _ in fields):
            # RFC 9113 8.2.2: connection-specific fields make a message malformed.
            return text(400, "400 Bad Request: connection-specific header in HTTP/2")
        certificate = self._scope["state"].get("peer_certificate")
        identity = plane.identity(certificate, fields)
        verdict = decide(plane.table, plane.policy, identity, self._method, self._raw_target)
        if isinstance(verdict, Reply):
            return verdict
        if head.impersonate is not None:
            return refuse_impersonation(identity, head.impersonate)
        endpoint = plane.endpoint(verdict.route)
        return endpoint if isinstance(endpoint, Reply) else (head, verdict, endpoint)

    async def _forward(self, head: RequestHead, forward: Forward, endpoint: Endpoint) -> None:
        client = self._scope.get("client")
        # ASGI does not tell a stream without a body from one whose body has not come yet, but this method does.
        bodyless = self._method in REPLAYABLE and head.content_length <= 0
        if not bodyless and head.content_length < 0:
            head.chunked = True
        block = wire.request_head(
            self._method,
            self._raw_target,
            head,
            forward,
            authority=head.host if endpoint.local else endpoint.authority,
            audit_id=self._audit_id,
            client=client[0].encode() if client else b"127.0.0.1",
        )
        exchange = _StreamExchange(self._plane, self._method == b"HEAD", remote=not forward.route.local)
        exchange.request_complete = bodyless
        target = forward.target
        seconds = None if target.long_running else target.seconds
        if target.long_running:
            self._plane.watches.add(exchange)
        try:
            async with asyncio.timeout(seconds):
                await self._exchange(exchange, endpoint, block, bodyless, head.chunked)
        except TimeoutError:
            if self._head_sent:
                raise AbortResponse from None
            discovery = target.discovery and not forward.route.local
            await self._reply(text(503, UNREACHABLE + CONTEXT_DEADLINE) if discovery else GATEWAY_TIMEOUT)
        finally:
            self._plane.watches.discard(exchange)
            exchange.release()

    async def _exchange(
        self, exchange: "_StreamExchange", endpoint: Endpoint, block: bytes, bodyless: bool, chunked: bool
    ) -> None:
        await exchange.connect(endpoint, block, bodyless)
        if exchange.failure is not None:
            self._plane.metrics.route(self._route).connect_errors += 1
        loop = asyncio.get_running_loop()
        upload = loop.create_task(self._upload(exchange, chunked), name="proxy-http2-upload")
        try:
            await self._download(exchange)
        finally:
            upload.cancel()
            await asyncio.gather(upload, return_exceptions=True)

    async def _upload(self, exchange: "_StreamExchange", chunked: bool) -> None:
        """The request body towards the upstream; then watch for the client going away."""
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                exchange.client_gone()
                return
            body: bytes = message.get("body", b"")
            if exchange.request_complete:
                continue
            if body:
                await exchange.write(b"%x\r\n%b\r\n" % (len(body), body) if chunked else body)
            if not message.get("more_body", False):
                if chunked:
                    await exchange.write(b"0\r\n\r\n")
                exchange.request_complete = True

    async def _download(self, exchange: "_StreamExchange") -> None:
        started = await exchange.started()
        if isinstance(started, Reply):
            await self._reply(started)
            return
        code, head = started
        self._code = code
        lines = [_split(line) for line in head.lines]
        if head.content_length >= 0 and code != 204:
            lines.append((b"content-length", b"%d" % head.content_length))
        if not head.cache_control:
            lines.append((b"cache-control", b"no-cache, private"))
        lines.append((b"audit-id", self._audit_id))
        self._head_sent = True
        await self._send({"type": "http.response.start", "status": code, "headers": lines})
        while (data := await exchange.next()) is not None:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _reply(self, answer: Reply) -> None:
        self._code = answer.code
        self._route = answer.route if answer.route != "local" else self._route
        if answer.terminated and answer.target is not None:
            self._plane.metrics.terminated(answer.target, answer.code)
        if answer.code >= 500:
            cause = answer.body.decode("utf-8", "replace").strip()
            log.warning("request failed", audit_id=self._audit_id.decode(), code=answer.code, error=cause)
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-cache, private"),
            (b"date", formatdate(usegmt=True).encode()),
            (b"audit-id", self._audit_id),
        ]
        if answer.retry_after is not None:
            headers.append((b"retry-after", b"%d" % answer.retry_after))
        self._head_sent = True
        await self._send({"type": "http.response.start", "status": answer.code, "headers": headers})
        body = b"" if self._method == b"HEAD" else answer.body
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


class _StreamExchange:
    """An exchange whose response waits in memory, within bounds, until the stream takes it."""

    upgrade = False

    def __init__(self, plane: Plane, head_request: bool, *, remote: bool) -> None:
        self.head_request = head_request
        self.request_complete = False
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

    async def connect(self, endpoint: Endpoint, block: bytes, replayable: bool) -> None:
        """Get a connection and send the head; a failure is kept in `failure`."""
        self._block = block
        self._replayable = replayable
        upstream = endpoint.take(replayable)
        if upstream is None:
            self._dial = endpoint.dial(self)
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
        if upstream is not None and upstream.reused and self._replayable and not answered and not self._retried:
            self._retried = True
            self._dial = upstream.endpoint.dial(self)
            return
        cause = describe(error, upstream.endpoint.where if upstream is not None else "")
        if self._head is None:
            self._fail(text(503, UNREACHABLE + cause))
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
        self._fail(text(503, UNREACHABLE + describe(error, where)))

    def _fail(self, answer: Reply) -> None:
        self.failure = answer
        self._connected.set()
        self._news.set()


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line[:-2].partition(b":")
    return name.lower(), value.strip(b" \t")
