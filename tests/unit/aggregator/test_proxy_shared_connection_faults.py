"""What a backend can do to a shared connection as a whole (RFC 9113 5.4.1): its requests fail, and it is told why."""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.unit.aggregator.http2_kit import (
    ACK,
    CALM,
    COMPRESSION,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SIZE,
    WINDOW_UPDATE,
    block,
    frame,
    head,
    setting,
    window,
)
from tests.unit.aggregator.proxy_kit import PKI, on_uvloop
from tests.unit.aggregator.shared_kit import THINGS, crowd, eventually, nothing_left, sharing
from tests.unit.aggregator.shared_peer import Asked
from tests.unit.aggregator.test_proxy_faults import nothing_left_open

OK = (":status", "200")


@dataclass(frozen=True)
class Fault:
    """What the backend says, given the number of a stream in progress, and the code that it hears of it."""

    says: Callable[[int], bytes]
    code: int


def always(data: bytes) -> Callable[[int], bytes]:
    return lambda stream: data


def on(kind: int, flags: int, payload: bytes = b"") -> Callable[[int], bytes]:
    return lambda stream: frame(kind, flags, stream, payload)


FAULTS = {
    "frame-too-large": Fault(on(DATA, 0, b"x" * 16385), SIZE),
    "unknown-frame-too-large": Fault(on(0xFA, 0, b"x" * 16385), SIZE),
    "another-protocol": Fault(always(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), SIZE),
    "header-index-out-of-range": Fault(on(HEADERS, END_HEADERS | END_STREAM, b"\xff\xff\x01"), COMPRESSION),
    "header-index-zero": Fault(on(HEADERS, END_HEADERS | END_STREAM, b"\x80"), COMPRESSION),
    "header-integer-too-large": Fault(on(HEADERS, END_HEADERS | END_STREAM, b"\xff" * 12), COMPRESSION),
    "header-string-too-long": Fault(on(HEADERS, END_HEADERS | END_STREAM, b"\x88\0\x7f\xff\x7fx"), COMPRESSION),
    "header-huffman-padding": Fault(on(HEADERS, END_HEADERS | END_STREAM, b"\x88\0\x01x\x81\0"), COMPRESSION),
    "header-table-too-large": Fault(on(HEADERS, END_HEADERS | END_STREAM, b"\x3f\xe2\x1f\x88"), COMPRESSION),
    "header-table-change-late": Fault(on(HEADERS, END_HEADERS | END_STREAM, b"\x88\x20"), COMPRESSION),
    "header-padding-too-long": Fault(on(HEADERS, END_HEADERS | PADDED, b"\x05\x88"), PROTOCOL),
    "header-within-a-header": Fault(
        lambda stream: frame(HEADERS, END_STREAM, stream, b"\x88") + frame(DATA, 0, stream, b"x"), PROTOCOL
    ),
    "header-goes-on-elsewhere": Fault(
        lambda stream: frame(HEADERS, END_STREAM, stream, b"\x88") + frame(CONTINUATION, END_HEADERS, stream + 2),
        PROTOCOL,
    ),
    "ping-within-a-header": Fault(
        lambda stream: frame(HEADERS, END_STREAM, stream, b"\x88") + frame(PING, 0, 0, b"12345678"), PROTOCOL
    ),
    "continuation-of-nothing": Fault(on(CONTINUATION, END_HEADERS, b"\x88"), PROTOCOL),
    "headers-of-the-connection": Fault(always(frame(HEADERS, END_HEADERS, 0, b"\x88")), PROTOCOL),
    "headers-of-a-stream-never-opened": Fault(always(head(99, OK)), PROTOCOL),
    "headers-of-a-stream-of-its-own": Fault(always(head(2, OK)), PROTOCOL),
    "data-of-the-connection": Fault(always(frame(DATA, 0, 0, b"x")), PROTOCOL),
    "data-of-a-stream-never-opened": Fault(always(frame(DATA, 0, 99, b"x")), PROTOCOL),
    "data-padding-too-long": Fault(on(DATA, PADDED, b"\x05abc"), PROTOCOL),
    "data-without-its-padding": Fault(on(DATA, PADDED, b""), SIZE),
    "push": Fault(lambda stream: frame(PUSH_PROMISE, END_HEADERS, stream, b"\0\0\0\2" + block(OK)), PROTOCOL),
    "settings-of-a-stream": Fault(on(SETTINGS, 0), PROTOCOL),
    "settings-of-a-wrong-size": Fault(always(frame(SETTINGS, 0, 0, b"12345")), SIZE),
    "settings-acknowledged-with-more": Fault(always(frame(SETTINGS, ACK, 0, b"123456")), SIZE),
    "settings-window": Fault(always(setting((4, 1 << 31))), FLOW),
    "settings-frame-too-small": Fault(always(setting((5, 16383))), PROTOCOL),
    "settings-frame-too-large": Fault(always(setting((5, 1 << 24))), PROTOCOL),
    "settings-push": Fault(always(setting((2, 1))), PROTOCOL),
    "settings-push-what": Fault(always(setting((2, 2))), PROTOCOL),
    "settings-window-overflow": Fault(
        lambda stream: window(stream, (1 << 31) - 1 - 65535) + setting((4, 65536 + 65535)), FLOW
    ),
    "ping-of-a-stream": Fault(on(PING, 0, b"12345678"), PROTOCOL),
    "ping-of-a-wrong-size": Fault(always(frame(PING, 0, 0, b"1234567")), SIZE),
    "window-of-a-wrong-size": Fault(always(frame(WINDOW_UPDATE, 0, 0, b"123")), SIZE),
    "window-of-nothing": Fault(always(window(0, 0)), PROTOCOL),
    "window-overflow": Fault(always(window(0, (1 << 31) - 1)), FLOW),
    "window-of-a-stream-never-opened": Fault(always(window(99, 1)), PROTOCOL),
    "reset-of-the-connection": Fault(always(frame(RST_STREAM, 0, 0, b"\0\0\0\0")), PROTOCOL),
    "reset-of-a-wrong-size": Fault(on(RST_STREAM, 0, b"123"), SIZE),
    "reset-of-a-stream-never-opened": Fault(always(frame(RST_STREAM, 0, 99, b"\0\0\0\0")), PROTOCOL),
    "priority-of-the-connection": Fault(always(frame(PRIORITY, 0, 0, b"\0\0\0\0\0")), PROTOCOL),
    "goaway-of-a-stream": Fault(on(GOAWAY, 0, b"\0" * 8), PROTOCOL),
    "goaway-of-a-wrong-size": Fault(always(frame(GOAWAY, 0, 0, b"\0" * 7)), SIZE),
    "flood-of-pings": Fault(always(frame(PING, 0, 0, b"12345678") * 20_000), CALM),
    "flood-of-settings": Fault(always(setting() * 20_000), CALM),
    "flood-of-long-settings": Fault(always(setting(*[(0xFF, 1)] * 2000) * 10), CALM),
    "flood-of-acknowledgements": Fault(always(frame(PING, ACK, 0, b"12345678") * 20_000), CALM),
    "flood-of-priorities": Fault(on(PRIORITY, 0, b"\0\0\0\0\0"), CALM),
    "flood-of-the-unknown": Fault(on(0xFA, 0), CALM),
    "flood-of-resets": Fault(on(RST_STREAM, 0, b"\0\0\0\0"), CALM),
    "flood-of-windows": Fault(on(WINDOW_UPDATE, 0, b"\0\0\0\1"), CALM),
    "flood-of-data": Fault(on(DATA, 0), CALM),
    "flood-of-padding": Fault(on(DATA, PADDED, b"\x01\0"), CALM),
    "flood-of-fragments": Fault(
        lambda stream: frame(HEADERS, 0, stream) + frame(CONTINUATION, 0, stream) * 20_000, CALM
    ),
    "flood-of-a-head": Fault(
        lambda stream: frame(HEADERS, 0, stream) + frame(CONTINUATION, 0, stream, b"\0" * 16384) * 600, CALM
    ),
}


