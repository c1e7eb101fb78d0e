"""Names that are looked up: changes, failures, addresses that do not answer."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest

from aggregator.proxy import balancer, resolver
from aggregator.proxy.limits import Limits
from tests.unit.aggregator.endpoints_kit import (
    Names,
    named,
    samples,
    serves,
    unused_port,
)
from tests.unit.aggregator.fault_callers import PROTOCOLS, Outcome, calling
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    answering,
    client,
    on_uvloop,
    request,
)

THINGS = "/apis/test/v1/things"
over_both = pytest.mark.parametrize("protocol", PROTOCOLS)


@on_uvloop
async def test_an_address_that_swallows_packets_costs_a_moment_once(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    async with (
        serves(pki, answering(answer())) as alive,
        silent_listener() as hole,
        named(pki, names, hole, ("127.0.0.1", alive.port)) as (front, caller),
    ):
        begin = time.monotonic()
        for _ in range(4):
            await caller.send(request("POST", "/apis/test/v1/things", "Content-Length: 0"))
            assert (await caller.response("POST")).status == 200
            await asyncio.sleep(0.12)
        assert time.monotonic() - begin < 2
        while not samples(front, "aggregator_proxy_endpoints")[("ejected",)]:
            await asyncio.sleep(0.05)
        begin = time.monotonic()
        assert (await caller.get()).status == 200
        assert time.monotonic() - begin < 0.1


@contextlib.asynccontextmanager
async def silent_listener() -> AsyncIterator[tuple[str, int]]:
    """An address where connections are neither made nor refused: its backlog is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address: tuple[str, int] = server.getsockname()
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(address)
        await asyncio.sleep(0.05)
        yield address


@over_both
@on_uvloop
async def test_a_name_that_moves_is_followed(pki: PKI, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    monkeypatch.setattr(balancer, "_LOOKUP_PAUSE_SECONDS", 0.05)
    names = Names(monkeypatch)
    async with (
        serves(pki, answering(answer(b"old"))) as old,
        serves(pki, answering(answer(b"new"))) as new,
        named(pki, names, ("127.0.0.1", old.port)) as (front, _),
        calling(pki, front, protocol) as caller,
    ):
        assert (await caller.ask("GET", THINGS)).body == b"old"
        names.addresses["example"] = [("127.0.0.1", new.port)]
        async with asyncio.timeout(3):
            while (await caller.ask("GET", THINGS)).body != b"new":
                await asyncio.sleep(0.02)
            while old.closed == 0:
                await asyncio.sleep(0.02)
        # A name that is taken away leaves what is connected.
        del names.addresses["example"]
        before = names.lookups
        while names.lookups < before + 2:
            await asyncio.sleep(0.05)
        assert (await caller.ask("GET", THINGS)).body == b"new"
        assert front.plane.pools.connection_count() == 1


@on_uvloop
async def test_a_failure_looks_the_name_up_at_once(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancer, "_LOOKUP_PAUSE_SECONDS", 0.0)
    names = Names(monkeypatch)
    async with serves(pki, answering(answer(b"new"))) as new:
        limits = Limits(resolve_seconds=3600)
        async with named(pki, names, ("127.0.0.1", unused_port()), limits=limits) as (_, caller):
            assert (await caller.get()).status == 503
            names.addresses["example"] = [("127.0.0.1", new.port)]
            assert (await caller.get()).body == b"new"


@on_uvloop
async def test_a_name_that_is_gone_ends_the_wait_for_its_last_address(
    pki: PKI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancer, "_LOOKUP_PAUSE_SECONDS", 0.05)
    names = Names(monkeypatch)
    patient = Limits(sweep_seconds=0.05, hedge_seconds=0.05, resolve_seconds=3600)
    async with silent_listener() as hole, named(pki, names, hole, limits=patient) as (front, caller):
        reported: list[str] = []
        front.plane.pools.on_trouble = reported.append
        await caller.send(request("GET", "/apis/test/v1/things"))
        while not reported:
            await asyncio.sleep(0.01)
        assert reported[0] == "v1.test"
        names.addresses.clear()
        begin = time.monotonic()
        found = await caller.response()
        assert time.monotonic() - begin < 2
        assert (found.status, found.body) == (
            503,
            b"error trying to reach service: dial tcp: lookup example: Name or service not known\n",
        )


@on_uvloop
async def test_a_temporary_failure_of_the_lookup_changes_nothing(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    async with (
        serves(pki, answering(answer(b"here"))) as served,
        named(pki, names, ("127.0.0.1", served.port), limits=Limits(sweep_seconds=0.05, idle_seconds=0.1)) as (
            front,
            caller,
        ),
    ):
        assert (await caller.get()).status == 200
        names.failure = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        (upstream,) = front.plane.pools._by_key.values()
        while front.plane.pools.connection_count():
            await asyncio.sleep(0.01)
        await upstream._names.refresh()
        async with client(pki, front) as other:
            assert (await other.get()).body == b"here"


@over_both
@on_uvloop
async def test_an_unknown_name_is_a_503(pki: PKI, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    names = Names(monkeypatch)
    async with named(pki, names) as (front, _), calling(pki, front, protocol) as caller:
        del names.addresses["example"]
        reported: list[str] = []
        front.plane.on_unreachable = reported.append
        found = await caller.ask("GET", THINGS)
        text = b"error trying to reach service: dial tcp: lookup example: Name or service not known\n"
        assert found == Outcome(503, text, whole=True)
        assert reported == ["v1.test"]
        assert front.metrics.route("v1.test").codes == {(b"GET", 503): 1}
        assert front.metrics.in_flight == front.plane.pools.connection_count() == 0


@on_uvloop
async def test_real_lookups_find_both_families() -> None:
    addresses = await resolver.resolve([("localhost", 7), ("127.0.0.1", 8)])
    assert ("127.0.0.1", 7) in addresses
    assert addresses[-1] == ("127.0.0.1", 8)
    with pytest.raises(OSError, match=r"."):
        await resolver.resolve([("no-such-host.invalid", 1)])
    assert await resolver.resolve([("no-such-host.invalid", 1), ("::1", 2)]) == [("::1", 2)]
