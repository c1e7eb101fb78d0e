"""The slow work on OpenAPI documents: what is done in a thread, what in a process, and what stops it."""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.api import openapi_jobs, openapi_worker
from aggregator.api.openapi_answer import UnusableDocumentError
from aggregator.api.openapi_worker import OpenAPIWorker
from apimachinery.gvk import GroupVersion
from apimachinery.types import Object

ONE = GroupVersion("one.example", "v1")
OWNED = openapi_jobs.encode_owned([ONE])
THREAD = OpenAPIWorker(in_thread_bytes=1024 * 1024)
PROCESS = OpenAPIWorker(in_thread_bytes=0)
BOTH = pytest.mark.parametrize("worker", [THREAD, PROCESS], ids=["thread", "process"])


def v2(group: str, type_: str = "object") -> Object:
    reference = {"schema": {"$ref": "#/definitions/Thing"}}
    return {
        "swagger": "2.0",
        "info": {"title": group, "version": "1"},
        "paths": {f"/apis/{group}/v1/things": {"get": {"responses": {"200": {"description": "OK", **reference}}}}},
        "definitions": {"Thing": {"type": type_}},
    }


@given(st.lists(st.binary(max_size=50)))
def test_packing(parts: list[bytes]) -> None:
    assert openapi_jobs.unpack(openapi_jobs.pack(parts)) == parts


@pytest.mark.parametrize("cut", [1, 7, 9])
def test_what_is_cut_short_is_an_error(cut: int) -> None:
    packed = openapi_jobs.pack([b"ab"])
    with pytest.raises(ValueError, match="cut short"):
        openapi_jobs.unpack(packed[:cut])


@BOTH
async def test_jobs_have_the_same_result_everywhere(worker: OpenAPIWorker) -> None:
    body = orjson.dumps({**v2("one.example"), "paths": v2("one.example")["paths"] | v2("two.example")["paths"]})
    (reduced,) = await worker.run("reduce-v2", [body, OWNED])
    assert list(orjson.loads(reduced)["paths"]) == ["/apis/one.example/v1/things"]
    key, converted = await worker.run("convert", [reduced, OWNED])
    assert (key, orjson.loads(converted)["openapi"]) == (b"apis/one.example/v1", "3.0.0")
    local = orjson.dumps(v2("local.example", "string"))
    merged, binary, skipped = await worker.run("merge-v2", [local, b'{"paths":7}', reduced])
    assert orjson.loads(merged)["definitions"] == {"Thing": {"type": "string"}, "Thing_v2": {"type": "object"}}
    assert b"Thing_v2" in binary
    assert orjson.loads(skipped) == [0]
    assert await worker.run("check-v3", [b'{"openapi":"3.0.0"}']) == []


@BOTH
@pytest.mark.parametrize(
    ("job", "parts", "text"),
    [
        ("check-v3", [b"{"], "no JSON: "),
        ("check-v3", [b'{"openapi":"2"}'], "not an OpenAPI v3 document"),
        ("reduce-v2", [b"[]", OWNED], "no JSON object"),
        (
            "reduce-v2",
            [b'{"swagger":"2.0","paths":{"/apis/one.example/v1/":7}}', OWNED],
            "malformed OpenAPI v2 document",
        ),
    ],
    ids=["no JSON", "wrong version", "no object", "malformed"],
)
async def test_unusable_documents(worker: OpenAPIWorker, job: str, parts: Sequence[bytes], text: str) -> None:
    with pytest.raises(UnusableDocumentError, match=text):
        await worker.run(job, parts)


async def test_a_process_that_dies_is_an_unusable_document(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\nkill -9 $$\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(UnusableDocumentError, match=r"too much memory or time \(exit status -9\)"):
        await PROCESS.run("check-v3", [b"{}"])


@pytest.mark.parametrize("how", ["deadline", "cancelled"])
async def test_no_process_is_left_behind(how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    interpreter, pid_file = tmp_path / "python", tmp_path / "pid"
    interpreter.write_text(f"#!/bin/sh\necho $$ > {pid_file}.new; mv {pid_file}.new {pid_file}\nexec sleep 600\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setattr(openapi_worker, "_TIMEOUT_SECONDS", 0.5 if how == "deadline" else 60.0)
    task = asyncio.create_task(PROCESS.run("check-v3", [b"{}"]), name="job")
    deadline = time.monotonic() + 5
    while not pid_file.exists() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    pid = int(pid_file.read_text())
    if how == "cancelled":
        task.cancel()
    with pytest.raises(UnusableDocumentError if how == "deadline" else asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_the_event_loop_goes_on_while_a_large_document_is_read() -> None:
    schema = {"type": "object", "properties": {f"f{number}": {"type": "string"} for number in range(100)}}
    document = {**v2("one.example"), "definitions": {f"D{number}": schema for number in range(2000)}}
    body = orjson.dumps(document)
    assert len(body) > 4_000_000
    late: list[float] = []

    async def tick() -> None:
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.005)
            late.append(time.perf_counter() - begin)

    ticker = asyncio.create_task(tick(), name="tick")
    try:
        started = time.perf_counter()
        await OpenAPIWorker().run("reduce-v2", [body, OWNED])
        taken = time.perf_counter() - started
    finally:
        ticker.cancel()
    # Reading it takes most of a second: had it been done here, the ticker would have stood still for parts of that.
    assert sorted(late)[len(late) * 9 // 10] < 0.05, (sorted(late)[-5:], taken)
    assert len(late) > taken / 0.05
