import asyncio
import json
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from apiserver import http1, serving, tls
from tests.unit.apiserver.conftest import PKI, Serve


async def plain(send: serving.Send, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: serving.Receive) -> bytes:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    return body


async def describe(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
    state = scope["state"]
    seen = {
        "version": scope["http_version"],
        "scheme": scope["scheme"],
        "certificate": (state["peer_certificate"] or b"").hex(),
        "leftover": state.get("leftover"),
    }
    state["leftover"] = "mine"
    await plain(send, json.dumps(seen).encode())


async def echo(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
    await plain(send, await read_body(receive))


async def refuse(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
    """Answers without reading the body."""
    await plain(send, b"too large", 413)


def target(server: serving.Server, context: ssl.SSLContext | None = None) -> http1.Target:
    return http1.Target(host="127.0.0.1", port=server.port, ssl=context)


async def get(where: http1.Target, path: str = "/", **options: Any) -> http1.Response:
    return await http1.request(where, "GET", path, timeout=5, max_body=1 << 20, **options)


async def test_plain_request_has_no_certificate_and_no_server_header(serve: Serve) -> None:
    server = await serve(describe)
    response = await get(target(server))
    assert json.loads(response.body) == {"version": "1.1", "scheme": "http", "certificate": "", "leftover": None}
    assert response.header("server", "absent") == "absent"


@pytest.mark.parametrize("presented", ["client", "none"])
async def test_tls_state_carries_the_client_certificate(serve: Serve, pki: PKI, presented: str) -> None:
    server = await serve(describe, tls_on=True)
    context = ssl.create_default_context(cafile=str(pki.ca_file))
    if presented == "client":
        context = pki.client.client_context(pki.ca_file, pki.directory)
    seen = json.loads((await get(target(server, context))).body)
    assert seen["certificate"] == (pki.client.der.hex() if presented == "client" else "")
    assert seen["scheme"] == "https"


async def test_a_certificate_of_a_stranger_is_handed_over_to_be_judged(serve: Serve, pki: PKI) -> None:
    server = await serve(describe, tls_on=True)
    context = pki.stranger.client_context(pki.ca_file, pki.directory)
    assert json.loads((await get(target(server, context))).body)["certificate"] == pki.stranger.der.hex()


async def test_request_state_is_not_shared_between_requests_of_a_connection(serve: Serve) -> None:
    server = await serve(describe)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for _ in range(2):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert json.loads(await reader.readexactly(length))["leftover"] is None
    writer.close()


async def test_starlette_sees_the_certificate_in_request_state(serve: Serve, pki: PKI) -> None:
    async def endpoint(request: Request) -> JSONResponse:
        return JSONResponse({"length": len(request.state.peer_certificate)})

    app = Starlette(routes=[Route("/", endpoint)])
    server = await serve(app, tls_on=True)
    response = await get(target(server, pki.client.client_context(pki.ca_file, pki.directory)))
    assert json.loads(response.body) == {"length": len(pki.client.der)}


async def test_upload_is_received_whole(serve: Serve) -> None:
    server = await serve(echo)
    body = os.urandom(3 * 1024 * 1024)
    response = await http1.request(target(server), "POST", "/", body=body, timeout=10, max_body=len(body))
    assert response.body == body


async def test_early_answer_reaches_a_client_that_sends_on_and_keeps_the_connection(serve: Serve) -> None:
    server = await serve(refuse)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for _ in range(2):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
        for _ in range(300):
            writer.write(b"x" * 10_000)
            await writer.drain()
        async with asyncio.timeout(5):
            assert b" 413 " in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(9) == b"too large"
    writer.close()


async def test_endless_unwanted_body_ends_the_connection(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apiserver.http1_connection._MAX_DISCARDED", 100_000)
    server = await serve(refuse)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\n")

    async def flood() -> None:
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()
            await asyncio.sleep(0)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(flood(), 5)
    writer.transport.abort()
    await asyncio.sleep(0.05)
    assert len(server.connections) == 0


async def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    server = await serve(echo)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    requests = [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d" % n for n in range(5)]
    writer.write(b"".join(requests))
    async with asyncio.timeout(5):
        for number in range(5):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(1) == b"%d" % number
    writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"nonsense\r\n\r\n", id="malformed"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 1_100_000, id="endless head"),
    ],
)
async def test_bad_request_is_answered_and_closed(serve: Serve, request_bytes: bytes) -> None:
    server = await serve(echo)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request_bytes)
    async with asyncio.timeout(5):
        assert b" 4" in (await reader.read()).split(b"\r\n")[0]
    writer.close()


async def test_cleartext_http2_upgrade_is_ignored(serve: Serve) -> None:
    server = await serve(describe)
    headers = [("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")]
    response = await get(target(server), headers=headers)
    assert json.loads(response.body)["version"] == "1.1"


@pytest.mark.parametrize("error", [serving.AbortResponse(), RuntimeError("boom")], ids=["abort", "crash"])
async def test_broken_off_answer_is_no_complete_answer(serve: Serve, error: Exception) -> None:
    async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise error

    server = await serve(app)
    with pytest.raises(http1.ProtocolError, match="before the response was complete"):
        await get(target(server))


async def test_crash_before_the_answer_is_500(serve: Serve) -> None:
    async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
        raise RuntimeError("boom")

    assert (await get(target(await serve(app)))).status == 500


async def test_client_that_leaves_disconnects_the_application(serve: Serve) -> None:
    left = asyncio.Event()

    async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    server = await serve(app)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(0.02)
    writer.close()
    async with asyncio.timeout(2):
        await left.wait()


class TestUnixSocket:
    async def test_mode_requests_and_removal(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "api.sock"
        server = await serve(describe, unix_path=path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert server.addresses == (str(path),)
        assert (await get(http1.Target(unix_path=path))).status == 200
        await server.stop()
        assert not path.exists()

    async def test_stale_socket_is_replaced(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "api.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        await serve(describe, unix_path=path)
        assert (await get(http1.Target(unix_path=path))).status == 200

    async def test_served_socket_is_left_alone(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "api.sock"
        await serve(describe, unix_path=path)
        with pytest.raises(serving.ListenError, match=r"api\.sock: another process serves it"):
            await serve(describe, unix_path=path)
        assert (await get(http1.Target(unix_path=path))).status == 200

    async def test_other_file_is_left_alone(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "api.sock"
        path.write_text("precious")
        with pytest.raises(serving.ListenError, match="is no socket"):
            await serve(describe, unix_path=path)
        assert path.read_text() == "precious"


async def test_port_in_use_is_a_clear_error(serve: Serve) -> None:
    server = await serve(describe)
    with pytest.raises(serving.ListenError, match=f"cannot listen on 127.0.0.1:{server.port}: address already in use"):
        await serve(describe, port=server.port)


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


class HTTP2Client:
    """Just enough of an HTTP/2 client: the h2 engine on a stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.engine = h2.connection.H2Connection()
        self.engine.initiate_connection()
        self.seen: list[h2.events.Event] = []
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.engine.data_to_send())

    async def ask(self, path: str, *, method: str = "GET", end: bool = True) -> int:
        stream_id = self.engine.get_next_available_stream_id()
        headers = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "localhost")]
        self.engine.send_headers(stream_id, headers, end_stream=end)
        self.flush()
        return stream_id

    async def upload(self, stream_id: int, size: int) -> None:
        """Send a body within the flow control windows, waiting for them to open."""
        while size:
            window = min(self.engine.local_flow_control_window(stream_id), 16_384, size)
            if window == 0:
                await self._read()
                continue
            self.engine.send_data(stream_id, b"x" * window, end_stream=window == size)
            size -= window
            self.flush()
            await self.writer.drain()

    async def until(self, kind: type[h2.events.Event], stream_id: int | None = None) -> Any:
        async with asyncio.timeout(5):
            while True:
                for event in self.seen:
                    if isinstance(event, kind) and (stream_id is None or getattr(event, "stream_id", 0) == stream_id):
                        return event
                await self._read()

    async def body(self, stream_id: int) -> bytes:
        await self.until(h2.events.StreamEnded, stream_id)
        data = [e.data for e in self.seen if isinstance(e, h2.events.DataReceived) and e.stream_id == stream_id]
        return b"".join(part or b"" for part in data)

    async def _read(self) -> None:
        async with asyncio.timeout(5):
            data = await self.reader.read(65536)
        assert data, "connection closed"
        for event in self.engine.receive_data(data):
            self.seen.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.engine.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        self.flush()


@asynccontextmanager
async def http2(server: serving.Server, pki: PKI) -> AsyncIterator[HTTP2Client]:
    context = pki.client.client_context(pki.ca_file, pki.directory, ["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    try:
        yield HTTP2Client(reader, writer)
    finally:
        writer.transport.abort()


class TestHTTP2:
    async def test_state_carries_the_client_certificate(self, serve: Serve, pki: PKI) -> None:
        server = await serve(describe, tls_on=True)
        async with http2(server, pki) as client:
            for _ in range(2):
                seen = json.loads(await client.body(await client.ask("/")))
                assert (seen["version"], seen["certificate"], seen["leftover"]) == ("2", pki.client.der.hex(), None)

    async def test_client_may_open_a_thousand_streams(self, serve: Serve, pki: PKI) -> None:
        server = await serve(describe, tls_on=True)
        async with http2(server, pki) as client:
            await client.until(h2.events.RemoteSettingsChanged)
            assert client.engine.remote_settings.max_concurrent_streams == 1000

    async def test_upload_is_received_whole(self, serve: Serve, pki: PKI) -> None:
        server = await serve(echo, tls_on=True)
        async with http2(server, pki) as client:
            stream_id = await client.ask("/", method="POST", end=False)
            await client.upload(stream_id, 500_000)
            assert len(await client.body(stream_id)) == 500_000

    async def test_early_answer_does_not_hurt_the_connection(self, serve: Serve, pki: PKI) -> None:
        server = await serve(refuse, tls_on=True)
        async with http2(server, pki) as client:
            for _ in range(3):
                stream_id = await client.ask("/", method="POST", end=False)
                response = await client.until(h2.events.ResponseReceived, stream_id)
                assert dict(response.headers)[b":status"] == b"413"
                await client.upload(stream_id, 100_000)
            assert await client.body(await client.ask("/")) == b"too large"

    async def test_application_that_does_not_read_stalls_no_other_stream(self, serve: Serve, pki: PKI) -> None:
        release = asyncio.Event()

        async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
            if scope["path"] == "/slow":
                await release.wait()
            await plain(send, b"%d" % len(await read_body(receive)))

        server = await serve(app, tls_on=True)
        async with http2(server, pki) as client:
            slow = await client.ask("/slow", method="POST", end=False)
            for _ in range(60):
                client.engine.send_data(slow, b"x" * 1000)
            client.flush()
            assert await client.body(await client.ask("/")) == b"0"
            release.set()
            await client.upload(slow, 100_000)
            assert await client.body(slow) == b"160000"

    @pytest.mark.parametrize("error", [serving.AbortResponse(), RuntimeError("boom")], ids=["abort", "crash"])
    async def test_broken_off_answer_resets_its_stream_only(self, serve: Serve, pki: PKI, error: Exception) -> None:
        async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
            if scope["path"] == "/fine":
                await plain(send, b"fine")
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise error

        server = await serve(app, tls_on=True)
        async with http2(server, pki) as client:
            broken = await client.ask("/")
            reset = await client.until(h2.events.StreamReset, broken)
            assert reset.error_code == h2.errors.ErrorCodes.INTERNAL_ERROR
            assert await client.body(await client.ask("/fine")) == b"fine"

    @pytest.mark.parametrize("listens", [True, False], ids=["listening", "sending"])
    async def test_cancelled_stream_ends_its_application(self, serve: Serve, pki: PKI, listens: bool) -> None:
        ended = asyncio.Event()

        async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            try:
                while listens and (await receive())["type"] != "http.disconnect":
                    pass
                while not listens:
                    await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            finally:
                ended.set()

        server = await serve(app, tls_on=True)
        async with http2(server, pki) as client:
            stream_id = await client.ask("/")
            await client.until(h2.events.DataReceived, stream_id)
            assert not ended.is_set()
            client.engine.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
            client.flush()
            async with asyncio.timeout(2):
                await ended.wait()

    async def test_lost_connection_frees_an_application_that_waits_for_room(self, serve: Serve, pki: PKI) -> None:
        sent = 0

        async def flood(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
            nonlocal sent
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                sent += 1
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

        server = await serve(flood, tls_on=True)
        async with http2(server, pki) as client:
            await client.ask("/")
            await asyncio.sleep(0.1)
            assert 0 < sent < 100  # held back by the windows of the client
        async with asyncio.timeout(2):
            while len(server.connections):
                await asyncio.sleep(0.01)
        assert sent > 100

    async def test_stop_says_goodbye_and_refuses_new_streams_retryably(self, serve: Serve, pki: PKI) -> None:
        release = asyncio.Event()

        async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
            await release.wait()
            await plain(send, b"done")

        server = await serve(app, tls_on=True)
        async with http2(server, pki) as client:
            first = await client.ask("/")
            await asyncio.sleep(0.05)
            stopping = asyncio.create_task(server.stop(grace_seconds=30), name="stop")
            await asyncio.sleep(0.02)
            refused = await client.until(h2.events.StreamReset, await client.ask("/"))
            assert refused.error_code == h2.errors.ErrorCodes.REFUSED_STREAM
            release.set()
            assert await client.body(first) == b"done"
            await client.until(h2.events.ConnectionTerminated)
            async with asyncio.timeout(2):
                await stopping

    async def test_a_response_that_ends_while_stopping_ends_visibly(self, serve: Serve, pki: PKI) -> None:
        """Its last bytes have gone before, so that nothing but the end of the stream is left to send."""
        release = asyncio.Event()

        async def app(scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"all", "more_body": True})
            await release.wait()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        server = await serve(app, tls_on=True)
        async with http2(server, pki) as client:
            stream = await client.ask("/")
            await client.until(h2.events.DataReceived, stream)
            stopping = asyncio.create_task(server.stop(grace_seconds=30), name="stop")
            await asyncio.sleep(0.02)
            release.set()
            await client.until(h2.events.StreamEnded, stream)
            await client.until(h2.events.ConnectionTerminated)
            async with asyncio.timeout(2):
                await stopping


class Front(asyncio.Protocol):
    """Accepts TLS itself and hands a connection over: HTTP/2 unread, HTTP/1.1 with its first bytes."""

    def __init__(self, connections: serving.Connections) -> None:
        self.connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            self.connections.adopt(self.transport)

    def data_received(self, data: bytes) -> None:
        self.connections.adopt(self.transport, data)


async def adopted_versions(pki: PKI) -> list[str]:
    connections = serving.Connections(describe)
    context = tls.server_context(*pki.server_files, [pki.ca_file])
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Front(connections), "127.0.0.1", 0, ssl=context)
    server = serving.Server(listener, connections, None)
    async with http2(server, pki) as client:
        seen = [json.loads(await client.body(await client.ask("/")))]
    seen.append(json.loads((await get(target(server, pki.client.client_context(pki.ca_file, pki.directory)))).body))
    async with asyncio.timeout(2):
        await server.stop(grace_seconds=1)
    assert {entry["certificate"] for entry in seen} == {pki.client.der.hex()}
    return [entry["version"] for entry in seen]


async def test_connections_accepted_elsewhere_are_served(pki: PKI) -> None:
    assert await adopted_versions(pki) == ["2", "1.1"]


def test_connections_accepted_elsewhere_are_served_on_uvloop(pki: PKI) -> None:
    assert uvloop.run(adopted_versions(pki)) == ["2", "1.1"]


def test_uvloop_serves_and_stops(pki: PKI, tmp_path: Path) -> None:
    async def scenario() -> None:
        context = tls.server_context(*pki.server_files, [pki.ca_file])
        secure = await serving.serve(describe, ssl_context=context)
        local = await serving.serve(echo, unix_path=tmp_path / "api.sock")
        client = pki.client.client_context(pki.ca_file, pki.directory)
        assert json.loads((await get(target(secure, client))).body)["certificate"] == pki.client.der.hex()
        unix = http1.Target(unix_path=tmp_path / "api.sock")
        answer = await http1.request(unix, "PUT", "/", body=b"x" * 200_000, timeout=5, max_body=200_000)
        assert len(answer.body) == 200_000
        async with asyncio.timeout(2):
            await secure.stop(1)
            await local.stop(1)
        assert not (tmp_path / "api.sock").exists()

    uvloop.run(scenario())
