"""Several addresses behind one name: balancing, ejection and return, name changes, safe retries, limits."""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from aggregator.proxy import balancer, health, resolver
from aggregator.proxy.limits import Limits
from aggregator.proxy.server import Proxy
from apimachinery.types import Object
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Backend,
    Client,
    Handler,
    answer,
    answering,
    apiservice,
    backend,
    client,
    lines_of,
    on_uvloop,
    proxy,
    read_head,
    read_until_broken,
    request,
)

FAST = Limits(sweep_seconds=0.05, hedge_seconds=0.1, resolve_seconds=0.1, connect_seconds=0.5, handshake_seconds=0.5)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return PKI.make(tmp_path_factory.mktemp("pki"))


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def several(*ports: int, host: str = "127.0.0.1") -> Object:
    """An ExternalName whose first address has the port of the APIService."""
    hosts = [f"127.0.0.1:{port}" for port in ports]
    return {"metadata": {"name": "svc", "namespace": "default"}, "spec": {"host": host, "hosts": hosts}}


@contextlib.asynccontextmanager
async def fronted(
    pki: PKI, ports: Sequence[int], *, limits: Limits = FAST, annotations: dict[str, str] | None = None
) -> AsyncIterator[tuple[Proxy, Client]]:
    service = apiservice(ports[0], pki.ca.pem)
    service["metadata"]["annotations"] = annotations or {}
    async with (
        proxy(pki, [service], limits=limits, externalnames=[several(*ports[1:])]) as front,
        client(pki, front) as caller,
    ):
        yield front, caller


def serves(pki: PKI, handler: Handler) -> contextlib.AbstractAsyncContextManager[Backend]:
    return backend(handler, pki.server_context("backend"))


def slow(seconds: float, body: bytes = b"ok") -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            await asyncio.sleep(seconds)
            writer.write(answer(body))

    return handle


def samples(front: Proxy, metric: str) -> dict[tuple[str, ...], float]:
    """Values of a metric by its labels, the name of the APIService left out."""
    return {
        tuple(sample.labels.values())[1:]: sample.value
        for family in front.metrics.collect()
        for sample in family.samples
        if sample.name == metric and sample.labels.get("apiservice") == "v1.test"
    }


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


class Names:
    """Name lookups that the test decides about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses: dict[str, list[tuple[str, int]]] = {}
        self.lookups = 0
        self.failure: OSError | None = None
        monkeypatch.setattr(resolver, "_lookup", self._lookup)

    async def _lookup(self, host: str, port: int) -> list[tuple[str, int]]:
        self.lookups += 1
        if self.failure is not None:
            raise self.failure
        found = self.addresses.get(host)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found


@contextlib.asynccontextmanager
async def named(
    pki: PKI, names: Names, *addresses: tuple[str, int], limits: Limits = FAST
) -> AsyncIterator[tuple[Proxy, Client]]:
    names.addresses["example"] = list(addresses)
    external = {"metadata": {"name": "svc", "namespace": "default"}, "spec": {"host": "example"}}
    async with (
        proxy(pki, [apiservice(1, pki.ca.pem)], limits=limits, externalnames=[external]) as front,
        client(pki, front) as caller,
    ):
        yield front, caller


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


@on_uvloop
async def test_a_name_that_moves_is_followed(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancer, "_LOOKUP_PAUSE_SECONDS", 0.05)
    names = Names(monkeypatch)
    async with (
        serves(pki, answering(answer(b"old"))) as old,
        serves(pki, answering(answer(b"new"))) as new,
        named(pki, names, ("127.0.0.1", old.port)) as (front, caller),
    ):
        assert (await caller.get()).body == b"old"
        names.addresses["example"] = [("127.0.0.1", new.port)]
        async with asyncio.timeout(3):
            while (await caller.get()).body != b"new":
                await asyncio.sleep(0.02)
            while old.closed == 0:
                await asyncio.sleep(0.02)
        # A name that is taken away leaves what is connected.
        del names.addresses["example"]
        before = names.lookups
        while names.lookups < before + 2:
            await asyncio.sleep(0.05)
        assert (await caller.get()).body == b"new"
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
async def test_an_unknown_name_is_a_503(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    async with named(pki, names) as (front, caller):
        del names.addresses["example"]
        reported: list[str] = []
        front.plane.on_unreachable = reported.append
        found = await caller.get()
        assert found.status == 503
        text = b"error trying to reach service: dial tcp: lookup example: Name or service not known\n"
        assert found.body == text
        assert reported == ["v1.test"]


@on_uvloop
async def test_real_lookups_find_both_families() -> None:
    addresses = await resolver.resolve([("localhost", 7), ("127.0.0.1", 8)])
    assert ("127.0.0.1", 7) in addresses
    assert addresses[-1] == ("127.0.0.1", 8)
    with pytest.raises(OSError, match=r"."):
        await resolver.resolve([("no-such-host.invalid", 1)])
    assert await resolver.resolve([("no-such-host.invalid", 1), ("::1", 2)]) == [("::1", 2)]


# Retries


def dies_without_a_word(after: int = 0) -> Handler:
    """Serves so many requests per connection and then closes it under the next one."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(after):
            await read_head(reader)
            writer.write(answer(b"bad"))
        await read_head(reader)

    return handle


