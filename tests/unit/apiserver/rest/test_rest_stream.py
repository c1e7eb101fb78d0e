"""Watch answers: shared lines, and streams that end."""

import asyncio
from typing import Any

import orjson

from apimachinery.gvk import GroupResource
from apiserver.rest.stream import EventEncoder, Form
from apiserver.rest.watch import Output
from apiserver.storage.base import Key, Stored
from tests.unit.apiserver.rest.conftest import WIDGET, Server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
WHOLE, TABLE = Form(resource=WIDGET), Form(resource=WIDGET, as_kind="Table")
METADATA = Form(resource=WIDGET, as_kind="PartialObjectMetadata")


def output(name: str, revision: int, kind: str = "ADDED") -> Output:
    obj = {
        "kind": "Widget",
        "metadata": {"name": name, "resourceVersion": str(revision), "creationTimestamp": "2023-11-14T22:13:20Z"},
        "spec": {"size": revision},
    }
    return Output(kind, stored=Stored(Key(GroupResource("g", "r"), "", name), obj, revision))


def documents(lines: bytes) -> list[Any]:
    assert lines.endswith(b"\n")
    return [orjson.loads(line) for line in lines.splitlines()]


def encoder(clock: list[float]) -> EventEncoder:
    return EventEncoder(lambda: clock[0])


def test_whole_objects_are_the_json_of_the_store() -> None:
    batch = (output("a", 1), output("b", 2, "DELETED"))
    lines = encoder([0.0]).lines(WHOLE, batch, headers=True)
    stored = batch[0].stored
    assert stored is not None
    assert lines.startswith(b'{"type":"ADDED","object":' + stored.json + b"}\n")
    assert [(event["type"], event["object"]["spec"]) for event in documents(lines)] == [
        ("ADDED", {"size": 1}),
        ("DELETED", {"size": 2}),
    ]


def test_a_batch_is_encoded_once_for_all_who_want_the_same() -> None:
    batch = (output("a", 1), output("b", 2))
    lines = encoder([1_700_000_010.5])
    for form in (WHOLE, TABLE, METADATA):
        first = lines.lines(form, batch, headers=False)
        assert lines.lines(Form(resource=WIDGET, as_kind=form.as_kind), batch, headers=False) is first
    assert lines.lines(TABLE, batch, headers=True) != lines.lines(TABLE, batch, headers=False)


def test_ages_in_tables_grow() -> None:
    batch, clock = (output("a", 1),), [1_700_000_010.5]
    lines = encoder(clock)
    assert documents(lines.lines(TABLE, batch, headers=False))[0]["object"]["rows"][0]["cells"] == ["a", "10s"]
    clock[0] += 1
    assert documents(lines.lines(TABLE, batch, headers=False))[0]["object"]["rows"][0]["cells"] == ["a", "11s"]


def test_columns_are_named_by_the_first_table_and_not_by_an_error() -> None:
    error = Output("ERROR", object={"kind": "Status", "code": 410})
    batch = (error, output("a", 1), output("b", 2))
    found = documents(encoder([0.0]).lines(TABLE, batch, headers=True))
    assert found[0] == {"type": "ERROR", "object": {"kind": "Status", "code": 410}}
    assert [bool(event["object"]["columnDefinitions"]) for event in found[1:]] == [True, False]


def test_metadata_alone() -> None:
    (found,) = documents(encoder([0.0]).lines(METADATA, (output("a", 1),), headers=True))
    assert found["object"]["kind"] == "PartialObjectMetadata"
    assert found["object"]["metadata"]["name"] == "a"
    assert "spec" not in found["object"]


async def test_every_watcher_sees_every_event_in_order(server: Server) -> None:
    names = [f"w{number}" for number in range(8)]
    streams = [server.call.watch(f"{WIDGETS}?watch=1") for _ in range(20)]
    opened = [await stream.__aenter__() for stream in streams]
    try:
        for name in names:
            await server.call("POST", WIDGETS, {"metadata": {"name": name}, "spec": {}})
        for stream in opened:
            seen = [(await stream.event())["object"]["metadata"]["name"] for _ in names]
            assert seen == names
    finally:
        for stream_context in streams:
            await stream_context.__aexit__(None, None, None)


async def test_a_server_that_stops_ends_its_watches_in_order(server: Server) -> None:
    async with server.call.watch(f"{WIDGETS}?watch=1") as stream, server.call.watch(f"{WIDGETS}?watch=1") as other:
        await asyncio.sleep(0.01)
        server.verbs.watcher.close()
        assert await stream.event() is None
        assert await other.event() is None
    async with server.call.watch(f"{WIDGETS}?watch=1") as late:
        assert await late.event() is None


async def test_a_client_that_leaves_leaves_nothing_behind(server: Server) -> None:
    before = len(asyncio.all_tasks())
    async with server.call.watch(f"{WIDGETS}?watch=1"):
        await asyncio.sleep(0.01)
        assert len(asyncio.all_tasks()) > before
    assert len(asyncio.all_tasks()) == before
