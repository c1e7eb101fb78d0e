"""Seats of requests in progress: the rule itself, and what clients of a running proxy see of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.proxy.admission import Admission, Flow, Seats
from aggregator.proxy.limits import Limits
from aggregator.proxy.server import Proxy
from apimachinery.authorization import AlwaysAllow
from tests.unit.aggregator.fault_callers import PROTOCOLS, calling
from tests.unit.aggregator.h2_kit import Http2Client
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Client,
    answer,
    answering,
    apiservice,
    backend,
    client,
    on_uvloop,
    proxy,
    read_head,
    request,
)

THINGS = "/apis/test/v1/things"


@pytest.mark.parametrize(
    ("limit", "share", "users", "held"),
    [
        pytest.param(400, 75, 1, [300], id="one user leaves a quarter"),
        pytest.param(400, 75, 2, [172, 171], id="two users leave a seventh"),
        pytest.param(400, 50, 1, [200], id="half"),
        pytest.param(400, 100, 1, [400], id="first come, first served"),
        pytest.param(1, 75, 1, [1], id="the only seat"),
        pytest.param(2, 1, 2, [1, 1], id="a tiny share is one seat"),
    ],
)
def test_how_much_greedy_users_get(limit: int, share: int, users: int, held: list[int]) -> None:
    seats = Seats(limit, share)
    flows = [seats.flow(str(number)) for number in range(users)]
    while any([flow.take() for flow in flows]):
        pass
    assert [flow.held for flow in flows] == held


@pytest.mark.parametrize(("limit", "share"), [(0, 75), (-1, 75), (1, 0), (1, 101)])
def test_limits_that_make_no_sense(limit: int, share: int) -> None:
    with pytest.raises(ValueError, match="a limit is at least 1"):
        Seats(limit, share)


@given(
    limit=st.integers(1, 50),
    share=st.integers(1, 99),
    steps=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=300),
)
def test_the_rule(limit: int, share: int, steps: list[tuple[int, bool]]) -> None:
    """Nothing is counted twice, nobody is above the share, and who holds nothing finds a seat if any is free."""
    seats = Seats(limit, share)
    flows = [seats.flow(str(number)) for number in range(6)]
    held: Counter[int] = Counter()
    for user, wants in steps:
        if wants:
            free = seats.free
            got = flows[user].take()
            if not held[user]:
                assert got == (free > 0)
            if got:
                assert held[user] * (100 - share) < free * share
            held[user] += got
        elif held[user]:
            flows[user].leave()
            held[user] -= 1
        assert [flow.held for flow in flows] == [held[number] for number in range(6)]
        assert seats.taken == held.total() <= limit
        assert all(flow.held * 100 < limit * share + 100 for flow in flows)
    for user, count in held.items():
        for _ in range(count):
            flows[user].leave()
    assert seats.free == limit


def test_one_user_has_one_account() -> None:
    seats = Seats(4)
    first = seats.flow("jo")
    assert seats.flow("jo") is first
    assert seats.flow("kim") is not first


@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        ("get", "readOnly"),
        ("list", "readOnly"),
        ("watch", "readOnly"),
        ("create", "mutating"),
        ("deletecollection", "mutating"),
        ("post", "mutating"),
    ],
)
def test_kinds(verb: str, kind: str) -> None:
    admission = Admission(mutating=3, read_only=3, share=100)
    flow = admission.flow(verb, "jo")
    assert isinstance(flow, Flow)
    assert flow.take()
    assert {name: seats.taken for name, seats in admission.kinds()} == {"mutating": 0, "readOnly": 0, kind: 1}


def test_no_limit_no_account() -> None:
    admission = Admission(mutating=0, read_only=0, share=75)
    assert (admission.flow("get", "jo"), admission.flow("create", "jo"), admission.kinds()) == (None, None, ())


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    directory: Path = tmp_path_factory.mktemp("pki")
    made = PKI.make(directory)
    for name in ("jo", "kim"):
        made.ca.issue(directory, name)
    return made


class Everybody(AlwaysAllow):
    """Lets everybody do everything; administrators without being asked about."""

    privileged_groups = ("system:masters",)


class Gate:
    """A backend that answers only once it may."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            self.waiting += 1
            await self.open.wait()
            writer.write(answer())

    async def reached(self, count: int) -> None:
        while self.waiting < count:
            await asyncio.sleep(0.005)


