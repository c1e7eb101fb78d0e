"""The parts of several processes that can be looked at in one: restarts, sums, messages, sockets."""

import asyncio
import math
import socket

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from aggregator.processes import listening, sums, worker
from aggregator.processes.channel import Channel, Message
from aggregator.processes.part import Part
from aggregator.processes.restarts import ATTEMPTS, LONGEST_SECONDS, STEADY_SECONDS, Restarts
from aggregator.processes.sums import Snapshot
from apiserver.serving import ListenError


def test_pauses_grow_up_to_a_limit_and_a_steady_run_begins_anew() -> None:
    restarts = Restarts()
    assert [round(restarts.ended(0.5), 3) for _ in range(4)] == [0.1, 0.2, 0.4, 0.8]
    assert restarts.failures == ATTEMPTS - 1
    assert restarts.ended(1) == 1.6
    assert restarts.failures == ATTEMPTS
    assert restarts.hopeless
    assert max(restarts.ended(1) for _ in range(2000)) == LONGEST_SECONDS
    assert restarts.ended(STEADY_SECONDS) == 0.1
    assert restarts.failures == 1


def counted(requests: int, seconds: float, connections: int, expires: float) -> Snapshot:
    """What one process would tell."""
    registry = CollectorRegistry()
    Counter("requests", "Requests.", ["code"], registry=registry).labels("200").inc(requests)
    Histogram("seconds", "Seconds.", buckets=(1, 2), registry=registry).observe(seconds)
    Gauge("connections", "Connections.", registry=registry).set(connections)
    Gauge("expiration_timestamp_seconds", "Expiration.", registry=registry).set(expires)
    Gauge("build_info", "Build.", registry=registry).set(1)
    Gauge("unknown", "Unknown.", registry=registry).set(math.nan)
    return sums.snapshot(registry)


def test_series_of_several_processes_are_added_up() -> None:
    text = sums.render(sums.total([counted(3, 0.5, 7, 200.0), counted(4, 1.5, 1, 100.0), []]))[0].decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [
        'requests_total{code="200"} 7.0',
        'seconds_bucket{le="1.0"} 1.0',
        'seconds_bucket{le="2.0"} 2.0',
        'seconds_bucket{le="+Inf"} 2.0',
        "seconds_count 2.0",
        "seconds_sum 2.0",
        "connections 8.0",
        "expiration_timestamp_seconds 100.0",
        "build_info 1.0",
        "unknown NaN",
    ]


def test_of_a_process_that_is_gone_only_what_counts_remains() -> None:
    remains = sums.lasting(counted(3, 0.5, 7, 200.0))
    assert [family[0] for family in remains] == ["requests", "seconds"]
    both = sums.total([remains, counted(1, 0.5, 2, 300.0)])
    assert dict((family[0], family[3][0][2]) for family in both)["requests"] == 4
    assert dict((family[0], family[3][0][2]) for family in both)["connections"] == 2


async def test_messages_arrive_whole_however_they_are_cut() -> None:
    seen: list[Message] = []
    ended = asyncio.Event()
    channel = Channel(seen.append, ended.set)
    ours, theirs = socket.socketpair()
    await channel.open(ours)
    with theirs:
        for piece in (b'{"type":"a"', b',"n":1}\n{"type":', b'"b"}', b"\n", b'{"type":"c"}\n{"type":"d"}\n'):
            theirs.sendall(piece)
            await asyncio.sleep(0.01)
        assert channel.send("e", names=["x\ny"])
        assert theirs.recv(100) == b'{"type":"e","names":["x\\ny"]}\n'
    await asyncio.wait_for(ended.wait(), 5)
    assert [message["type"] for message in seen] == ["a", "b", "c", "d"]
    assert not channel.send("f")


async def test_a_peer_that_does_not_read_is_told_no_more() -> None:
    channel = Channel(lambda message: None, lambda: None)
    ours, theirs = socket.socketpair()
    await channel.open(ours)
    with theirs:
        sent = 0
        while channel.send("long", text="x" * 1024 * 1024):
            sent += 1
            assert sent < 100
        assert sent >= 8
        channel.close()
    await asyncio.sleep(0)


async def test_unreachable_services_are_told_once_per_interval() -> None:
    ended = asyncio.Event()
    part = Part(CollectorRegistry(), orphaned=ended.set)
    seen: list[Message] = []
    heard = Channel(seen.append, lambda: None)
    ours, theirs = socket.socketpair()
    await heard.open(ours)
    await part.open(theirs.detach())
    feedback = worker.Feedback(part)
    for _ in range(1000):
        feedback.note("v1.b")
        feedback.note("v1.a")
    async with asyncio.timeout(5):
        while not seen:
            await asyncio.sleep(0.01)
    feedback.note("v1.a")
    async with asyncio.timeout(5):
        while len(seen) < 2:
            await asyncio.sleep(0.01)
    assert [message["names"] for message in seen] == [["v1.a", "v1.b"], ["v1.a"]]
    heard.close()
    await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1"])
def test_each_place_has_sockets_of_its_own_on_one_port(host: str) -> None:
    opened = listening.open_sockets(host, 0, 3)
    try:
        ports = {bound.getsockname()[1] for slot in opened for bound in slot}
        assert len(ports) == 1
        assert 0 not in ports
        assert len({bound.fileno() for slot in opened for bound in slot}) == 3 * len(opened[0])
        for bound in opened[0]:
            bound.listen()
        # Another program that shares its ports, too, is told; so is one that does not.
        with pytest.raises(ListenError, match="address already in use"):
            listening.open_sockets(host, ports.pop(), 1)
    finally:
        for bound in (bound for slot in opened for bound in slot):
            bound.close()


def test_sockets_that_were_opened_in_vain_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second address of the name is somebody else's."""
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        known = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 0)) for address in ("127.0.0.1", "127.0.0.2")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: known)
        with pytest.raises(ListenError, match="address already in use"):
            listening.open_sockets("two", port, 2)
    socket.create_server(("127.0.0.1", port)).close()