@pytest.mark.parametrize("fault", FAULTS.items(), ids=FAULTS.keys())
@on_uvloop
async def test_a_fault_of_the_framing_ends_the_connection(pki: PKI, fault: tuple[str, Fault]) -> None:
    name, what = fault
    go = asyncio.Event()

    async def handle(asked: Asked) -> None:
        if "flood-of" in name and asked.path.endswith("/faulty"):
            # Floods come with a response in progress, too.
            asked.peer.write(head(asked.stream, OK, end=False))
        await go.wait()
        if asked.path.endswith("/faulty"):
            said = what.says(asked.stream)
            asked.peer.write(said if len(said) > 1000 or "flood" not in name else said * 20_000)

    async with nothing_left_open(), sharing(pki, handle) as (served, front):
        async with (
            crowd(pki, front, 2, method="POST") as others,
            crowd(pki, front, 1, method="POST", path=f"{THINGS}/faulty", protocol="h2") as faulty,
        ):
            await served.requests(3)
            (peer,) = served.peers
            go.set()
            found = [await task for task in others]
            assert [(item.status, item.whole) for item in found] == [(503, True)] * 2
            assert all(item.body.startswith(b"error trying to reach service: ") for item in found)
            assert not (await faulty[0]).body.startswith(b"shared")
            await eventually(lambda: peer.closed)
            assert peer.goaway() == (what.code, 0)
            await nothing_left(front, served)
        # It is not asked to share again soon.
        async with crowd(pki, front, 2) as later:
            assert {(await task).body for task in later} == {b"own"}
        assert len(served.asked) == 3


