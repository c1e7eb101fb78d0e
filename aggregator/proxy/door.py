"""Where connections of clients come in: how many there may be, and which protocol each speaks."""

import asyncio
import time
from typing import cast
from weakref import WeakSet

from aggregator.proxy.downstream import DownstreamConnection
from aggregator.proxy.http2_connection import Http2Connection
from aggregator.proxy.plane import Plane, log

TOTAL = "total"
PER_ADDRESS = "address"
_QUIET_SECONDS = 10.0
"""Refused connections are logged once in this time at most: whoever opens too many opens many more."""


class Door:
    """Counts connections, and those that are only on their way to being one.

    uvloop tells a protocol nothing of a handshake that fails or never ends, it just drops it. So those on their way are
    held weakly: whatever becomes of one, it counts exactly as long as the event loop keeps it, which the timeout of
    the handshake bounds.
    """

    def __init__(self, plane: Plane) -> None:
        self.closing = False
        """Whoever comes in now may ask what it came for, and has to leave."""
        self._plane = plane
        self._arriving: WeakSet[Arrival] = WeakSet()
        self._logged_at = float("-inf")
        self._refused = 0
        """Since the last line in the log."""

    @property
    def arriving(self) -> int:
        """How many connections have not finished their handshake."""
        return len(self._arriving)

    def accept(self) -> asyncio.Protocol:
        """The protocol of a connection that was accepted just now: the factory of a listener."""
        plane = self._plane
        most = plane.limits.connections
        full = 0 < most <= len(plane.connections) + len(self._arriving)
        arrival = Arrival(self, full=full)
        if not full:
            # Those that will be refused take no place, else they would keep others out for as long as they like.
            self._arriving.add(arrival)
        return arrival

    def enter(self, arrival: "Arrival", transport: asyncio.Transport) -> None:
        """The handshake is over: the connection takes its place and its protocol, or is closed."""
        plane = self._plane
        self._arriving.discard(arrival)
        peername = transport.get_extra_info("peername")
        address = str(peername[0]) if isinstance(peername, tuple) else ""
        if arrival.full:
            self._refuse(transport, TOTAL, address)
            return
        tls = transport.get_extra_info("ssl_object")
        http2 = tls is not None and tls.selected_alpn_protocol() == "h2"
        connection = Http2Connection(plane) if http2 else DownstreamConnection(plane)
        if not plane.addresses.take(connection, address):
            self._refuse(transport, PER_ADDRESS, address)
            return
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self.closing:
            connection.drain()

    def _refuse(self, transport: asyncio.Transport, reason: str, address: str) -> None:
        transport.abort()
        self._plane.metrics.refused_connections[reason] += 1
        self._refused += 1
        now = time.monotonic()
        if now >= self._logged_at + _QUIET_SECONDS:
            log.warning("connections refused", reason=reason, address=address, connections=self._refused)
            self._logged_at = now
            self._refused = 0


class Arrival(asyncio.Protocol):
    """A connection whose handshake is in progress. Small, and part of no cycle: it goes when its handshake goes."""

    def __init__(self, door: Door, *, full: bool) -> None:
        """`full`: there is no place for it."""
        self.full = full
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._door.enter(self, cast(asyncio.Transport, transport))