def _counts(front: Proxy, family: str) -> dict[str, float]:
    return {
        sample.labels["request_kind"]: sample.value
        for found in front.metrics.collect()
        if found.name == family
        for sample in found.samples
    }


@asynccontextmanager
async def crowded(pki: PKI, **limits: Any) -> AsyncIterator[tuple[Gate, Proxy, Callable[[str], Awaitable[Client]]]]:
    """A backend that does not answer yet, a proxy where everybody may do everything, and how to get clients."""
    gate = Gate()
    async with (
        AsyncExitStack() as stack,
        backend(gate.handle, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)], limits=Limits(**limits)) as front,
    ):
        front.plane.authorizer = Everybody()

        async def made(name: str) -> Client:
            return await stack.enter_async_context(client(pki, front, name))

        yield gate, front, made
        await stack.aclose()


PLAIN = request("GET", THINGS)
FULL = request("GET", THINGS, "TE: trailers")
POST = request("POST", THINGS, "Content-Length: 2", body=b"{}")


@pytest.mark.parametrize(
    ("raw", "kind", "method"), [(PLAIN, "readOnly", "GET"), (FULL, "readOnly", "GET"), (POST, "mutating", "POST")]
)
@on_uvloop
async def test_a_full_proxy_says_429_and_serves_again(pki: PKI, raw: bytes, kind: str, method: str) -> None:
    async with crowded(pki, max_read_only=2, max_mutating=2, user_share=100) as (gate, front, made):
        callers = [await made("jo") for _ in range(3)]
        for caller in callers[:2]:
            await caller.send(raw)
        await gate.reached(2)
        await callers[2].send(raw)
        found = await callers[2].response(method)
        assert (found.status, found.body) == (429, b"Too many requests, please try again later.\n")
        assert found.all("retry-after") == ["1"]
        assert found.all("content-type") == ["text/plain; charset=utf-8"]
        assert found.all("x-content-type-options") == ["nosniff"]
        assert _counts(front, "aggregator_proxy_current_inflight_requests")[kind] == 2
        assert _counts(front, "apiserver_dropped_requests") == {"mutating": 0, "readOnly": 0, kind: 1}
        gate.open.set()
        assert [(await caller.response(method)).status for caller in callers[:2]] == [200, 200]
        await callers[0].send(raw)
        assert (await callers[0].response(method)).status == 200
        assert set(_counts(front, "aggregator_proxy_current_inflight_requests").values()) == {0}


@on_uvloop
async def test_reading_and_writing_have_seats_of_their_own(pki: PKI) -> None:
    async with crowded(pki, max_read_only=1, max_mutating=1) as (gate, _, made):
        callers = [await made("jo") for _ in range(4)]
        for number, raw in enumerate((PLAIN, POST, PLAIN, POST)):
            await callers[number].send(raw)
            await gate.reached(min(number + 1, 2))
        assert [(await caller.response()).status for caller in callers[2:]] == [429, 429]
        gate.open.set()
        assert [(await caller.response()).status for caller in callers[:2]] == [200, 200]


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        pytest.param("client", PLAIN, id="administrator"),
        pytest.param("jo", request("GET", THINGS + "?watch=true"), id="watch"),
        pytest.param("jo", request("GET", THINGS + "/a/x", "Connection: Upgrade", "Upgrade: websocket"), id="upgrade"),
    ],
)
@on_uvloop
async def test_what_is_not_counted(pki: PKI, name: str, raw: bytes) -> None:
    async with crowded(pki, max_read_only=1, max_mutating=1) as (gate, front, made):
        holder, other, third = await made("jo"), await made(name), await made(name)
        await holder.send(PLAIN)
        await other.send(raw)
        await third.send(raw)
        await gate.reached(3)
        assert _counts(front, "aggregator_proxy_current_inflight_requests")["readOnly"] == 1


