"""A backend, the proxy before it and a client of both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aggregator.proxy.server import Proxy
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Backend,
    Client,
    Handler,
    apiservice,
    backend,
    client,
    proxy,
)


@asynccontextmanager
async def stack(pki: PKI, handler: Handler) -> AsyncIterator[tuple[Backend, Proxy, Client]]:
    async with (
        backend(handler, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        yield served, front, caller


async def read_chunked(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """(body, trailer lines) of a chunked message."""
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    trailers = b""
    while (line := await reader.readline()) != b"\r\n":
        trailers += line
    return body, trailers
