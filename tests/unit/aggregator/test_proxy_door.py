"""Limits of connections: who is too many is closed, everybody else is served, and places are given back."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator

import pytest

from aggregator.proxy.addresses import Addresses
from aggregator.proxy.limits import Limits
from aggregator.proxy.server import Proxy
from tests.unit.aggregator.http2_kit import GET, PREFACE, RawClient, connected, head, setting
from tests.unit.aggregator.proxy_kit import PKI, Client, answer, answering, apiservice, backend, on_uvloop, proxy


@contextlib.asynccontextmanager
async def _served(pki: PKI, limits: Limits) -> AsyncIterator[Proxy]:
    async with (
        backend(answering(answer()), pki.server_context("backend")) as behind,
        proxy(pki, [apiservice(behind.port, pki.ca.pem)], limits=limits) as front,
    ):
        yield front


@contextlib.asynccontextmanager
async def _client(pki: PKI, front: Proxy, address: str = "127.0.0.1") -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        front.port,
        ssl=pki.client_context(),
        server_hostname="localhost",
        local_addr=(address, 0),
    )
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def _is_served(client: Client) -> bool:
    return (await client.get()).status == 200


async def _is_refused(pki: PKI, front: Proxy, address: str = "127.0.0.1") -> bool:
    async with _client(pki, front, address) as client:
        return await client.closed()


async def _http2_is_served(client: RawClient) -> bool:
    client.send(PREFACE, setting(), head(1, *GET))
    return await client.status(1) == "200"


async def _count(front: Proxy, wanted: int) -> None:
    while len(front.plane.connections) != wanted:
        await asyncio.sleep(0.01)


def _refusals(front: Proxy) -> dict[str, float]:
    return {
        sample.labels["reason"]: sample.value
        for family in front.metrics.collect()
        for sample in family.samples
        if sample.name == "aggregator_proxy_refused_connections_total"
    }


@on_uvloop
async def test_one_connection_too_many_is_closed_and_its_place_is_given_back(pki: PKI) -> None:
    async with _served(pki, Limits(connections=2)) as front, _client(pki, front) as first:
        async with _client(pki, front) as second:
            assert await _is_served(first)
            assert await _is_served(second)
            assert await _is_refused(pki, front)
            assert _refusals(front) == {"total": 1, "address": 0}
            assert await _is_served(first)
            assert await _is_served(second)
        await _count(front, 1)
        async with _client(pki, front) as third:
            assert await _is_served(third)


@on_uvloop
async def test_addresses_do_not_take_places_of_each_other(pki: PKI) -> None:
    async with (
        _served(pki, Limits(address_connections=1)) as front,
        _client(pki, front, "127.0.0.2") as other,
    ):
        async with _client(pki, front) as first:
            assert await _is_served(first)
            assert await _is_refused(pki, front)
            assert await _is_refused(pki, front, "127.0.0.2")
            assert _refusals(front) == {"total": 0, "address": 2}
            assert await _is_served(first)
            assert await _is_served(other)
        await _count(front, 1)
        async with _client(pki, front) as again:
            assert await _is_served(again)


@pytest.mark.parametrize("limits", [Limits(connections=1), Limits(address_connections=1)], ids=["total", "address"])
@on_uvloop
async def test_connections_of_http2_count_as_well(pki: PKI, limits: Limits) -> None:
    async with _served(pki, limits) as front:
        async with connected(pki, front) as first:
            assert await _http2_is_served(first)
            assert await _is_refused(pki, front)
            async with connected(pki, front) as second:
                await second.read()
                assert second.closed
        await _count(front, 0)
        async with _client(pki, front) as third:
            assert await _is_served(third)


@on_uvloop
async def test_no_limit(pki: PKI) -> None:
    async with _served(pki, Limits(connections=0)) as front, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(_client(pki, front)) for _ in range(5)]
        assert [await _is_served(client) for client in clients] == [True] * 5


@pytest.mark.parametrize(
    "first_bytes",
    [
        pytest.param(b"", id="silent"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no TLS"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", id="half a hello"),
    ],
)
@pytest.mark.parametrize("hangs_up", [True, False], ids=["hangs up", "stays"])
@on_uvloop
async def test_handshakes_that_come_to_nothing_take_places_only_while_they_last(
    pki: PKI, first_bytes: bytes, hangs_up: bool
) -> None:
    count = 200
    gc.disable()
    try:
        async with _served(pki, Limits(connections=count, handshake_seconds=1.0)) as front:
            loop = asyncio.get_running_loop()
            with contextlib.ExitStack() as stack:
                for _ in range(count):
                    half = stack.enter_context(socket.socket())
                    half.setblocking(False)
                    await loop.sock_connect(half, ("127.0.0.1", front.port))
                    if first_bytes:
                        await loop.sock_sendall(half, first_bytes)
                if not first_bytes and not hangs_up:
                    while front.door.arriving < count:
                        await asyncio.sleep(0.01)
                    assert await _is_refused(pki, front)
                if hangs_up:
                    stack.close()
                # All are accepted by now, and dropped again where that needs no timeout.
                await asyncio.sleep(0.1)
                while front.door.arriving:
                    await asyncio.sleep(0.01)
                async with _client(pki, front) as client:
                    assert await _is_served(client)
    finally:
        gc.enable()


def test_addresses_without_connections_are_forgotten() -> None:
    addresses = Addresses(2)
    connections = [object() for _ in range(3)]
    assert [addresses.take(connection, "a") for connection in connections] == [True, True, False]
    for connection in connections:
        addresses.leave(connection)
        addresses.leave(connection)
    assert (addresses._counts, addresses._addresses) == ({}, {})
