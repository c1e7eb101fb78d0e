"""HTTP/2 through Hypercorn."""

import asyncio
import json

import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest

from apiserver import serving
from tests.unit.apiserver.conftest import PKI, Serve
from tests.unit.apiserver.serving_kit import describe, echo, http2, plain, read_body, refuse


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
