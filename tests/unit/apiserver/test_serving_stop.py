"""How a server ends: what is under way, what is idle, what never ends."""

import asyncio
import ssl

import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest

from apiserver import http1, serving
from tests.unit.apiserver.conftest import PKI, Serve
from tests.unit.apiserver.serving_kit import describe, echo, get, http2, plain, target


class TestStop:
    async def test_idle_connection_is_closed_at_once(self, serve: Serve) -> None:
        server = await serve(echo)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(2):
            await server.stop(grace_seconds=30)
        assert await reader.read() == b""
        writer.close()

    @pytest.mark.parametrize("handshake", ["over", "under way"])
    async def test_who_has_just_connected_may_ask_once(self, serve: Serve, pki: PKI, handshake: str) -> None:
        server = await serve(echo, tls_on=True)
        context = ssl.create_default_context(cafile=str(pki.ca_file))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        if handshake == "over":
            await writer.start_tls(context, server_hostname="localhost")
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(server.stop(grace_seconds=30))
        await asyncio.sleep(0.1)
        if handshake == "under way":
            await writer.start_tls(context, server_hostname="localhost")
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
        async with asyncio.timeout(5):
            answer = await reader.read()
            await stopping
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
        assert answer.endswith(b"hi")
        writer.close()

    @pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n"], ids=["nothing", "half a head"])
    async def test_who_has_connected_and_asks_nothing_holds_nobody_up(self, serve: Serve, sent: bytes) -> None:
        server = await serve(echo)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(3):
            await server.stop(grace_seconds=30)
        assert await reader.read() == b""
        writer.close()

    async def test_an_announced_end_tells_each_client_to_connect_anew(self, serve: Serve) -> None:
        server = await serve(describe)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        question = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        writer.write(question)
        assert b"connection: close" not in await reader.readuntil(b"}")
        server.connections.announce_end()
        writer.write(question)
        assert b"connection: close\r\n" in await reader.read()
        writer.close()
        # It still serves.
        assert (await get(http1.Target(host="127.0.0.1", port=server.port))).status == 200

    async def test_running_request_finishes_and_then_the_connection_closes(self, serve: Serve) -> None:
        running = asyncio.Event()

        async def slow(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
            running.set()
            await asyncio.sleep(0.1)
            await plain(send, b"done")

        server = await serve(slow)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await running.wait()
        async with asyncio.timeout(2):
            await server.stop(grace_seconds=30)
        assert (await reader.read()).endswith(b"done")
        writer.close()
        with pytest.raises(http1.ConnectError):
            await get(target(server))

    @pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
    async def test_endless_request_is_broken_off_after_the_grace_period(
        self, serve: Serve, pki: PKI, alpn: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        cancelled = asyncio.Event()

        async def endless(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"line\n", "more_body": True})
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        server = await serve(endless, tls_on=True)
        if alpn == "h2":
            async with http2(server, pki) as client:
                await client.ask("/")
                await client.until(h2.events.DataReceived)
                await self._stop(server, cancelled)
        else:
            where = target(server, ssl.create_default_context(cafile=str(pki.ca_file)))
            async with http1.stream_lines(where, "GET", "/", head_timeout=2) as stream:
                lines = stream.lines()
                assert await anext(lines) == b"line"
                await self._stop(server, cancelled)
                with pytest.raises(http1.ProtocolError):
                    await anext(lines)
        assert capfd.readouterr() == ("", "")

    async def _stop(self, server: serving.Server, cancelled: asyncio.Event) -> None:
        async with asyncio.timeout(2):
            await server.stop(grace_seconds=0.1)
        assert cancelled.is_set()

    async def test_client_that_never_reads_does_not_hold_the_stop(self, serve: Serve) -> None:
        async def flood(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

        server = await serve(flood)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.1)
        async with asyncio.timeout(2):
            await server.stop(grace_seconds=0.05)
        writer.transport.abort()
