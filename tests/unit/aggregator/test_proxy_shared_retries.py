"""What is sent again after a stream that was refused or broken off, and what never is (RFC 9113 8.7, 6.8)."""

import asyncio
import struct
from dataclasses import replace

import pytest

from tests.unit.aggregator.endpoints_kit import samples
from tests.unit.aggregator.fault_callers import PROTOCOLS, calling
from tests.unit.aggregator.http2_kit import (
    CALM,
    CANCEL,
    CLOSED,
    FLOW,
    GOAWAY,
    INTERNAL,
    NO_ERROR,
    PROTOCOL,
    REFUSED,
    frame,
)
from tests.unit.aggregator.proxy_kit import PKI, answer, client, fields_of, on_uvloop, read_head, request
from tests.unit.aggregator.shared_kit import (
    SHARING,
    THINGS,
    crowd,
    eventually,
    sharing,
)
from tests.unit.aggregator.shared_peer import Asked

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)
HTTP_1_1_REQUIRED = 13
KEPT = 64 * 1024


def goaway(last: int, code: int = NO_ERROR) -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code))


class Processed:
    """A backend that refuses the first requests, each in its way, and writes down what it has carried out."""

    def __init__(self, *refusals: int, read: bool = True) -> None:
        self.refusals = list(refusals)
        self.read = read
        """The body is waited for before the refusal."""
        self.bodies: list[bytes] = []

    async def __call__(self, asked: Asked) -> None:
        if self.refusals:
            code = self.refusals.pop(0)
            if self.read:
                await asked.body()
            asked.refuse(code)
            return
        body = await asked.body()
        self.bodies.append(body)
        await asked.answer(b"%d" % len(body))


@over_both
@pytest.mark.parametrize("body", [b"", b"hello", b"x" * 60_000], ids=["empty", "short", "long"])
@on_uvloop
async def test_a_refused_request_is_sent_again_once(pki: PKI, body: bytes, protocol: str) -> None:
    made = Processed(REFUSED)
    async with sharing(pki, made) as (served, front), calling(pki, front, protocol) as caller:
        found = await caller.ask("POST", THINGS, body, [("X-A", "1")])
        assert (found.status, found.body) == (200, b"%d" % len(body))
        assert made.bodies == [body]
        one, two = served.asked
        assert one.fields == two.fields
        assert (len(served.peers), served.http1) == (1, 0)
        assert samples(front, "aggregator_proxy_retries_total")[("made",)] == 1
        assert front.metrics.route("v1.test").codes == {(b"POST", 200): 1}


@over_both
@pytest.mark.parametrize("method", ["GET", "POST"])
@on_uvloop
async def test_who_is_refused_twice_is_told(pki: PKI, method: str, protocol: str) -> None:
    made = Processed(REFUSED, REFUSED)
    async with sharing(pki, made) as (served, front), calling(pki, front, protocol) as caller:
        found = await caller.ask(method, THINGS)
        assert (found.status, found.whole) == (503, True)
        assert found.body.startswith(b"error trying to reach service: ")
        assert b"REFUSED_STREAM" in found.body
        assert len(served.asked) == 2
        assert made.bodies == []
        assert (await caller.ask(method, THINGS)).status == 200
        assert len(served.peers) == 1


@over_both
@on_uvloop
async def test_a_body_of_which_not_all_is_at_hand_is_not_sent_again(pki: PKI, protocol: str) -> None:
    made = Processed(REFUSED)
    async with sharing(pki, made) as (served, front), calling(pki, front, protocol) as caller:
        found = await caller.ask("POST", THINGS, b"x" * (KEPT + 1))
        assert (found.status, found.whole) == (503, True)
        assert made.bodies == []
        assert len(served.asked) == 1


@over_both
@pytest.mark.parametrize("leaves", [False, True], ids=["refused", "above the last stream"])
@on_uvloop
async def test_of_a_long_body_that_nobody_took_all_is_at_hand(pki: PKI, leaves: bool, protocol: str) -> None:
    """More than its window a backend cannot have been sent before it has looked at the request."""
    body = bytes(range(250)) * 1200
    taken: list[bytes] = []

    async def handle(asked: Asked) -> None:
        if len(served.asked) > 1:
            asked.pay()
            served.pays = True
            taken.append(await asked.body())
            await asked.answer(b"taken")
            return
        await asked.peer.until(lambda: len(asked.received) == 65535)
        if leaves:
            asked.peer.write(goaway(0))
        else:
            asked.refuse(REFUSED)
            asked.peer.h2.increment_flow_control_window(65535)
            asked.peer.flush()

    async with sharing(pki, handle, pays=False) as (served, front), calling(pki, front, protocol) as caller:
        assert (await caller.ask("PUT", f"{THINGS}/a", body)).body == b"taken"
        assert taken == [body]
        assert len(served.peers) == 1 + leaves


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@on_uvloop
async def test_a_body_that_is_still_coming_in_goes_on_to_the_second_stream(pki: PKI, chunked: bool) -> None:
    made = Processed(REFUSED, read=False)
    async with sharing(pki, made) as (served, front), client(pki, front) as caller:
        pieces = [b"%d" % number * 1000 for number in range(5)]
        whole = b"".join(pieces)
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(whole)}"
        await caller.send(request("POST", THINGS, framing))
        for piece in pieces:
            await caller.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await asyncio.sleep(0.02)
        if chunked:
            await caller.send(b"0\r\nX-Sum: 1\r\n\r\n")
        assert (await caller.response("POST")).body == b"%d" % len(whole)
        assert made.bodies == [whole]
        assert list(served.asked[1].trailers) == ([("x-sum", "1")] if chunked else [])


