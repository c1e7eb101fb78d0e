"""What the controllers need from the outside: a cache of objects and a way to ask an aggregated server."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from aggregator.upstream.backend import Backend
from aggregator.upstream.tls import UpstreamTLSError
from apimachinery.types import Object
from apiserver.http1 import HTTPClientError, Response

ChangeHandler = Callable[[Object | None, Object | None], None]
"""Told of each change with the old and the new object; None stands for `was not there` and `is gone`."""

AGGREGATOR_USER: Final = (("X-Remote-User", "system:kube-aggregator"), ("X-Remote-Group", "system:masters"))
"""The identity with which this server itself asks an aggregated server."""


class Cache(Protocol):
    """The part of an informer that controllers read; objects in it are shared and must not be changed."""

    synced: asyncio.Event

    def add_handler(self, handler: ChangeHandler, /) -> None: ...

    def get(self, namespace: str, name: str, /) -> Object | None: ...

    def list(self) -> Sequence[Object]: ...


class Fetch(Protocol):
    """One GET of an aggregated server, verified as its APIService says; redirects are not followed.

    `timeout` in seconds covers everything from the name lookup to the last byte; `max_body` is in bytes.
    Raises one of FETCH_ERRORS when no complete, bounded answer arrived.
    """

    async def __call__(
        self, backend: Backend, path: str, *, headers: Sequence[tuple[str, str]], timeout: float, max_body: int
    ) -> Response: ...


class AskStatus(Protocol):
    """The status code of an answer to a GET, whose body is not read. `timeout` in seconds ends with the response head.

    Raises one of FETCH_ERRORS when no answer arrived.
    """

    async def __call__(
        self, backend: Backend, path: str, *, headers: Sequence[tuple[str, str]], timeout: float
    ) -> int: ...


FAULT_LENGTH: Final = 1000
"""Characters of a fault that a log line gets; a server may have had a hand in the rest."""
FETCH_ERRORS: Final = (HTTPClientError, UpstreamTLSError, OSError)
"""Everything that asking an aggregated server can fail with."""