WELCOMES = {
    "http1": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "no-settings": frame(PING, 0, 0, b"12345678"),
    "acknowledgement-first": frame(SETTINGS, ACK, 0),
    "random": bytes(range(255, 0, -1)),
}


@pytest.mark.parametrize("welcome", WELCOMES.values(), ids=WELCOMES.keys())
@on_uvloop
async def test_what_is_not_http2_at_all_is_not_asked_again(pki: PKI, welcome: bytes) -> None:
    async with nothing_left_open(), sharing(pki, welcome=welcome) as (served, front):
        async with crowd(pki, front, 3, method="POST") as tasks:
            assert {(await task).status for task in tasks} <= {503, 200}
        async with crowd(pki, front, 3) as tasks:
            assert {(await task).body for task in tasks} == {b"own"}
        assert len(served.peers) == 1


@pytest.mark.parametrize(
    "says",
    [
        pytest.param(lambda stream: window(stream, (1 << 31) - 1), id="window-overflow"),
        pytest.param(lambda stream: window(stream, 0), id="window-of-nothing"),
        pytest.param(lambda stream: frame(PRIORITY, 0, stream, b"\0\0\0"), id="priority-of-a-wrong-size"),
        pytest.param(lambda stream: frame(PRIORITY, 0, stream, struct.pack(">IB", stream, 1)), id="its-own-priority"),
    ],
)
@on_uvloop
async def test_what_may_be_told_by_a_reset_or_a_goaway(pki: PKI, says: Callable[[int], bytes]) -> None:
    async def handle(asked: Asked) -> None:
        asked.peer.write(says(asked.stream))
        await asyncio.sleep(0.05)
        if not asked.peer.closed and asked.reset is None:
            await asked.answer()

    async with sharing(pki, handle) as (served, front), crowd(pki, front, 1, method="POST") as tasks:
        found = await tasks[0]
        asked = served.asked[0]
        refused = asked.reset is not None or asked.peer.goaway() is not None
        assert found.status == (503 if refused else 200)
        assert len(served.asked) == 1