@on_uvloop
async def test_a_safe_request_that_got_no_answer_is_sent_to_another_address(pki: PKI) -> None:
    async with (
        serves(pki, dies_without_a_word()) as bad,
        serves(pki, answering(answer(b"good"))) as good,
        fronted(pki, [bad.port, good.port]) as (front, caller),
    ):
        assert {(await caller.get()).body for _ in range(6)} == {b"good"}
        assert bad.connections >= 1
        assert samples(front, "aggregator_proxy_retries_total")[("made",)] == 1


@on_uvloop
async def test_a_request_that_may_have_been_carried_out_is_never_repeated(pki: PKI) -> None:
    got: list[bytes] = []

    async def dies_with_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        got.append(await reader.readexactly(2))

    async with (
        serves(pki, dies_with_body) as bad,
        serves(pki, dies_with_body) as other,
        fronted(pki, [bad.port, other.port]) as (_, caller),
    ):
        await caller.send(request("POST", "/apis/test/v1/things", "Content-Length: 2", body=b"hi"))
        found = await caller.response("POST")
        assert (found.status, found.body) == (503, b"error trying to reach service: EOF\n")
        await caller.send(request("DELETE", "/apis/test/v1/things/a", "Content-Length: 2", body=b"hi"))
        assert (await caller.response("DELETE")).status == 503
        assert got == [b"hi", b"hi"]


@on_uvloop
async def test_retries_end_with_their_budget(pki: PKI) -> None:
    async with (
        serves(pki, dies_without_a_word(1)) as flaky,
        fronted(pki, [flaky.port], limits=Limits(sweep_seconds=60)) as (front, caller),
    ):
        assert (await caller.get()).status == 200
        (upstream,) = front.plane.pools._by_key.values()
        upstream.budget.tokens = 3.0
        codes = [(await caller.get()).status for _ in range(12)]
        assert codes.count(503) >= 1
        assert samples(front, "aggregator_proxy_retries_total")[("made",)] == 3
        assert samples(front, "aggregator_proxy_retries_total")[("refused",)] >= 1


@pytest.mark.parametrize("fields", [[], ["Connection: close"]], ids=["plain", "closing"])
@on_uvloop
async def test_a_backend_that_asks_to_be_left_alone_is(pki: PKI, fields: list[str]) -> None:
    seen: list[bytes] = []
    refusal = answer(b"draining", "Retry-After: 5", *fields, status="503 Service Unavailable")
    async with (
        serves(pki, answering(refusal, seen)) as leaving,
        serves(pki, answering(answer(b"staying"))) as staying,
        fronted(pki, [leaving.port, staying.port]) as (front, caller),
    ):
        assert {(await caller.get()).body for _ in range(10)} == {b"staying"}
        assert len(seen) == 1
        assert samples(front, "aggregator_proxy_endpoints")[("leaving",)] == 1


