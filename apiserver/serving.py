"""Serving ASGI applications: listeners, connections and an orderly end of both.

`scope["state"]` belongs to one request; its `peer_certificate` is the client's certificate in DER, or None. Lifespan is
not run. `Connections` serves connections that somebody else accepted.
"""

import asyncio
import contextlib
import errno
import logging
import math
import os
import socket
import ssl
import stat
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from apiserver import bindable, logs
from apiserver.asgi import AbortResponse, ASGIApp, Message, Receive, Scope, Send
from apiserver.connection import Connection
from apiserver.http1_connection import FRESH_SECONDS, IDLE_SECONDS, HTTP1Connection, Shared
from apiserver.http1_requests import MAX_HEAD
from apiserver.peer import peer_certificate

__all__ = [
    "ASGIApp",
    "AbortResponse",
    "Connections",
    "ListenError",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "Server",
    "serve",
]

_log = logs.get("apiserver.serving")

HANDSHAKE_SECONDS: Final = 10.0
MAX_STREAMS: Final = 1000
_BACKLOG: Final = 1024
_HANDSHAKE_POLL_SECONDS: Final = 0.02


class ListenError(Exception):
    """An address cannot be listened on; the text names it and says why."""


class Connections:
    """Open connections of one application; owns their tasks."""

    def __init__(self, app: ASGIApp, *, name: str = "http") -> None:
        self._app = app
        self._name = name
        self._config = _config()
        self._context = WorkerContext(None)
        self._http1 = Shared(app)
        self._http2: set[asyncio.Task[None]] = set()
        self._knocking: weakref.WeakSet[_Accepted] = weakref.WeakSet()
        self._draining = False
        self._accepting = True

    def __len__(self) -> int:
        return len(self._http1.open) + len(self._http2)

    def knocking(self, accepted: "_Accepted") -> None:
        """A connection is there, its handshake is not over; one that fails is forgotten without a word."""
        self._knocking.add(accepted)

    def let_in(self, accepted: "_Accepted") -> None:
        self._knocking.discard(accepted)

    def adopt(
        self, transport: asyncio.Transport, received: bytes = b"", state: Mapping[str, Any] | None = None
    ) -> None:
        """Serve a connection, as HTTP/2 if ALPN chose it.

        `received` are bytes that were read already; `state` adds to every request's state.
        """
        if not self._accepting:
            transport.abort()
            return
        tls = transport.get_extra_info("ssl_object")
        shared = {"peer_certificate": peer_certificate(tls), **(state or {})}
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            if self._draining:
                transport.abort()
            else:
                self._start_http2(transport, received, shared)
            return
        connection = HTTP1Connection(self._http1, shared)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._draining:
            connection.drain()
        if received:
            connection.data_received(received)

    def _start_http2(self, transport: asyncio.Transport, received: bytes, state: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if received:
            reader.feed_data(received)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        connection = Connection(self._app, self._config, self._context, state, reader, writer)
        task = loop.create_task(connection.run(), name=f"{self._name}-connection")
        self._http2.add(task)
        task.add_done_callback(self._http2.discard)

    def announce_end(self) -> None:
        """Serve on, but tell HTTP/1.1 clients to use their connections no more: none is then closed under a request."""
        self._http1.leaving = True

    async def drain(self, grace_seconds: float) -> None:
        """Close idle connections, let running requests finish within `grace_seconds`, then break the rest off.

        A connection that was accepted and has had no request yet may still ask one, see `FRESH_SECONDS`.
        """
        self._draining = True
        self.announce_end()
        await self._context.terminated.set()
        for connection in list(self._http1.open):
            connection.drain()
        await self._ended(grace_seconds)
        self._accepting = False
        if len(self):
            _log.info("connections broken off", server=self._name, connections=len(self))
        for task in list(self._http2):
            task.cancel()
        for connection in list(self._http1.open):
            connection.abort()
        await self._ended(math.inf)

    async def _ended(self, seconds: float) -> None:
        """Wait until no connection is left, those included whose handshake has only just begun."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (rest := deadline - loop.time()) > 0:
            waited = {*self._http2, *(connection.ended for connection in self._http1.open)}
            if waited:
                await asyncio.wait(waited, timeout=rest if rest < math.inf else None)
            elif self._accepting and any(item.fresh for item in self._knocking):
                await asyncio.sleep(min(rest, _HANDSHAKE_POLL_SECONDS))
            else:
                return


class _Accepted(asyncio.Protocol):
    """A connection in its first moment; over TLS the protocol is known only now."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._accepted = time.monotonic()
        connections.knocking(self)

    @property
    def fresh(self) -> bool:
        return time.monotonic() - self._accepted < FRESH_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.let_in(self)
        self._connections.adopt(cast(asyncio.Transport, transport))  # uvloop's is no subclass


class Server:
    """A listening server; made by `serve`."""

    def __init__(self, listener: asyncio.Server, connections: Connections, unix_path: Path | None) -> None:
        self._listener = listener
        self._unix_path = unix_path
        self._inode = unix_path.stat().st_ino if unix_path is not None else None
        self.connections = connections
        self.addresses: tuple[tuple[str, int] | str, ...] = tuple(map(_address, listener.sockets))
        """`(host, port)` of each TCP socket, the path of a unix socket."""

    @property
    def port(self) -> int:
        """The TCP port; LookupError on a unix socket."""
        for address in self.addresses:
            if not isinstance(address, str):
                return address[1]
        raise LookupError("the server listens on no TCP port")

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Stop listening, then drain as `Connections.drain` does."""
        self._listener.close()
        if self._unix_path is not None:
            with contextlib.suppress(FileNotFoundError):
                if self._unix_path.stat().st_ino == self._inode:
                    self._unix_path.unlink()
        await self.connections.drain(grace_seconds)


async def serve(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    unix_path: Path | None = None,
    sockets: Sequence[socket.socket] = (),
    ssl_context: ssl.SSLContext | None = None,
    name: str = "http",
) -> Server:
    """Listen on `unix_path` (mode 0600), on one bound socket, or on `host` and `port` (0 picks a free one).

    Raises ListenError.
    """
    loop, connections = asyncio.get_running_loop(), Connections(app, name=name)
    options: dict[str, Any] = {"backlog": _BACKLOG}

    def accept() -> _Accepted:
        return _Accepted(connections)

    if ssl_context is not None:
        options |= {"ssl": ssl_context, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
    where = str(unix_path) if unix_path is not None else f"{host}:{port}"
    try:
        if unix_path is not None:
            listener = await loop.create_unix_server(accept, sock=_unix_socket(unix_path), **options)
        elif sockets:
            where = "the given socket"
            (bound,) = sockets
            listener = await loop.create_server(accept, sock=bound, **options)
        else:
            listener = await loop.create_server(accept, bindable.names(host), port, **options)
    except OSError as error:
        raise ListenError(f"cannot listen on {where}: {why(error)}") from error
    for listening in listener.sockets:
        _keep_alive(listening)
    return Server(listener, connections, unix_path)


def _config() -> Config:
    config = Config()
    config.include_server_header = False
    config.keep_alive_max_requests = 10**12
    config.keep_alive_timeout = IDLE_SECONDS
    config.h2_max_concurrent_streams = MAX_STREAMS
    config.h2_max_header_list_size = MAX_HEAD
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


def _unix_socket(path: Path) -> socket.socket:
    """A bound socket that only its owner may connect to; a socket file that nobody serves any more is replaced."""
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        # Nobody can connect before listen(), so there is no moment with a wider mode.
        os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_stale(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "the file exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another process serves it")


def _keep_alive(listening: Any) -> None:
    """Notice peers that vanished: accepted sockets inherit this. Watches may be silent for minutes."""
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)


def _address(listening: Any) -> tuple[str, int] | str:
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return str(name)
    return (str(name[0]), int(name[1]))


def why(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"name resolution failed: {error.strerror}"
    if error.errno == errno.EADDRINUSE and error.strerror != "another process serves it":
        return "address already in use"
    return (error.strerror or str(error)).lower()
