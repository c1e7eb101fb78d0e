"""When and how the requests of a crowded endpoint share connections.

A connection of HTTP/1.1 costs less per request, and no answer waits behind another one. But each request in progress
needs one: with a backend that turns slow, or thousands of watches, that is thousands of TLS handshakes and sessions.
"""

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, cast

from aggregator.proxy.shared_connection import SharedConnection
from aggregator.proxy.shared_link import SharedLink
from aggregator.proxy.shared_stream import SharedStream
from aggregator.proxy.upstream_conn import CLOSING_SECONDS, UpstreamConnection
from apiserver import logs

if TYPE_CHECKING:
    from aggregator.proxy.endpoint import Endpoint

log = logs.get("aggregator.proxy")

_DECLINED_SECONDS = 300.0
"""How long a backend that does not want to share is not asked again."""
_PATIENCE = 3
"""Connections that a request waits for in vain, gone before its turn."""

Factory = Callable[[], asyncio.BaseProtocol]
Connect = Callable[[Factory], Awaitable[object]]


class Sharing:
    """The shared connections of one endpoint."""

    def __init__(self, endpoint: "Endpoint", connect: Connect, *, streams: int) -> None:
        """`connect` offers HTTP/2; `streams` is how many requests a connection carries at a time, at most."""
        self.endpoint = endpoint
        self.connections: list[SharedConnection] = []
        self.busy = 0
        """Requests in progress on them, and those about to be."""
        self.usual = streams
        """What the backend has allowed last: a new connection does not know before its settings come."""
        self._connect = connect
        self._streams = streams
        self._declined_until = 0.0
        self._dial: asyncio.Task[None] | None = None
        self._newest: SharedConnection | None = None
        """The connection that was made last."""

    @property
    def declined(self) -> bool:
        return self._declined_until > 0.0 and time.monotonic() < self._declined_until

    def stream(self) -> SharedStream | None:
        """A place on a connection that is there, for one exchange."""
        for connection in self.connections:
            if connection.room:
                stream = connection.reserve()
                self.busy += 1
                return stream
        return None

    def streams(self) -> Iterator[SharedStream]:
        """Those with a request."""
        for connection in self.connections:
            yield from connection.streams.values()

    async def join(self) -> SharedStream | None:
        """A place, on a new connection if need be; None when the backend does not share. One of CONNECT_ERRORS."""
        in_vain = 0
        while not self.declined:
            stream = self.stream()
            if stream is not None:
                return stream
            if in_vain == _PATIENCE:
                raise ConnectionResetError(errno.ECONNRESET, "connections leave as soon as they are made")
            if self._dial is None:
                self._dial = asyncio.get_running_loop().create_task(self._make(), name=f"share {self.endpoint.where}")
                self._dial.add_done_callback(self._dialed)
            # All that come meanwhile wait for the same one; that somebody gives up does not end it.
            await asyncio.shield(self._dial)
            in_vain += self._newest is None or self._newest.leaving
        return None

    async def _make(self) -> None:
        await self._connect(lambda: _Newcomer(self))
        self.endpoint.passed()

    def _dialed(self, dial: asyncio.Task[None]) -> None:
        self._dial = None
        if not dial.cancelled():
            # Whoever waits for it gets the error, too; without anybody it is not worth a word.
            dial.exception()

    def enter(self, transport: asyncio.Transport) -> None:
        """A handshake is over: the backend has chosen."""
        tls = transport.get_extra_info("ssl_object")
        connection: SharedConnection | UpstreamConnection
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            connection = SharedConnection(self, self._streams)
            connection.limit = self.usual
            self._newest = connection
            self.connections.append(connection)
            transport.set_protocol(connection)
            connection.connection_made(transport)
            return
        self.decline("the backend prefers HTTP/1.1")
        connection = UpstreamConnection(self.endpoint)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        self.endpoint.give_back(connection)

    def decline(self, reason: str) -> None:
        """Do without shared connections for a while."""
        if not self.declined:
            log.info("no shared connections", endpoint=self.endpoint.where, reason=reason)
        self._declined_until = time.monotonic() + _DECLINED_SECONDS

    def left(self, connection: SharedLink, stream: SharedStream) -> None:
        """An exchange is over, or will not be."""
        self.busy -= 1
        endpoint = self.endpoint
        if endpoint.retired:
            if not connection.busy:
                connection.leave()
        elif endpoint.attention:
            place = self.stream()
            if place is None:
                endpoint.owner.start_waiting()
            elif not endpoint.owner.next_waiting(place):
                place.close()

    def leaves(self) -> None:
        """The backend wants a connection to end: it may be about to stop."""
        self.endpoint.owner.busy_elsewhere(self.endpoint, CLOSING_SECONDS)

    def lost(self, connection: SharedConnection) -> None:
        self.connections.remove(connection)
        if self._newest is connection:
            self._newest = None
        self.endpoint.owner.connection_lost(self.endpoint)

    def answered_since(self, tick: int) -> bool:
        return any(connection.answered_tick >= tick for connection in self.connections)

    def look(self, now: float, horizon: int) -> None:
        """Once per sweep."""
        for connection in list(self.connections):
            connection.look(now, horizon)

    def retire(self) -> None:
        """No new requests; what is in progress finishes."""
        for connection in list(self.connections):
            if not connection.busy:
                connection.leave()

    def abort(self) -> None:
        if self._dial is not None:
            self._dial.cancel()
        for connection in list(self.connections):
            connection.abort()


class _Newcomer(asyncio.Protocol):
    """A connection whose protocol is not known before its handshake is over."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sharing.enter(cast(asyncio.Transport, transport))
