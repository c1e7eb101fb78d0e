"""HTTP/2 clients: an ASGI application with the decisions, header rules and upstream pool of the HTTP/1.1 path."""

import asyncio
import time
from email.utils import formatdate

from aggregator.proxy import wire
from aggregator.proxy.answers import CLIENT_CLOSED, UNREACHABLE
from aggregator.proxy.balancer import Upstream
from aggregator.proxy.decide import GATEWAY_TIMEOUT, Forward, Reply, text
from aggregator.proxy.failures import CONTEXT_DEADLINE
from aggregator.proxy.headers import Headers, RequestHead, sane_audit_id
from aggregator.proxy.http2_exchange import StreamExchange
from aggregator.proxy.plane import Plane, log, seconds_allowed
from aggregator.proxy.request_side import METHOD_REFUSED, METHODS, REPLAYABLE
from aggregator.proxy.target import REQUEST_SECONDS
from apiserver.auth.later import settled
from apiserver.serving import AbortResponse, ASGIApp, Receive, Scope, Send

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
            verdict = await self._verdict()
            if isinstance(verdict, Reply):
                await self._reply(verdict)
                return
            head, forward, upstream = verdict
            self._route = forward.route.name
            long_running = forward.target.long_running
            metrics.long_running += long_running
            await self._forward(head, forward, upstream)
        finally:
            metrics.in_flight -= 1
            metrics.long_running -= long_running
            seconds = time.monotonic() - self._began
            counters = metrics.route(self._route)
            method = self._method if self._method in METHODS else b"OTHER"
            counters.observe(method, self._code or CLIENT_CLOSED, seconds, not long_running)

    async def _verdict(self) -> Reply | tuple[RequestHead, Forward, Upstream]:
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
        verdict = plane.verdict(identity, head, self._method, self._raw_target)
        if not isinstance(verdict, Forward | Reply):
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    while not isinstance(verdict, Forward | Reply):
                        await settled(verdict)
                        verdict = plane.verdict(identity, head, self._method, self._raw_target)
            except TimeoutError:
                return GATEWAY_TIMEOUT
        if isinstance(verdict, Reply):
            return verdict
        upstream = plane.upstream(verdict.route)
        return upstream if isinstance(upstream, Reply) else (head, verdict, upstream)

    async def _forward(self, head: RequestHead, forward: Forward, upstream: Upstream) -> None:
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
            authority=head.host if upstream.local else upstream.authority,
            audit_id=self._audit_id,
            client=client[0].encode() if client else b"127.0.0.1",
        )
        remote = "" if forward.route.local else forward.route.name
        target = forward.target
        exchange = StreamExchange(self._plane, self._method == b"HEAD", remote=remote, long_running=target.long_running)
        exchange.request_complete = bodyless
        seconds = None if target.long_running else seconds_allowed(forward)
        if target.long_running:
            self._plane.watches.add(exchange)
        try:
            async with asyncio.timeout(seconds):
                await self._exchange(exchange, upstream, block, bodyless, head.chunked)
        except TimeoutError:
            if self._head_sent:
                raise AbortResponse from None
            exchange.note_silence(time.monotonic() - self._began)
            discovery = target.discovery and not forward.route.local
            await self._reply(text(503, UNREACHABLE + CONTEXT_DEADLINE) if discovery else GATEWAY_TIMEOUT)
        finally:
            self._plane.watches.discard(exchange)
            exchange.release()

    async def _exchange(
        self, exchange: StreamExchange, upstream: Upstream, block: bytes, bodyless: bool, chunked: bool
    ) -> None:
        await exchange.connect(upstream, block, bodyless)
        if exchange.failure is not None and exchange.failure.retry_after is None:
            self._plane.metrics.route(self._route).connect_errors += 1
        loop = asyncio.get_running_loop()
        upload = loop.create_task(self._upload(exchange, chunked), name="proxy-http2-upload")
        try:
            await self._download(exchange)
        finally:
            upload.cancel()
            await asyncio.gather(upload, return_exceptions=True)

    async def _upload(self, exchange: StreamExchange, chunked: bool) -> None:
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

    async def _download(self, exchange: StreamExchange) -> None:
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


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line[:-2].partition(b":")
    return name.lower(), value.strip(b" \t")
