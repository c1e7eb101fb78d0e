"""HTTP/2 streams from end to end: flow control, bodies, trailers, faults and ends."""

import asyncio
import random
from typing import cast

import h2.settings
import pytest
import uvloop
from hyperframe.frame import GoAwayFrame, HeadersFrame, WindowUpdateFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.proxy import http2_response
from aggregator.proxy.limits import Limits
from tests.unit.aggregator.http2_kit import (
    DATA,
    END_STREAM,
    GET,
    PATH,
    POST,
    frame,
    head,
    served,
    setting,
    window,
)
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    answering,
    fields_of,
    on_uvloop,
    read_head,
    read_until_broken,
)
from tests.unit.aggregator.test_proxy_http2 import stack

NO_ERROR, INTERNAL, CANCEL = 0, 2, 8
WATCH = (*GET[:3], (":path", PATH + "?watch=1"))
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return PKI.make(tmp_path_factory.mktemp("pki"))


@on_uvloop
async def test_a_window_of_one_byte(pki: PKI) -> None:
    async with served(pki, answering(answer(b"abcdef"))) as (_, caller):
        caller.send(setting((4, 1)), head(1, *GET))
        await caller.status(1)
        await caller.ping()
        assert caller.body(1) == b"a"
        caller.send(window(1, 2))
        await caller.ping()
        assert caller.body(1) == b"abc"
        # The change counts from what was announced before: two more are owed now, then four.
        caller.send(setting((4, 0)))
        caller.send(window(1, 1))
        await caller.ping()
        assert caller.body(1) == b"abc"
        assert not caller.ended(1)
        caller.send(setting((4, 3)))
        assert await caller.until_end(1) == b"abcdef"


@on_uvloop
async def test_a_response_that_is_not_taken_is_reset(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_response, "_FLUSH_SECONDS", 0.1)
    async with served(pki, answering(answer(b"abc")), limits=Limits(sweep_seconds=0.05)) as (front, caller):
        caller.send(setting((4, 0)), head(1, *GET))
        assert await caller.status(1) == "200"
        assert await caller.reset_code(1) == CANCEL
        assert front.metrics.in_flight == 0
        caller.send(setting((4, 10)), head(3, *GET))
        assert await caller.until_end(3) == b"abc"


@on_uvloop
async def test_streams_share_the_connection_window(pki: PKI) -> None:
    async with served(pki, answering(answer(b"x" * 100_000))) as (_, caller):
        caller.send(setting((4, 1 << 20)), head(1, *GET), head(3, *GET))
        await caller.heads(1)
        await caller.heads(3)
        await caller.ping()
        assert len(caller.body(1)) + len(caller.body(3)) == 65535
        for _ in range(14):
            caller.send(window(0, 10_000))
            await caller.ping()
        assert caller.ended(1)
        assert caller.ended(3)
        assert len(caller.body(1)) == len(caller.body(3)) == 100_000


@on_uvloop
async def test_a_client_that_takes_nothing_holds_its_backend_back(pki: PKI) -> None:
    size = 24 * 1024 * 1024
    written = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while written < size:
            writer.write(b"x" * 65536)
            written += 65536
            await writer.drain()
        await read_until_broken(reader)

    async with served(pki, handle) as (_, caller):
        caller.send(head(1, *GET))
        await caller.heads(1)
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.2)
        assert written < size // 2
        caller.send(window(0, size), window(1, size))
        assert len(await caller.until_end(1)) == size


@on_uvloop
async def test_a_client_that_reads_nothing_holds_itself_back(pki: PKI) -> None:
    """Windows are wide open, but the socket is not read."""
    size = 24 * 1024 * 1024
    async with served(pki, answering(answer(b"x" * size))) as (front, caller):
        caller.send(setting((4, 1 << 30)), window(0, 1 << 30), head(1, *GET), head(3, *GET))
        await caller.heads(1)
        (connection,) = front.plane.connections
        while not connection.write_blocked:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        held = [len(stream._held) for stream in connection.streams.values()]  # type: ignore[attr-defined]
        assert max(held) < 4 * 1024 * 1024
        assert len(await caller.until_end(1)) == len(await caller.until_end(3)) == size