@on_uvloop
async def test_a_refused_write_is_passed_on(pki: PKI) -> None:
    refusal = answer(b"draining", "Retry-After: 5", status="503 Service Unavailable")
    async with (
        serves(pki, answering(refusal)) as one,
        serves(pki, answering(refusal)) as two,
        fronted(pki, [one.port, two.port]) as (_, caller),
    ):
        await caller.send(request("POST", "/apis/test/v1/things", "Content-Length: 0"))
        found = await caller.response("POST")
        assert (found.status, found.body, found.all("retry-after")) == (503, b"draining", ["5"])


@on_uvloop
async def test_a_lone_backend_that_is_overloaded_is_asked_every_time(pki: PKI) -> None:
    seen: list[bytes] = []
    refusal = answer(b"busy", "Retry-After: 5", status="503 Service Unavailable")
    async with serves(pki, answering(refusal, seen)) as only, fronted(pki, [only.port]) as (front, caller):
        for _ in range(3):
            assert (await caller.get()).body == b"busy"
        assert len(seen) == 3
        assert samples(front, "aggregator_proxy_requests_total") == {("GET", "503"): 3}


# Limits


def annotated(**settings: str) -> dict[str, str]:
    return {f"aggregator.grafana.app/{name.replace('_', '-')}": value for name, value in settings.items()}


@on_uvloop
async def test_a_slow_backend_holds_so_many_requests_and_no_more(pki: PKI) -> None:
    go_on = asyncio.Event()
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await read_head(reader))
            await go_on.wait()
            writer.write(answer(lines_of(heads[-1])[0].encode()))

    limits = annotated(max_connections="2", max_pending="3")
    async with (
        serves(pki, handle) as stuck,
        fronted(pki, [stuck.port], annotations=limits) as (front, caller),
        contextlib.AsyncExitStack() as stack,
    ):
        callers = [await stack.enter_async_context(client(pki, front)) for _ in range(5)]
        for one in callers:
            await one.send(request("GET", "/apis/test/v1/things"))
        while len(heads) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        refused = await caller.get()
        assert (refused.status, refused.all("retry-after")) == (503, ["1"])
        assert refused.body == b"too many requests: 2 in progress, 3 waiting\n"
        assert len(heads) == stuck.connections == 2
        # A watch is not counted.
        async with client(pki, front) as watching:
            await watching.send(request("GET", "/apis/test/v1/things?watch=1"))
            while len(heads) < 3:
                await asyncio.sleep(0.01)
        go_on.set()
        assert [(await one.response()).status for one in callers] == [200] * 5
        assert stuck.connections <= 4
        assert samples(front, "aggregator_proxy_rejected_requests_total") == {(): 1}
        assert (await caller.get()).status == 200


@on_uvloop
async def test_a_waiting_request_that_is_given_up_makes_room(pki: PKI) -> None:
    limits = annotated(max_connections="1", max_pending="1")
    async with (
        serves(pki, slow(0.3)) as stuck,
        fronted(pki, [stuck.port], annotations=limits) as (front, caller),
        client(pki, front) as working,
    ):
        await working.send(request("GET", "/apis/test/v1/things"))
        while stuck.connections == 0:
            await asyncio.sleep(0.01)
        async with client(pki, front) as leaving:
            await leaving.send(request("GET", "/apis/test/v1/things"))
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)
        assert (await caller.get()).status == 200
        assert (await working.response()).status == 200


@on_uvloop
async def test_the_timeout_of_an_apiservice(pki: PKI) -> None:
    async with (
        serves(pki, slow(5)) as stuck,
        fronted(pki, [stuck.port], annotations=annotated(request_timeout="200ms")) as (_, caller),
    ):
        started = time.monotonic()
        assert (await caller.get()).status == 504
        assert 0.2 <= time.monotonic() - started < 1


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
