"""Shared connections that die, or say nothing any more, under the requests that they carry."""

import asyncio
import struct
from collections.abc import Callable

import pytest

from aggregator.proxy import shared_link
from tests.unit.aggregator.fault_callers import PROTOCOLS
from tests.unit.aggregator.http2_kit import (
    GOAWAY,
    PING,
    frame,
)
from tests.unit.aggregator.proxy_kit import PKI, on_uvloop
from tests.unit.aggregator.shared_kit import THINGS, crowd, nothing_left, sharing
from tests.unit.aggregator.shared_peer import Asked, Peer
from tests.unit.aggregator.test_proxy_faults import nothing_left_open, reset


def close(peer: Peer) -> None:
    peer.close()


def break_off(peer: Peer) -> None:
    reset(peer.writer)


def half_a_frame(peer: Peer) -> None:
    peer.write(frame(PING, 0, 0, b"12345678")[:12])
    peer.close()


def say_why(peer: Peer) -> None:
    peer.write(frame(GOAWAY, 0, 0, struct.pack(">II", (1 << 31) - 1, 2) + b"out of order"))
    peer.close()


ENDS = {"closed": close, "reset": break_off, "half-a-frame": half_a_frame, "goaway": say_why}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@on_uvloop
async def test_a_connection_that_dies_under_its_requests(pki: PKI, end: Callable[[Peer], None], protocol: str) -> None:
    """What has begun is broken off; of the rest those are sent again that can be, since the connection had served."""
    go = asyncio.Event()

    async def handle(asked: Asked) -> None:
        await asked.body()
        if asked.path.endswith("/begun"):
            asked.head("200", ("content-length", "10"))
            await asked.data(b"half")
        if len(served.peers) == 1 and not asked.path.endswith("/first"):
            await go.wait()
            end(asked.peer)
        else:
            await asked.answer()

    async with nothing_left_open(), sharing(pki, handle) as (served, front):
        async with crowd(pki, front, 1, path=f"{THINGS}/first") as first:
            await asyncio.gather(*first)
        async with (
            crowd(pki, front, 2, protocol=protocol) as gets,
            crowd(pki, front, 2, method="POST", protocol=protocol) as posts,
            crowd(pki, front, 1, path=f"{THINGS}/begun", protocol=protocol) as begun,
        ):
            await served.requests(6)
            await asyncio.sleep(0.02)
            go.set()
            assert [(await task).body for task in gets] == [b"shared"] * 2
            found = [await task for task in posts]
            assert [(item.status, item.whole) for item in found] == [(503, True)] * 2
            assert all(item.body.startswith(b"error trying to reach service: ") for item in found)
            assert ("GOAWAY" in found[0].body.decode()) == (end is say_why)
            broken = await begun[0]
            assert (broken.status, broken.whole, broken.body) == (200, False, b"half")
        assert len(served.peers) == 2
        assert sorted(item.method for item in served.asked[6:]) == ["GET", "GET"]
        assert served.http1 == 0
        await front.stop()
        await nothing_left(front, served)


@pytest.mark.parametrize("method", ["GET", "POST"])
@on_uvloop
async def test_a_new_connection_that_dies_without_a_word(pki: PKI, method: str) -> None:
    async def handle(asked: Asked) -> None:
        close(asked.peer)

    async with nothing_left_open(), sharing(pki, handle) as (served, front):
        async with crowd(pki, front, 1, method=method) as tasks:
            found = await tasks[0]
        assert (found.status, found.body) == (503, b"error trying to reach service: EOF\n")
        assert len(served.asked) == 1
        await nothing_left(front, served)


@on_uvloop
async def test_a_silent_connection_is_asked_and_given_up(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_link, "_SILENT_SECONDS", 0.2)

    async def handle(asked: Asked) -> None:
        await asked.body()
        if asked.peer is served.peers[0] and not asked.path.endswith("/first"):
            asked.peer.mute = True
        else:
            await asked.answer()

    async with nothing_left_open(), sharing(pki, handle) as (served, front):
        async with crowd(pki, front, 1, path=f"{THINGS}/first") as first:
            assert (await first[0]).body == b"shared"
        began = asyncio.get_running_loop().time()
        async with crowd(pki, front, 2) as gets, crowd(pki, front, 1, method="POST") as posts:
            assert (await posts[0]).status == 503
            assert 0.3 < asyncio.get_running_loop().time() - began < 2
            assert [(await task).body for task in gets] == [b"shared"] * 2
        assert served.peers[0].closed
        assert served.peers[0].pings == 1
        assert len(served.peers) == 2


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
@on_uvloop
async def test_a_connection_that_answers_or_has_nothing_to_answer_stays(
    pki: PKI, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    monkeypatch.setattr(shared_link, "_SILENT_SECONDS", 0.1)

    async def handle(asked: Asked) -> None:
        await asyncio.sleep(0.7 if busy else 0)
        await asked.answer()

    async with sharing(pki, handle) as (served, front), crowd(pki, front, 2) as tasks:
        assert [(await task).body for task in tasks] == [b"shared"] * 2
        (peer,) = served.peers
        if not busy:
            peer.mute = True
            await asyncio.sleep(0.5)
        assert not peer.closed
        assert (peer.pings > 1) == busy