@on_uvloop
async def test_a_greedy_user_leaves_seats_for_others(pki: PKI) -> None:
    async with crowded(pki, max_read_only=8, user_share=75) as (gate, _, made):
        greedy = [await made("jo") for _ in range(9)]
        for number, caller in enumerate(greedy):
            await caller.send(PLAIN)
            await gate.reached(min(number + 1, 6))
        assert [(await caller.response()).status for caller in greedy[6:]] == [429, 429, 429]
        other = await made("kim")
        await other.send(PLAIN)
        await gate.reached(7)
        gate.open.set()
        assert (await other.response()).status == 200


@on_uvloop
async def test_seats_come_back_when_clients_leave_or_backends_break_off(pki: PKI) -> None:
    async with crowded(pki, max_read_only=1) as (gate, front, made):
        leaving = await made("jo")
        await leaving.send(PLAIN)
        await gate.reached(1)
        leaving.close()
        while _counts(front, "aggregator_proxy_current_inflight_requests")["readOnly"]:
            await asyncio.sleep(0.005)
        other = await made("jo")
        await other.send(PLAIN)
        await gate.reached(2)


@on_uvloop
async def test_without_limits_nothing_is_counted(pki: PKI) -> None:
    async with crowded(pki, max_read_only=0, max_mutating=0) as (gate, front, made):
        caller = await made("jo")
        await caller.send(PLAIN)
        await gate.reached(1)
        assert _counts(front, "aggregator_proxy_current_inflight_requests") == {}


@on_uvloop
async def test_streams_take_seats_like_requests(pki: PKI) -> None:
    async with crowded(pki, max_read_only=2, user_share=100, target_bytes=100) as (gate, front, _):
        context = pki.client_context("jo", ["h2"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", front.port, ssl=context, server_hostname="localhost"
        )
        caller = Http2Client(reader, writer)
        first, second = caller.start("GET", THINGS), caller.start("GET", THINGS)
        await gate.reached(2)
        third, long = caller.start("GET", THINGS), caller.start("GET", THINGS + "?" + "a" * 100)
        head = await caller.head(third)
        assert (head[":status"], head["retry-after"]) == ("429", "1")
        assert await caller.body(third) == b"Too many requests, please try again later.\n"
        assert (await caller.head(long))[":status"] == "414"
        gate.open.set()
        for stream in (first, second):
            assert await caller.body(stream) == b"ok"
        while _counts(front, "aggregator_proxy_current_inflight_requests")["readOnly"]:
            await asyncio.sleep(0.005)
        assert await caller.body(caller.start("GET", THINGS)) == b"ok"
        writer.transport.abort()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("path", "code"),
    [("/livez", 200), ("/readyz?verbose", 200), ("/healthz", 200), ("/readyz/ping", 429), ("/version", 429)],
)
@on_uvloop
async def test_probes_need_no_seat(pki: PKI, path: str, code: int, protocol: str) -> None:
    """Who asks whether the server lives does not start it anew because others are busy."""
    gate = Gate()
    async with (
        backend(gate.handle, pki.server_context("backend")) as served,
        backend(answering(answer())) as local,
        proxy(
            pki, [apiservice(served.port, pki.ca.pem)], local_port=local.port, limits=Limits(max_read_only=1)
        ) as front,
        calling(pki, front, protocol, "jo") as busy,
        calling(pki, front, protocol, "jo") as caller,
    ):
        front.plane.authorizer = Everybody()
        await busy.begin(THINGS, head=False)
        await gate.reached(1)
        assert (await caller.ask("GET", path)).status == code
