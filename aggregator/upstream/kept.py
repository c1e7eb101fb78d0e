"""GETs to backends over connections that are kept for a while: what asks every server every minute should be cheap.

A handshake costs five times as much as a small request.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import TypeVar

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
_SILENCE_SECONDS = 1.0
_Key = tuple[str, int, str, SSLContext]
T = TypeVar("T")
_Ask = Callable[[KeptConnection, float], Awaitable[T]]
"""Asks on a connection, within so many seconds."""


@dataclass(frozen=True, slots=True)
class _Idle:
    connection: KeptConnection
    opened: float
    since: float


class KeptConnections:
    """A Fetch, and with `status` an AskStatus. Connections are never shared between backends that are verified
    differently.

    `run` closes what is idle for too long, and everything when it is cancelled. No connection is used for longer than
    `oldest` seconds.
    """

    def __init__(
        self, tls: UpstreamTLS, *, oldest: float = OLDEST_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._tls = tls
        self._oldest = oldest
        self._monotonic = monotonic
        self._idle: dict[_Key, list[_Idle]] = {}

    async def __call__(
        self, backend: Backend, path: str, *, headers: Sequence[tuple[str, str]], timeout: float, max_body: int
    ) -> Response:
        """GET `path` within `timeout` seconds, of which each of several addresses has an equal share."""

        def ask(connection: KeptConnection, rest: float) -> Awaitable[Response]:
            return connection.request("GET", path, headers, timeout=rest, max_body=max_body)

        *others, last = backend.alternatives()
        share = timeout / (len(others) + 1)
        for one in others:
            with contextlib.suppress(HTTPClientError):
                return await self._get(one, ask, share, share)
        return await self._get(last, ask, share, share)

    async def status(self, backend: Backend, path: str, *, headers: Sequence[tuple[str, str]], timeout: float) -> int:
        """The status code of an answer to a GET, whose body is left alone.

        A kept connection may lead to a server that is not there any more without a word: when it stays silent for a
        second, a new one has to tell.
        """
        return await self._get(
            backend,
            lambda connection, rest: connection.status(path, headers, timeout=rest),
            timeout,
            min(timeout / 2, _SILENCE_SECONDS),
        )

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

    async def _get(self, backend: Backend, ask: _Ask[T], timeout: float, patience: float) -> T:
        """Ask on a kept connection, if there is one, for at most `patience` seconds; else, or then, on a new one."""
        context = self._tls.context(backend)
        key = (backend.host, backend.port, backend.server_name, context)
        deadline = self._monotonic() + timeout
        idle = self._take(key)
        if idle is not None:
            try:
                return await self._on(idle.connection, idle.opened, key, ask, patience)
            except (http1.ProtocolError, http1.TLSError):
                # The server hung up just then; a GET may be repeated.
                pass
            except http1.RequestTimeout:
                if patience >= timeout:
                    raise
        target = await reach.target(backend, self._tls, timeout=max(0.0, deadline - self._monotonic()))
        connection = await KeptConnection.open(target, timeout=max(0.0, deadline - self._monotonic()))
        rest = max(0.0, deadline - self._monotonic())
        return await self._on(connection, self._monotonic(), key, ask, rest)

    async def _on(self, connection: KeptConnection, opened: float, key: _Key, ask: _Ask[T], timeout: float) -> T:
        kept = False
        try:
            answer = await ask(connection, timeout)
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

    def _usable(self, idle: _Idle, now: float) -> bool:
        fresh = now - idle.since < IDLE_SECONDS and now - idle.opened < self._oldest
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
