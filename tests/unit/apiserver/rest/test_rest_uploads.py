"""Uploads that break off, over the real HTTP server."""

import asyncio

import pytest

from apiserver import serving
from tests.unit.apiserver.rest.conftest import Server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"


async def test_an_upload_that_breaks_off_is_no_failure_of_the_server(
    server: Server, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    listening = await serving.serve(server.call.app)
    _, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    head = f"POST {WIDGETS} HTTP/1.1\r\nHost: x\r\nX-Remote-User: a\r\nX-Remote-Group: system:masters\r\n"
    writer.write(f'{head}Content-Length: 100\r\n\r\n{{"metadata":'.encode())
    await writer.drain()
    await asyncio.sleep(0.05)
    assert len(listening.connections) == 1
    writer.close()
    async with asyncio.timeout(2):
        while len(listening.connections):
            await asyncio.sleep(0.01)
    await listening.stop()
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
