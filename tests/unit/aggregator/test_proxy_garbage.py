"""What a connection leaves behind: nothing that only the garbage collector finds, since it would stop all others."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from aggregator.proxy.server import Proxy
from tests.unit.aggregator import http2_kit as h2
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Handler,
    answer,
    answering,
    apiservice,
    backend,
    client,
    on_uvloop,
    proxy,
    read_head,
    request,
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    directory: Path = tmp_path_factory.mktemp("pki")
    return PKI.make(directory)


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)
    await reader.read()


async def _switching(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    await reader.read()


async def _get(pki: PKI, front: Proxy) -> None:
    async with client(pki, front) as caller:
        assert (await caller.get()).status == 200


async def _leave(pki: PKI, front: Proxy) -> None:
    async with client(pki, front) as caller:
        await caller.send(request("GET", "/apis/test/v1/things"))
        await asyncio.sleep(0.1)


async def _upgrade(pki: PKI, front: Proxy) -> None:
    async with client(pki, front) as caller:
        await caller.send(request("GET", "/apis/test/v1/things", "Connection: Upgrade", "Upgrade: websocket"))
        assert (await caller.reader.read(4000)).startswith(b"HTTP/1.1 101")


async def _get_http2(pki: PKI, front: Proxy) -> None:
    async with h2.connected(pki, front) as caller:
        caller.send(h2.PREFACE, h2.setting(), h2.head(1, *h2.GET))
        assert await caller.status(1) == "200"


async def _leave_http2(pki: PKI, front: Proxy) -> None:
    async with h2.connected(pki, front) as caller:
        caller.send(h2.PREFACE, h2.setting(), h2.head(1, *h2.GET))
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("handler", "visit"),
    [
        pytest.param(answering(answer(b"ok", "Connection: close")), _get, id="backend closes"),
        pytest.param(answering(answer()), _get, id="kept"),
        pytest.param(_silent, _leave, id="client leaves"),
        pytest.param(_switching, _upgrade, id="tunnel"),
        pytest.param(answering(answer(b"ok", "Connection: close")), _get_http2, id="http2"),
        pytest.param(_silent, _leave_http2, id="http2, client leaves"),
    ],
)
@on_uvloop
async def test_connections_go_without_the_collector(
    pki: PKI, handler: Handler, visit: Callable[[PKI, Proxy], Awaitable[None]]
) -> None:
    async with (
        backend(handler, pki.server_context("backend")) as behind,
        proxy(pki, [apiservice(behind.port, pki.ca.pem)]) as front,
    ):
        await visit(pki, front)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(3):
                await visit(pki, front)
            await asyncio.sleep(0.1)
            gc.collect()
            left = [item for item in gc.garbage if type(item).__module__.startswith("aggregator.")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert left == []
