"""A small HTTP/1.1 client for calls between servers: nothing followed, everything bounded.

TCP, TLS and unix sockets; h11 does the protocol. Redirects are answers like any other, bodies are not decoded, and no
header is added besides Host, Connection and the framing of the body.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final

import h11

Headers = Sequence[tuple[str, str]]

MAX_HEAD: Final = 1024 * 1024
"""Bytes of a response head that are accepted, as for requests (aggregator.md 0)."""
MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes of one line of a stream that are accepted by default."""
_CHUNK: Final = 64 * 1024
_CLOSE_SECONDS: Final = 0.5
_METHODS_WITH_BODY: Final = frozenset(("POST", "PUT", "PATCH"))


_UNREAD_BYTES = 256 * 1024
_UNREAD_SECONDS = 1.0
"""What is read of an answer of which only the status counts, so that its connection can be used again."""


class HTTPClientError(Exception):
    """A request that got no complete answer; the text says why and names no secret."""


class ConnectError(HTTPClientError):
    """No connection was made: nothing has been sent."""


class TLSError(ConnectError):
    """The peer was reached, but TLS failed: a certificate is not trusted, or the peer refused ours."""


class RequestTimeout(HTTPClientError):
    """The deadline passed before the answer was complete."""


class ResponseTooLarge(HTTPClientError):
    """The body, or a line of it, exceeds the limit."""


class ProtocolError(HTTPClientError):
    """The peer broke the protocol, or closed the connection before the answer was complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect: `unix_path`, or `host` and `port`; `ssl` turns TLS on.

    `server_hostname` is the name expected in the certificate (and sent as SNI); `host` when not given.
    """

    host: str = "localhost"
    port: int = 0
    ssl: SSLContext | None = None
    server_hostname: str | None = None
    unix_path: Path | None = None
    addresses: tuple[str, ...] = ()
    """IP addresses to dial, one after the other until one answers; empty: `host` is looked up."""

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        if self.unix_path is not None:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        default_port = 443 if self.ssl is not None else 80
        return host if self.port == default_port else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"unix:{self.unix_path}" if self.unix_path is not None else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A complete answer; header names are lower-case, repeated headers stay apart."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str, default: str = "") -> str:
        return _first(self.headers, name, default)


async def request(
    target: Target,
    method: str,
    path: str,
    headers: Headers = (),
    body: bytes = b"",
    *,
    timeout: float,
    max_body: int,
) -> Response:
    """Send one request and read the whole answer within `timeout` seconds; `max_body` is in bytes.

    Raises a subclass of HTTPClientError.
    """
    try:
        async with asyncio.timeout(timeout), _exchange(target, method, path, headers, body) as exchange:
            head = await exchange.head()
            content = await exchange.read(max_body)
    except TimeoutError as error:
        raise RequestTimeout(f"no complete response from {target} within {timeout:g}s") from error
    return Response(status=head.status_code, headers=_decoded(head), body=content)