@on_uvloop
async def test_a_backend_that_takes_nothing_holds_its_upload_back(pki: PKI) -> None:
    go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = await read_head(reader)
        if not fields_of(found, "transfer-encoding"):
            writer.write(answer())
            return
        await go_on.wait()
        while length := int(await reader.readline(), 16):
            await reader.readexactly(length + 2)
        writer.write(answer(b"got it"))
        await read_until_broken(reader)

    async with served(pki, handle) as (_, caller):
        caller.send(head(1, *POST, end=False))
        sent, room = 0, 256 * 1024
        piece = 16000 * b"x"
        while True:
            while room >= len(piece):
                caller.send(frame(DATA, 0, 1, piece))
                room -= len(piece)
                sent += len(piece)
            await caller.ping()
            credit = [item for item in caller.frames if isinstance(item, WindowUpdateFrame) and item.stream_id == 1]
            caller.frames = [item for item in caller.frames if item not in credit]
            if not credit:
                break
            room += sum(item.window_increment for item in credit)
        assert sent < 16 * 1024 * 1024
        # Another stream of the connection does not notice.
        caller.send(head(3, *GET))
        assert await caller.until_end(3) == b"ok"
        go_on.set()
        caller.send(frame(DATA, END_STREAM, 1, b""))
        assert await caller.until_end(1) == b"got it"


