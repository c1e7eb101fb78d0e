"""Long lists, which are made in slices, against short ones, which are not."""

import asyncio
import gzip
from typing import Any

import pytest

from apiserver.storage.base import Key
from tests.unit.apiserver.rest.conftest import WIDGET, Server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
COUNT = 1100
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
NAMES = [f"w{number:04}" for number in range(COUNT)]


@pytest.fixture
async def full(server: Server) -> Server:
    for number, name in enumerate(NAMES):
        obj = {
            "apiVersion": WIDGET.api_version,
            "kind": "Widget",
            "metadata": {"name": name, "namespace": "default", "labels": {"third": str(number % 3)}, "uid": name},
            "spec": {"size": number, "color": "x" * 150},
        }
        await server.verbs.context.store.create(Key(WIDGET.group_resource, "default", name), obj)
    return server


@pytest.mark.parametrize("accept", [TABLE, METADATA], ids=["table", "metadata"])
async def test_a_converted_list_is_the_sum_of_its_pages(full: Server, accept: str) -> None:
    whole = (await full.call("GET", WIDGETS, headers={"accept": accept})).json()
    pretty = (await full.call("GET", f"{WIDGETS}?pretty=1", headers={"accept": accept})).json()
    assert whole == pretty
    assert list(whole) == list(pretty)
    member = "rows" if accept is TABLE else "items"
    assert len(whole[member]) == COUNT
    assert whole["metadata"] == {"resourceVersion": str(COUNT + 1)}


async def test_an_empty_table_has_rows(server: Server) -> None:
    table = (await server.call("GET", WIDGETS, headers={"accept": TABLE})).json()
    assert table["rows"] == []
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Age"]


@pytest.mark.parametrize("accept", ["application/json", TABLE], ids=["json", "table"])
async def test_long_lists_are_compressed_for_who_takes_it(full: Server, accept: str) -> None:
    plain = await full.call("GET", WIDGETS, headers={"accept": accept})
    packed = await full.call("GET", WIDGETS, headers={"accept": accept, "accept-encoding": "br, gzip;q=0.8"})
    assert plain.header("content-encoding") == ""
    assert packed.header("content-encoding") == "gzip"
    assert packed.header("vary") == "Accept-Encoding"
    assert packed.header("content-type") == plain.header("content-type") == "application/json"
    assert packed.header("cache-control") == "no-cache, private"
    assert int(packed.header("content-length")) == len(packed.body) < len(plain.body)
    assert gzip.decompress(packed.body) == plain.body


async def test_pages_of_a_selection(full: Server) -> None:
    wanted = [name for number, name in enumerate(NAMES) if number % 3 == 1]
    found: list[Any] = []
    token, pages = "", 0
    while token or not pages:
        reply = await full.call("GET", f"{WIDGETS}?labelSelector=third%3D1&limit=150&continue={token}")
        found += [item["metadata"]["name"] for item in reply.json()["items"]]
        assert "remainingItemCount" not in reply.json()["metadata"]
        token, pages = reply.json()["metadata"].get("continue", ""), pages + 1
    assert found == wanted
    assert pages == 3


async def test_pages_of_everything_count_what_remains(full: Server) -> None:
    first = (await full.call("GET", f"{WIDGETS}?limit=500")).json()
    assert first["metadata"]["remainingItemCount"] == COUNT - 500
    rest = (await full.call("GET", f"{WIDGETS}?limit=600&continue={first['metadata']['continue']}")).json()
    assert "continue" not in rest["metadata"]
    assert [item["metadata"]["name"] for item in first["items"] + rest["items"]] == NAMES


async def test_a_long_list_lets_others_take_their_turn(full: Server) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(count())
    await asyncio.sleep(0)
    await full.call("GET", WIDGETS, headers={"accept": TABLE})
    other.cancel()
    assert turns >= COUNT // 250