class KeptConnection:
    """A connection for several requests, one after the other; make one with `open`. `close` it in the end."""

    def __init__(self, target: Target, exchange: "_Exchange") -> None:
        self._target = target
        self._exchange = exchange

    @classmethod
    async def open(cls, target: Target, *, timeout: float) -> "KeptConnection":
        """Connect within `timeout` seconds. Raises a subclass of HTTPClientError."""
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await _connect(target)
        except TimeoutError as error:
            raise RequestTimeout(f"no connection to {target} within {timeout:g}s") from error
        return cls(target, _Exchange(reader, writer, None))

    @property
    def reusable(self) -> bool:
        """Whether another request can be tried: the last answer is complete, and the peer has not hung up so far."""
        exchange = self._exchange
        idle = exchange.connection.our_state is h11.IDLE
        return idle and not exchange.reader.at_eof() and not exchange.writer.is_closing()

    async def request(self, method: str, path: str, headers: Headers, *, timeout: float, max_body: int) -> Response:
        """As the function `request`, without a body. After an error the connection is not reusable."""
        exchange = self._exchange
        try:
            async with asyncio.timeout(timeout):
                exchange.send(self._target, method, path, headers, b"", close=False)
                head = await exchange.head()
                content = await exchange.read(max_body)
        except TimeoutError as error:
            raise RequestTimeout(f"no complete response from {self._target} within {timeout:g}s") from error
        with contextlib.suppress(h11.LocalProtocolError):
            exchange.connection.start_next_cycle()
        return Response(status=head.status_code, headers=_decoded(head), body=content)

    async def status(self, path: str, headers: Headers, *, timeout: float) -> int:
        """The status code of the answer to a GET; `timeout` (seconds) ends with the response head.

        A body that is neither short nor quick costs the connection its next request, and nobody the answer.
        """
        exchange = self._exchange
        try:
            async with asyncio.timeout(timeout):
                exchange.send(self._target, "GET", path, headers, b"", close=False)
                head = await exchange.head()
        except TimeoutError as error:
            raise RequestTimeout(f"no response from {self._target} within {timeout:g}s") from error
        with contextlib.suppress(HTTPClientError, TimeoutError, h11.LocalProtocolError):
            async with asyncio.timeout(_UNREAD_SECONDS):
                await exchange.read(_UNREAD_BYTES)
            exchange.connection.start_next_cycle()
        return head.status_code

    def close(self) -> None:
        self._exchange.writer.transport.abort()


class LineStream:
    """An answer whose body is read line by line, such as a watch; made by `stream_lines`."""

    def __init__(self, exchange: "_Exchange", head: h11.Response, max_line: int) -> None:
        self._exchange = exchange
        self._max_line = max_line
        self.status: int = head.status_code
        self.headers = _decoded(head)

    def header(self, name: str, default: str = "") -> str:
        return _first(self.headers, name, default)

    async def read(self, max_body: int, *, timeout: float) -> bytes:
        """The whole body, for an answer that is not the stream asked for."""
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange.read(max_body)
        except TimeoutError as error:
            raise RequestTimeout(f"response body not complete within {timeout:g}s") from error

    async def lines(self) -> AsyncIterator[bytes]:
        """Every line without its newline, the last one even if it has none; empty lines are skipped."""
        pending = bytearray()
        while (chunk := await self._exchange.chunk()) is not None:
            *complete, rest = chunk.split(b"\n")
            if complete:
                complete[0] = bytes(pending) + complete[0]
                pending.clear()
            pending += rest
            for line in complete:
                if len(line) > self._max_line:
                    raise ResponseTooLarge(f"line exceeds {self._max_line} bytes")
                if line:
                    yield line
            if len(pending) > self._max_line:
                raise ResponseTooLarge(f"line exceeds {self._max_line} bytes")
        if pending:
            yield bytes(pending)


@asynccontextmanager
async def stream_lines(
    target: Target,
    method: str,
    path: str,
    headers: Headers = (),
    body: bytes = b"",
    *,
    head_timeout: float,
    max_line: int = MAX_LINE,
) -> AsyncIterator[LineStream]:
    """Send one request and stream its answer; `head_timeout` (seconds) ends with the response head.

    The connection is closed when the context is left. Raises a subclass of HTTPClientError, also while lines are read.
    """
    async with _exchange(target, method, path, headers, body, deadline=head_timeout) as exchange:
        try:
            async with asyncio.timeout_at(exchange.deadline):
                head = await exchange.head()
        except TimeoutError as error:
            raise RequestTimeout(f"no response from {target} within {head_timeout:g}s") from error
        yield LineStream(exchange, head, max_line)


