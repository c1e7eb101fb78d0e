"""Several addresses behind one name: balancing, ejection and return."""

import asyncio
import contextlib
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from aggregator.proxy import health
from tests.unit.aggregator.endpoints_kit import (
    fronted,
    samples,
    serves,
    slow,
    unused_port,
)
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Backend,
    Client,
    answer,
    answering,
    client,
    on_uvloop,
    read_head,
    read_until_broken,
    request,
)


@on_uvloop
async def test_requests_are_spread_over_all_addresses(pki: PKI) -> None:
    async with (
        serves(pki, slow(0.02, b"a")) as one,
        serves(pki, slow(0.02, b"b")) as two,
        fronted(pki, [one.port, two.port]) as (front, _),
        contextlib.AsyncExitStack() as stack,
    ):
        callers = [await stack.enter_async_context(client(pki, front)) for _ in range(8)]

        async def work(caller: Client) -> Counter[bytes]:
            return Counter([(await caller.get()).body for _ in range(10)])

        total = sum(await asyncio.gather(*map(work, callers)), Counter())
        assert total.total() == 80
        assert 30 <= total[b"a"] <= 50
        assert samples(front, "aggregator_proxy_endpoints") == {("healthy",): 2, ("leaving",): 0, ("ejected",): 0}


@on_uvloop
async def test_requests_that_come_all_at_once_are_spread_too(pki: PKI) -> None:
    async with (
        serves(pki, slow(0.1, b"a")) as one,
        serves(pki, slow(0.1, b"b")) as two,
        fronted(pki, [one.port, two.port]) as (front, _),
        contextlib.AsyncExitStack() as stack,
    ):
        callers = [await stack.enter_async_context(client(pki, front)) for _ in range(10)]
        found = Counter([answered.body for answered in await asyncio.gather(*(caller.get() for caller in callers))])
        assert found == {b"a": 5, b"b": 5}


@on_uvloop
async def test_the_less_busy_address_is_preferred(pki: PKI) -> None:
    async with (
        serves(pki, slow(5)) as stuck,
        serves(pki, answering(answer(b"quick"))) as quick,
        fronted(pki, [stuck.port, quick.port]) as (front, caller),
        contextlib.AsyncExitStack() as stack,
    ):
        while stuck.connections == 0:
            waiting = await stack.enter_async_context(client(pki, front))
            await waiting.send(request("GET", "/apis/test/v1/things"))
            await asyncio.sleep(0.02)
        assert {(await caller.get()).body for _ in range(10)} == {b"quick"}


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@on_uvloop
async def test_a_refused_connection_goes_to_another_address_for_any_method(pki: PKI, method: str) -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            body = await reader.readexactly(5) if b"ontent-" in head else b""
            seen.append(head.split(b" ")[0] + body)
            writer.write(answer())

    dead = unused_port()
    async with serves(pki, handle) as alive, fronted(pki, [dead, alive.port]) as (front, caller):
        reported: list[str] = []
        front.plane.on_unreachable = reported.append
        for _ in range(4):
            more = ["Content-Length: 5"] if method == "POST" else []
            await caller.send(request(method, "/apis/test/v1/things/a", *more, body=b"hello" if more else b""))
            assert (await caller.response(method)).status == 200
        assert seen == [b"POSThello" if method == "POST" else method.encode()] * 4
        assert samples(front, "aggregator_proxy_endpoints")[("ejected",)] == 1
        assert samples(front, "aggregator_proxy_endpoint_ejections_total") == {(): 1}
        assert reported == []


@on_uvloop
async def test_an_upload_that_is_still_coming_in_survives_a_refused_connection(pki: PKI) -> None:
    got: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        got.append(await reader.readexactly(300_000))
        writer.write(answer())
        await read_until_broken(reader)

    async with serves(pki, handle) as alive, fronted(pki, [unused_port(), alive.port]) as (_, caller):
        body = bytes(range(250)) * 1200
        await caller.send(request("POST", "/apis/test/v1/things", f"Content-Length: {len(body)}") + body[:1000])
        await asyncio.sleep(0.05)
        await caller.send(body[1000:])
        assert (await caller.response("POST")).status == 200
        assert got == [body]


@on_uvloop
async def test_an_ejected_address_returns_by_a_trial_not_by_a_request(
    pki: PKI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FIRST_SECONDS", 0.2)
    port = unused_port()
    async with serves(pki, answering(answer(b"a"))) as one, fronted(pki, [one.port, port]) as (front, caller):
        while not samples(front, "aggregator_proxy_endpoints").get(("ejected",)):
            assert (await caller.get()).body == b"a"
        back = Backend(answering(answer(b"b")))
        server = await asyncio.start_server(back.serve, "127.0.0.1", port, ssl=pki.server_context("backend"))
        try:
            while samples(front, "aggregator_proxy_endpoints")[("ejected",)]:
                await asyncio.sleep(0.05)
            assert back.connections == 1
            assert {(await caller.get()).body for _ in range(6)} == {b"a", b"b"}
        finally:
            server.close()
            await back.stop()


@on_uvloop
async def test_nothing_left_is_a_503_that_names_the_last_address_and_is_reported(pki: PKI) -> None:
    ports = [unused_port(), unused_port()]
    async with fronted(pki, ports) as (front, caller):
        reported: list[str] = []
        front.plane.on_unreachable = reported.append
        for _ in range(3):
            found = await caller.get()
            assert found.status == 503
            assert found.body.startswith(b"error trying to reach service: dial tcp 127.0.0.1:")
            assert found.body.endswith(b": connect: connection refused\n")
        assert reported == ["v1.test"] * 3
        assert samples(front, "aggregator_proxy_upstream_connect_errors_total") == {(): 3}


@on_uvloop
async def test_the_loss_of_the_last_connection_is_reported_at_once(pki: PKI) -> None:
    async with serves(pki, answering(answer())) as served, fronted(pki, [served.port]) as (front, caller):
        reported: list[str] = []
        front.plane.pools.on_trouble = reported.append
        assert (await caller.get()).status == 200
        await served.stop()
        async with asyncio.timeout(1):
            while not reported:
                await asyncio.sleep(0.01)
        assert reported == ["v1.test"]


@on_uvloop
async def test_metrics_have_every_family_once(pki: PKI) -> None:
    registry = CollectorRegistry()
    async with serves(pki, answering(answer())) as served, fronted(pki, [served.port]) as (front, caller):
        registry.register(front.metrics)
        assert (await caller.get()).status == 200
        text = generate_latest(registry).decode()
    assert 'aggregator_proxy_endpoints{apiservice="v1.test",state="healthy"} 1.0' in text
    assert 'aggregator_proxy_retries_total{apiservice="v1.test",outcome="made"} 0.0' in text
    assert text.count("# TYPE aggregator_proxy_endpoints gauge") == 1
