"""What is sent again, to whom, and how often."""

import asyncio

import pytest

from aggregator.proxy.limits import Limits
from tests.unit.aggregator.endpoints_kit import (
    dies_without_a_word,
    fronted,
    samples,
    serves,
)
from tests.unit.aggregator.proxy_kit import (
    PKI,
    answer,
    answering,
    on_uvloop,
    read_head,
    request,
)


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