class _Exchange:
    """One request and its answer on an open connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, deadline: float | None) -> None:
        self.reader = reader
        self.writer = writer
        self.deadline = deadline
        self.connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)

    def send(
        self, target: Target, method: str, path: str, headers: Headers, body: bytes, *, close: bool = True
    ) -> None:
        names = {name.lower() for name, _ in headers}
        lines = list(headers)
        if "host" not in names:
            lines.insert(0, ("Host", target.authority))
        if body or method in _METHODS_WITH_BODY:
            lines.append(("Content-Length", str(len(body))))
        if close:
            lines.append(("Connection", "close"))
        try:
            data = self.connection.send(h11.Request(method=method, target=path, headers=lines))
            if body:
                data += self.connection.send(h11.Data(data=body))
            data += self.connection.send(h11.EndOfMessage())
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            raise ProtocolError(f"request cannot be sent: {error}") from error
        self.writer.write(data)

    async def head(self) -> h11.Response:
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise ProtocolError("connection closed before the response")

    async def chunk(self) -> bytes | None:
        """The next piece of the body; None at its end."""
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def read(self, limit: int) -> bytes:
        body = bytearray()
        while (chunk := await self.chunk()) is not None:
            body += chunk
            if len(body) > limit:
                raise ResponseTooLarge(f"response body exceeds {limit} bytes")
        return bytes(body)

    async def _next(self) -> Any:
        try:
            while (event := self.connection.next_event()) is h11.NEED_DATA:
                self.connection.receive_data(await self.reader.read(_CHUNK))
        except h11.RemoteProtocolError as error:
            raise ProtocolError(_protocol_text(error)) from error
        except ssl.SSLError as error:
            raise TLSError(_tls_text(error)) from error
        except OSError as error:
            raise ProtocolError(f"connection lost: {_os_text(error)}") from error
        return event


@asynccontextmanager
async def _exchange(
    target: Target, method: str, path: str, headers: Headers, body: bytes, *, deadline: float | None = None
) -> AsyncIterator[_Exchange]:
    """Connect, send, and close whatever happens; `deadline` (seconds from now) bounds connecting."""
    limit = None if deadline is None else asyncio.get_running_loop().time() + deadline
    try:
        async with asyncio.timeout_at(limit):
            reader, writer = await _connect(target)
    except TimeoutError as error:
        raise RequestTimeout(f"no connection to {target} within {deadline:g}s") from error
    try:
        exchange = _Exchange(reader, writer, limit)
        exchange.send(target, method, path, headers, body)
        yield exchange
        await _close(writer)
    finally:
        writer.transport.abort()


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    options: dict[str, Any] = {}
    if target.ssl is not None:
        options = {"ssl": target.ssl, "server_hostname": target.server_hostname or target.host}
    try:
        if target.unix_path is not None:
            return await asyncio.open_unix_connection(str(target.unix_path), **options)
        *others, last = target.addresses or (target.host,)
        for address in others:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(address, target.port, **options)
        return await asyncio.open_connection(last, target.port, **options)
    except ssl.SSLError as error:
        raise TLSError(f"connect to {target}: {_tls_text(error)}") from error
    except OSError as error:
        if isinstance(error, ConnectionResetError) and target.ssl is not None:
            raise TLSError(f"connect to {target}: connection closed during the TLS handshake") from error
        raise ConnectError(f"connect to {target}: {_os_text(error)}") from error
    except UnicodeError as error:
        raise ConnectError(f"connect to {target}: invalid host name") from error


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        pass


def _tls_text(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message.rstrip('.')}"
    return f"tls: {(error.reason or str(error)).lower().replace('_', ' ')}"


def _os_text(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"name resolution failed: {error.strerror}"
    # asyncio joins the failures of several addresses in one text, uvloop words a single one itself.
    if error.errno is not None and not str(error).startswith("Multiple exceptions"):
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def _protocol_text(error: h11.RemoteProtocolError) -> str:
    """h11's reason, with its internal names put into words."""
    text = str(error)
    if "event type ConnectionClosed" in text:
        return "connection closed before the response"
    if "closed connection" in text:
        return "connection closed before the response was complete"
    if "_SWITCH_" in text:
        return "unexpected change of protocol"
    return text


def _decoded(head: h11.Response) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)


def _first(headers: Headers, name: str, default: str) -> str:
    wanted = name.lower()
    return next((value for header, value in headers if header == wanted), default)
