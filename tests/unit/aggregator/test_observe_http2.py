"""What is recorded of requests over HTTP/2. The client is httpx."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from aggregator.proxy.server import Proxy
from tests.unit.aggregator.observe_kit import Recorder, observed
from tests.unit.aggregator.proxy_kit import PKI, Handler, answer, answering, fields_of, on_uvloop, read_head

THINGS = "/apis/test/v1/namespaces/a/things"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@contextlib.asynccontextmanager
async def serving(
    pki: PKI, handler: Handler, recorder: Recorder, name: str | None = "client"
) -> AsyncIterator[tuple[Proxy, httpx.AsyncClient]]:
    async with (
        observed(pki, handler, recorder.sinks, ["h2"]) as (served, _),
        httpx.AsyncClient(
            base_url=f"https://localhost:{served.port}",
            http1=False,
            http2=True,
            verify=pki.client_context(name, ["h2"]),
            trust_env=False,
        ) as caller,
    ):
        yield served, caller


async def echo_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await read_head(reader)
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert length is not None
    await reader.readexactly(int(length.group(1)))
    writer.write(answer(b'{"made": true}', status="201 Created"))


@pytest.mark.parametrize("headers", [{}, {"Audit-ID": "mine"}], ids=["plain", "parsed"])
@on_uvloop
async def test_a_request_is_recorded_and_its_trace_context_passes(
    pki: PKI, tmp_path: Path, headers: dict[str, str]
) -> None:
    recorder = Recorder(tmp_path, "- level: Metadata\n")
    seen: list[bytes] = []
    async with serving(pki, answering(answer(b"hello"), seen), recorder) as (_, caller):
        got = await caller.get(
            f"{THINGS}/one", headers={**headers, "traceparent": TRACEPARENT, "tracestate": "a=1", "user-agent": "x/1"}
        )
        assert (got.http_version, got.content) == ("HTTP/2", b"hello")
    assert [fields_of(seen[0], name) for name in ("traceparent", "tracestate")] == [[TRACEPARENT], ["a=1"]]
    (received, complete), (line,) = recorder.stop()
    assert (received["stage"], complete["stage"]) == ("RequestReceived", "ResponseComplete")
    assert complete["auditID"] == got.headers["audit-id"]
    assert complete["user"]["username"] == "admin"
    assert complete["userAgent"] == "x/1"
    assert complete["objectRef"]["name"] == "one"
    assert complete["responseStatus"]["code"] == 200
    assert (line["protocol"], line["status"], line["bytes"], line["trace_id"]) == (
        "HTTP/2",
        200,
        5,
        "4bf92f3577b34da6a3ce929d0e0e4736",
    )
    assert "broken" not in line


@on_uvloop
async def test_bodies_both_ways(pki: PKI, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "- level: RequestResponse\n")
    async with serving(pki, echo_length, recorder) as (_, caller):
        assert (await caller.post(THINGS, json={"metadata": {"name": "new"}})).status_code == 201
    events, _ = recorder.stop()
    assert events[-1]["requestObject"] == {"metadata": {"name": "new"}}
    assert events[-1]["responseObject"] == {"made": True}
    assert events[-1]["objectRef"]["name"] == "new"


@on_uvloop
async def test_refusals(pki: PKI, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "- level: Metadata\n")
    async with serving(pki, answering(answer(b"ok")), recorder, name=None) as (_, caller):
        assert (await caller.get(THINGS)).status_code == 401
    (event,), (line,) = recorder.stop()
    assert (event["stage"], event["user"], event["responseStatus"]["code"]) == ("ResponseStarted", {}, 401)
    assert (line["status"], line["user"]) == (401, "")