@on_uvloop
async def test_retries_end_with_their_budget(pki: PKI) -> None:
    made = Processed(*[REFUSED] * 100)
    async with sharing(pki, made, limits=replace(SHARING, sweep_seconds=60)) as (served, front):
        async with crowd(pki, front, 1) as tasks:
            assert (await tasks[0]).status == 503
        (upstream,) = front.plane.pools._by_key.values()
        upstream.budget.tokens = 2.0
        before = len(served.asked)
        async with crowd(pki, front, 5, method="POST") as tasks:
            assert {(await task).status for task in tasks} == {503}
        assert len(served.asked) - before == 5 + 2
        assert samples(front, "aggregator_proxy_retries_total") == {("made",): 3, ("refused",): 3}


@over_both
@on_uvloop
async def test_a_backend_that_wants_http1_gets_it(pki: PKI, protocol: str) -> None:
    bodies: list[bytes] = []

    async def http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            length = fields_of(await read_head(reader), "content-length")
            bodies.append(await reader.readexactly(int(length[0]) if length else 0))
            writer.write(answer(b"own"))

    made = Processed(*[HTTP_1_1_REQUIRED] * 9)
    async with sharing(pki, made, http1=http1) as (served, front), calling(pki, front, protocol) as caller:
        for method, body in (("POST", b"hello"), ("POST", b"again"), ("GET", b"")):
            assert (await caller.ask(method, THINGS, body)).body == b"own"
        assert bodies == [b"hello", b"again", b""]
        assert (len(served.asked), served.http1) == (1, 1)


@on_uvloop
async def test_a_backend_that_wants_http1_is_not_tried_again_in_a_crowd(pki: PKI) -> None:
    go = asyncio.Event()
    came = 0

    async def http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        while True:
            await read_head(reader)
            came += 1
            await go.wait()
            writer.write(answer(b"own"))

    made = Processed(*[HTTP_1_1_REQUIRED] * 99)
    async with sharing(pki, made, http1=http1) as (served, front), crowd(pki, front, 3) as early:
        await eventually(lambda: came == 3)
        async with crowd(pki, front, 5) as late:
            await eventually(lambda: came == 8)
            go.set()
            assert {(await task).body for task in (*early, *late)} == {b"own"}
        assert len(served.asked) == 3
        assert samples(front, "aggregator_proxy_retries_total")[("made",)] == 3


@pytest.mark.parametrize("code", [NO_ERROR, PROTOCOL, INTERNAL, FLOW, CLOSED, CANCEL, CALM, 0xDEAD])
@on_uvloop
async def test_a_stream_that_is_broken_off_may_have_been_carried_out(pki: PKI, code: int) -> None:
    async def handle(asked: Asked) -> None:
        await asked.body()
        if "other" in asked.path:
            await go.wait()
            await asked.answer(b"other")
        else:
            asked.refuse(code)

    go = asyncio.Event()
    async with (
        sharing(pki, handle) as (served, front),
        crowd(pki, front, 1, path=f"{THINGS}/other") as others,
        calling(pki, front, "http/1.1") as caller,
    ):
        await served.requests(1)
        for method, asked in (("POST", 2), ("DELETE", 3)):
            found = await caller.ask(method, THINGS)
            assert (found.status, found.whole) == (503, True)
            assert found.body.startswith(b"error trying to reach service: stream error")
            assert len(served.asked) == asked
        found = await caller.ask("GET", THINGS)
        assert found.status == 503
        assert len(served.asked) <= 5
        go.set()
        assert (await others[0]).body == b"other"
        assert (len(served.peers), served.http1) == (1, 0)
        assert front.metrics.in_flight == 0


@over_both
@pytest.mark.parametrize("code", [NO_ERROR, INTERNAL, REFUSED, CANCEL, HTTP_1_1_REQUIRED])
@pytest.mark.parametrize("begun", ["informational", "head", "body"])
@on_uvloop
async def test_what_has_begun_is_never_sent_again(pki: PKI, begun: str, code: int, protocol: str) -> None:
    async def handle(asked: Asked) -> None:
        asked.head("103")
        if begun != "informational":
            asked.head("200", ("content-length", "10"))
        if begun == "body":
            await asked.data(b"half")
        asked.refuse(code)

    async with sharing(pki, handle) as (served, front), calling(pki, front, protocol) as caller:
        found = await caller.ask("GET", THINGS)
        assert len(served.asked) == 1
        if begun == "informational":
            assert (found.status, found.whole) == (503, True)
        else:
            assert not found.whole
            assert found.status in (0, 200)
        assert front.metrics.in_flight == 0


@over_both
@on_uvloop
async def test_a_reset_behind_the_end_changes_nothing(pki: PKI, protocol: str) -> None:
    async def handle(asked: Asked) -> None:
        await asked.answer(b"whole")
        asked.peer.write(frame(3, 0, asked.stream, struct.pack(">I", INTERNAL)))

    async with sharing(pki, handle) as (served, front), calling(pki, front, protocol) as caller:
        for _ in range(3):
            found = await caller.ask("GET", THINGS)
            assert (found.status, found.whole, found.body) == (200, True, b"whole")
        assert len(served.peers) == 1
