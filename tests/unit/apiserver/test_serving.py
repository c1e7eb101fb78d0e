"""HTTP/1.1 over TCP and unix sockets, with and without TLS, on both event loops."""

import asyncio
import json
import os
import socket
import ssl
import stat
from pathlib import Path
from typing import cast

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from apiserver import http1, serving, tls
from tests.unit.apiserver.conftest import PKI, Serve
from tests.unit.apiserver.serving_kit import describe, echo, get, http2, refuse, target


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