@on_uvloop
async def test_trailers_both_ways_and_informational_responses(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = await read_head(reader)
        assert fields_of(found, "expect") == ["100-continue"]
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        assert await reader.readexactly(7) == b"2\r\nab\r\n"
        assert await reader.readuntil(b"\r\n\r\n") == b"0\r\nx-in: 1\r\n\r\n"
        writer.write(CHUNKED + b"2\r\ncd\r\n0\r\nX-Out: 2\r\nContent-Type: evil\r\n\r\n")
        await read_until_broken(reader)

    async with served(pki, handle) as (_, caller):
        caller.send(head(1, *POST, ("expect", "100-continue"), end=False))
        first, second = await caller.heads(1, 2)
        assert first == {":status": "100"}
        assert second == {":status": "103", "link": "x"}
        caller.send(frame(DATA, 0, 1, b"ab"), head(1, ("x-in", "1"), ("x-remote-user", "evil"), ("content-type", "x")))
        assert await caller.until_end(1) == b"cd"
        heads = await caller.heads(1, 4)
        assert heads[2][":status"] == "200"
        assert heads[3] == {"x-out": "2"}


@pytest.mark.parametrize(
    ("method", "response"),
    [
        pytest.param("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", id="HEAD"),
        pytest.param("GET", b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", id="304"),
        pytest.param("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", id="empty"),
    ],
)
@on_uvloop
async def test_a_response_without_a_body_is_one_frame(pki: PKI, method: str, response: bytes) -> None:
    async with served(pki, answering(response)) as (_, caller):
        for stream in (1, 3):
            caller.send(head(stream, (":method", method), *GET[1:]))
            await caller.until_end(stream)
            (only,) = [item for item in caller.frames if item.stream_id == stream]
            assert isinstance(only, HeadersFrame)


@on_uvloop
async def test_a_response_before_the_end_of_the_request(pki: PKI) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(answer(b"no", status="413 Too Large"))
        await read_until_broken(reader)

    async with served(pki, handle) as (_, caller):
        caller.send(head(1, *POST, end=False), frame(DATA, 0, 1, b"abc"))
        assert await caller.until_end(1) == b"no"
        assert await caller.reset_code(1) == NO_ERROR
        caller.send(frame(DATA, 0, 1, b"abc"), frame(DATA, END_STREAM, 1, b"d"))
        await caller.ping()
        assert len(caller.resets()) == 1


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", id="content-length"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n", id="chunked"),
        pytest.param(CHUNKED + b"3\r\nabc\r\nnonsense", id="malformed"),
    ],
)
@on_uvloop
async def test_a_broken_response_never_ends_well(pki: PKI, response: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(response)
        await writer.drain()
        await asyncio.sleep(0.05)

    async with served(pki, handle) as (front, caller):
        caller.send(head(1, *GET))
        assert await caller.reset_code(1) == INTERNAL
        assert not caller.ended(1)
        await caller.ping()
        assert front.metrics.in_flight == 0


@on_uvloop
async def test_a_large_response_head(pki: PKI) -> None:
    large = [f"X-{number}: {'v' * 1000}" for number in range(40)]
    async with stack(pki, answering(answer(b"ok", *large))) as (_, _, caller):
        stream = caller.start("GET", PATH)
        assert (await caller.head(stream))["x-39"] == "v" * 1000
        assert await caller.body(stream) == b"ok"


async def _watched(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while b"watch" in await read_head(reader):
        writer.write(CHUNKED + b"4\r\none\n\r\n")
    await asyncio.sleep(0.3)
    writer.write(answer(b"late"))
    await read_until_broken(reader)


@on_uvloop
async def test_stopping_gracefully(pki: PKI) -> None:
    async with served(pki, _watched) as (front, caller):
        caller.send(head(1, *WATCH), head(3, *GET))
        await caller.heads(1)
        caller.answers_pings = False
        stopping = asyncio.get_running_loop().create_task(front.stop(10.0, watch_grace_seconds=0.1))
        while not any(isinstance(item, GoAwayFrame) for item in caller.frames):
            await caller.read()
        # On its way when the client heard of it: still served.
        caller.send(head(5, *GET))
        assert await caller.until_end(1) == b"one\n"
        assert await caller.until_end(3) == b"late"
        assert await caller.until_end(5) == b"late"
        assert (await caller.goaway()).error_code == NO_ERROR
        assert [item.last_stream_id for item in caller.frames if isinstance(item, GoAwayFrame)] == [0x7FFFFFFF, 5]
        await stopping


@on_uvloop
async def test_streams_behind_the_last_one_are_not_served(pki: PKI) -> None:
    async with served(pki, _watched) as (front, caller):
        caller.send(head(1, *GET))
        await caller.ping()
        stopping = asyncio.get_running_loop().create_task(front.stop(10.0))
        while len([item for item in caller.frames if isinstance(item, GoAwayFrame)]) < 2:
            await caller.read()
        caller.send(head(3, *POST, end=False), frame(DATA, END_STREAM, 3, b"x"))
        assert await caller.until_end(1) == b"late"
        assert (await caller.goaway()).last_stream_id == 1
        assert not [item for item in caller.frames if item.stream_id == 3]
        await stopping


@on_uvloop
async def test_an_announced_end_lets_the_first_request_of_a_connection_pass(pki: PKI) -> None:
    async with served(pki, answering(answer())) as (front, caller):
        front.announce_end()
        await caller.ping()
        caller.send(head(1, *GET))
        assert await caller.until_end(1) == b"ok"
        assert (await caller.goaway()).last_stream_id == 1


@on_uvloop
async def test_a_client_that_leaves_takes_its_requests_along(pki: PKI) -> None:
    begun = gone = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal begun, gone
        await read_head(reader)
        begun += 1
        await read_until_broken(reader)
        gone += 1

    async with served(pki, handle) as (front, caller):
        caller.send(head(1, *WATCH), head(3, *GET), head(5, *POST, end=False), frame(DATA, 0, 5, b"abc"))
        while begun < 3:
            await asyncio.sleep(0.01)
        caller.writer.transport.abort()
        while gone < 3:
            await asyncio.sleep(0.01)
        assert front.metrics.in_flight == front.metrics.long_running == 0
        codes = front.metrics.route("v1.test").codes
        assert codes == {(b"GET", 499): 2, (b"POST", 499): 1}


# Against another implementation: whatever is asked in whatever order, the answers belong to the questions

_REQUEST = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]),
        "upload": st.sampled_from([None, 0, 1, 9, 20_000, 70_000]),
        "declared": st.booleans(),
        "size": st.sampled_from([0, 1, 2048, 16384, 16385, 100_000]),
        "chunked": st.booleans(),
        "reset": st.sampled_from([False] * 7 + [True]),
        "extra": st.sampled_from([(), (("x-a", "1"),), (("x-a", "2"), ("cookie", "a=1"))]),
    }
)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with as many bytes as the path says, told apart by a token, and says how long the body was."""
    while True:
        found = await read_head(reader)
        method, target = found.split(b" ", 2)[:2]
        token, size, chunked = target.rpartition(b"/")[2].split(b"-")
        got = 0
        if fields_of(found, "transfer-encoding"):
            while length := int(await reader.readline(), 16):
                got += len(await reader.readexactly(length + 2)) - 2
            await reader.readline()
        elif lengths := fields_of(found, "content-length"):
            got = len(await reader.readexactly(int(lengths[0])))
        body = (token * (int(size) // len(token) + 1))[: int(size)]
        writer.write(b"HTTP/1.1 200 OK\r\nX-Got: %d\r\nX-Token: %b\r\n" % (got, token))
        if chunked == b"1":
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
            if method != b"HEAD":
                for start in range(0, len(body), 7000):
                    piece = body[start : start + 7000]
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                writer.write(b"0\r\n\r\n")
        else:
            writer.write(b"Content-Length: %d\r\n\r\n" % len(body))
            if method != b"HEAD":
                writer.write(body)
        await writer.drain()


async def _converse(pki: PKI, requests: list[dict[str, object]], seed: int, window_size: int) -> None:
    chance = random.Random(seed)
    async with stack(pki, _echo) as (_, front, caller):
        caller.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window_size})
        caller.flush()
        asked: dict[int, dict[str, object]] = {}
        uploads: dict[int, int] = {}
        for number, wanted in enumerate(requests):
            path = f"{PATH}/t{number}-{wanted['size']}-{int(cast(bool, wanted['chunked']))}"
            upload = cast(int | None, wanted["upload"])
            extra = list(cast(tuple[tuple[str, str], ...], wanted["extra"]))
            if upload is not None and wanted["declared"]:
                extra.append(("content-length", str(upload)))
            stream = caller.start(str(wanted["method"]), path, *extra, end=upload is None)
            asked[stream] = {**wanted, "token": f"t{number}"}
            if upload is not None:
                uploads[stream] = upload
        while uploads:
            stream = chance.choice(list(uploads))
            left = uploads[stream]
            if asked[stream]["reset"]:
                caller.connection.reset_stream(stream)
                del uploads[stream], asked[stream]
                continue
            allowed = caller.connection.local_flow_control_window(stream)
            if left and not allowed:
                await caller.receive()
                continue
            room = min(left, allowed, chance.choice([500, 5000, 16384]))
            caller.connection.send_data(stream, b"u" * room, end_stream=room == left)
            caller.flush()
            uploads[stream] = left - room
            if room == left:
                del uploads[stream]
        caller.flush()
        for stream, wanted in asked.items():
            body = await caller.body(stream)
            fields = await caller.head(stream)
            size, token = cast(int, wanted["size"]), str(wanted["token"])
            assert (fields[":status"], fields["x-token"]) == ("200", token)
            assert fields["x-got"] == str(wanted["upload"] or 0)
            expected = b"" if wanted["method"] == "HEAD" else (token.encode() * (size // len(token) + 1))[:size]
            assert body == expected
        assert front.metrics.in_flight == 0


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    requests=st.lists(_REQUEST, min_size=1, max_size=12),
    seed=st.integers(0, 1000),
    window_size=st.sampled_from([1000, 65535, 1 << 20]),
)
def test_conversations_with_the_h2_library(
    pki: PKI, requests: list[dict[str, object]], seed: int, window_size: int
) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            await _converse(pki, requests, seed, window_size)

    uvloop.run(run())
