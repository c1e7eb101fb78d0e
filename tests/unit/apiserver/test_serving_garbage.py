"""What a connection leaves behind: nothing that only the garbage collector finds. A server that has little to do makes
full collections so seldom that hundreds of closed connections, TLS sessions included, wait for one."""

import asyncio
import gc
import ssl

import pytest

from apiserver import serving
from tests.unit.apiserver.conftest import PKI, Serve
from tests.unit.apiserver.serving_kit import echo

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def _app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
    """Serves bodies back, and one path for as long as the client is there."""
    if scope["path"] == "/fails":
        raise ValueError("on purpose")
    if scope["path"] != "/watch":
        await echo(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        pytest.param(GET, b"HTTP/1.1 200", id="kept alive"),
        pytest.param(GET + GET, b"HTTP/1.1 200", id="pipelined"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.1 200", id="closed after the answer"),
        pytest.param(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200", id="watch"),
        pytest.param(b"GET /fails HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 500", id="failed"),
        pytest.param(b"nonsense\r\n\r\n", b"HTTP/1.1 400", id="malformed"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", b"", id="half a body"),
        pytest.param(b"GET / HTTP", b"", id="half a head"),
        pytest.param(b"", b"", id="nothing"),
    ],
)
async def test_connections_go_without_the_collector(serve: Serve, pki: PKI, sent: bytes, answer: bytes) -> None:
    server = await serve(_app, tls_on=True)
    context = ssl.create_default_context(cafile=str(pki.ca_file))

    async def visit() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        writer.write(sent)
        if answer:
            assert (await reader.readline()).startswith(answer)
        await asyncio.sleep(0.02)
        writer.transport.abort()
        async with asyncio.timeout(5):
            while len(server.connections):
                await asyncio.sleep(0.01)

    await visit()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(3):
            await visit()
        await asyncio.sleep(0.05)
        gc.collect()
        left = [item for item in gc.garbage if type(item).__module__.startswith("apiserver.")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []
