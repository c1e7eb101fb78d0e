"""What one request, or its answer, may not do to those that share its connection."""

import asyncio

import pytest

from tests.unit.aggregator.fault_callers import PROTOCOLS, calling
from tests.unit.aggregator.http2_kit import PROTOCOL, head, window
from tests.unit.aggregator.proxy_kit import PKI, answer, client, on_uvloop, read_head, request
from tests.unit.aggregator.shared_kit import THINGS, sharing
from tests.unit.aggregator.shared_peer import Asked

over_both = pytest.mark.parametrize("protocol", PROTOCOLS)


@on_uvloop
async def test_windows_given_back_bit_by_bit_are_no_flood(pki: PKI) -> None:
    async def bit_by_bit(asked: Asked) -> None:
        for _ in await asked.body():
            asked.peer.write(window(0, 1), window(asked.stream, 1))
        await asked.answer()

    async with sharing(pki, bit_by_bit) as (served, front), client(pki, front) as caller:
        for _ in range(2):
            await caller.send(request("POST", THINGS, "Content-Length: 3000", body=b"x" * 3000))
            response = await caller.response()
            assert (response.status, response.body) == (200, b"shared")
        assert len(served.peers) == 1


LARGE = {
    "target": ([f"{THINGS}?{'a' * 4500}"], []),
    "field": ([THINGS], [("x-large", "a" * 4001)]),
    "cookies": ([THINGS], [("cookie", "; ".join(["a=bcdefgh"] * 500))]),
    "fields": ([THINGS], [(f"x-large-{number}", "a" * 2000) for number in range(4)]),
    "everything": ([THINGS], [(f"x-large-{number}", "a" * 9000) for number in range(6)]),
}


@over_both
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("large", LARGE.values(), ids=LARGE.keys())
@on_uvloop
async def test_a_large_head_has_a_connection_of_its_own(
    pki: PKI, large: tuple[list[str], list[tuple[str, str]]], method: str, protocol: str
) -> None:
    (target,), fields = large
    body = b"b" * 100_000 if method == "POST" else b""
    heads: list[bytes] = []

    async def own(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await read_head(reader))
            assert await reader.readexactly(len(body)) == body
            writer.write(answer(b"own"))

    async with (
        sharing(pki, http1=own) as (served, front),
        calling(pki, front, protocol) as caller,
        calling(pki, front, protocol) as other,
    ):
        assert (await other.ask("GET", THINGS)).body == b"shared"
        for _ in range(2):
            assert (await caller.ask(method, target, body, fields)).body == b"own"
        assert len(heads) == 2
        assert all(head.startswith(f"{method} {target} HTTP/1.1\r\n".encode()) for head in heads)
        assert len(served.asked) == len(served.peers) == 1
        assert not served.peers[0].closed


@on_uvloop
async def test_a_head_that_is_not_large_shares(pki: PKI) -> None:
    async with sharing(pki) as (_, front), calling(pki, front, "h2") as caller:
        fields = [(f"x-large-{number}", "a" * 3900) for number in range(2)]
        assert (await caller.ask("GET", THINGS, b"", fields[:1])).body == b"shared"
        assert (await caller.ask("GET", THINGS, b"", fields)).body == b"own"


@on_uvloop
async def test_large_trailers_are_left_out(pki: PKI) -> None:
    async with sharing(pki) as (served, front), client(pki, front) as caller:
        for number, size in enumerate((4100, 10)):
            body = b"1\r\nx\r\n0\r\nX-Sum: " + b"s" * size + b"\r\n\r\n"
            await caller.send(request("POST", THINGS, "Transfer-Encoding: chunked", body=body))
            assert (await caller.response()).body == b"shared"
            asked = served.asked[number]
            assert asked.received == b"x"
            assert dict(asked.trailers) == ({} if number == 0 else {"x-sum": "s" * size})


@on_uvloop
async def test_a_body_held_back_by_one_connection_flows_over_the_next(pki: PKI) -> None:
    body = bytes(range(250)) * 8000
    taken: list[bytes] = []

    async def wants_http1(asked: Asked) -> None:
        await asked.peer.until(lambda: len(asked.received) == 65535)
        await asyncio.sleep(0.1)
        asked.refuse(13)

    async def own(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        taken.append(await reader.readexactly(len(body)))
        writer.write(answer(b"own"))

    async with sharing(pki, wants_http1, http1=own, pays=False) as (_, front), client(pki, front) as caller:
        sending = asyncio.create_task(caller.send(request("POST", THINGS, f"Content-Length: {len(body)}", body=body)))
        async with asyncio.timeout(5):
            assert (await caller.response()).body == b"own"
            await sending
        assert taken == [body]


@over_both
@on_uvloop
async def test_informational_responses_come_to_an_end(pki: PKI, protocol: str) -> None:
    """There is no window for them, which a client that does not read could keep closed."""

    async def hints(asked: Asked) -> None:
        for _ in range(8 if asked.method == "GET" else 9):
            asked.peer.write(head(asked.stream, (":status", "103"), ("link", "a" * 1000), end=False))
        if asked.method == "GET":
            await asked.answer()

    async with sharing(pki, hints) as (served, front), calling(pki, front, protocol) as caller:
        found = await caller.ask("GET", THINGS)
        assert (found.status, found.body) == (200, b"shared")
        found = await caller.ask("DELETE", THINGS)
        assert found.status == 503
        assert found.body.endswith(b"malformed HTTP response: too many informational responses\n")
        assert await (await served.request(2)).until_reset() == PROTOCOL
