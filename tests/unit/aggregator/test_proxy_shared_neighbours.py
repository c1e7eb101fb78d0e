"""What one request, or its answer, may not do to those that share its connection."""

import asyncio

import pytest

from tests.unit.aggregator.fault_callers import PROTOCOLS
from tests.unit.aggregator.http2_kit import window
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
