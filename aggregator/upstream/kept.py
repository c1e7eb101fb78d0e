"""GETs to backends over connections that are kept for a while: what asks every server every minute should be cheap.

A handshake costs five times as much as a small request.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ssl import SSLContext

from aggregator.upstream import reach
from aggregator.upstream.backend import Backend
from aggregator.upstream.tls import UpstreamTLS
from apiserver import http1
from apiserver.http1 import HTTPClientError, KeptConnection, Response

IDLE_SECONDS = 90.0
"""How long an unused connection is kept: longer than the minute between two polls."""
OLDEST_SECONDS = 600.0
"""How long a connection is used at all: then the name is looked up and the certificate checked anew."""
_IDLE_PER_BACKEND = 2
_TIDY_SECONDS = 15.0
_Key = tuple[str, int, str, SSLContext]


@dataclass(frozen=True, slots=True)
class _Idle:
    connection: KeptConnection
    opened: float
    since: float


class KeptConnections:
    """A Fetch. Connections are never shared between backends that are verified differently.

    `run` closes what is idle for too long, and everything when it is cancelled.
    """

    def __init__(self, tls: UpstreamTLS, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tls = tls
        self._monotonic = monotonic
        self._idle: dict[_Key, list[_Idle]] = {}

    async def __call__(
        self, backend: Backend, path: str, *, headers: Sequence[tuple[str, str]], timeout: float, max_body: int
    ) -> Response:
        """GET `path` within `timeout` seconds, of which each of several addresses has an equal share."""
        *others, last = backend.alternatives()
        share = timeout / (len(others) + 1)
        for one in others:
            with contextlib.suppress(HTTPClientError):
                return await self._get(one, path, headers, share, max_body)
        return await self._get(last, path, headers, share, max_body)

    async def run(self) -> None:
        """Tidy up until cancelled."""
        try:
            while True:
                await asyncio.sleep(_TIDY_SECONDS)
                self._tidy()
        finally:
            self.close()

    def close(self) -> None:
        """Close all connections that nobody uses now."""
        for idle in (one for several in self._idle.values() for one in several):
            idle.connection.close()
        self._idle.clear()

    async def _get(
        self, backend: Backend, path: str, headers: Sequence[tuple[str, str]], timeout: float, max_body: int
    ) -> Response:
        context = self._tls.context(backend)
        key = (backend.host, backend.port, backend.server_name, context)
        deadline = self._monotonic() + timeout
        idle = self._take(key)
        if idle is not None:
            with contextlib.suppress(http1.ProtocolError, http1.TLSError):
                return await self._on(idle.connection, idle.opened, key, path, headers, timeout, max_body)
            # The server hung up just then; a GET may be repeated.
        target = await reach.target(backend, self._tls, timeout=max(0.0, deadline - self._monotonic()))
        connection = await KeptConnection.open(target, timeout=max(0.0, deadline - self._monotonic()))
        rest = max(0.0, deadline - self._monotonic())
        return await self._on(connection, self._monotonic(), key, path, headers, rest, max_body)

    async def _on(
        self,
        connection: KeptConnection,
        opened: float,
        key: _Key,
        path: str,
        headers: Sequence[tuple[str, str]],
        timeout: float,
        max_body: int,
    ) -> Response:
        kept = False
        try:
            answer = await connection.request("GET", path, headers, timeout=timeout, max_body=max_body)
            kept = self._keep(key, connection, opened)
        finally:
            if not kept:
                connection.close()
        return answer

    def _take(self, key: _Key) -> _Idle | None:
        now = self._monotonic()
        several = self._idle.get(key, [])
        while several:
            idle = several.pop()
            if not several:
                del self._idle[key]
            if self._usable(idle, now):
                return idle
            idle.connection.close()
        return None

    def _keep(self, key: _Key, connection: KeptConnection, opened: float) -> bool:
        idle = _Idle(connection, opened, self._monotonic())
        several = self._idle.setdefault(key, [])
        if len(several) >= _IDLE_PER_BACKEND or not self._usable(idle, idle.since):
            if not several:
                del self._idle[key]
            return False
        several.append(idle)
        return True

    @staticmethod
    def _usable(idle: _Idle, now: float) -> bool:
        fresh = now - idle.since < IDLE_SECONDS and now - idle.opened < OLDEST_SECONDS
        return fresh and idle.connection.reusable

    def _tidy(self) -> None:
        now = self._monotonic()
        for key, several in list(self._idle.items()):
            usable = [idle for idle in several if self._usable(idle, now)]
            for idle in several:
                if idle not in usable:
                    idle.connection.close()
            if usable:
                self._idle[key] = usable
            else:
                del self._idle[key]
