"""Watches through HTTP."""

import asyncio
from typing import Any

from tests.unit.apiserver.rest.conftest import Server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
MERGE = {"content-type": "application/merge-patch+json"}


def widget(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": {}}


def seen(event: Any) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"].get("name", "")


async def test_synthetic_added_then_changes(server: Server) -> None:
    await server.call("POST", WIDGETS, widget("a"))
    async with server.call.watch(f"{WIDGETS}?watch=1") as stream:
        assert seen(await stream.event()) == ("ADDED", "a")
        await server.call("POST", WIDGETS, widget("b"))
        assert seen(await stream.event()) == ("ADDED", "b")
        await server.call("PATCH", f"{WIDGETS}/b", {"spec": {"size": 1}}, MERGE)
        assert seen(await stream.event()) == ("MODIFIED", "b")
        last = (await server.call("DELETE", f"{WIDGETS}/b")).json()
        gone = await stream.event()
        assert seen(gone) == ("DELETED", "b")
        assert last["status"] == "Success"
        assert int(gone["object"]["metadata"]["resourceVersion"]) > 0


async def test_replay_after_a_revision(server: Server) -> None:
    first = (await server.call("POST", WIDGETS, widget("a"))).json()["metadata"]["resourceVersion"]
    await server.call("POST", WIDGETS, widget("b"))
    async with server.call.watch(f"{WIDGETS}?watch=true&resourceVersion={first}") as stream:
        assert seen(await stream.event()) == ("ADDED", "b")
        assert await stream.quiet()


async def test_selectors_turn_changes_into_comings_and_goings(server: Server) -> None:
    await server.call("POST", WIDGETS, widget("a", on="yes"))
    async with server.call.watch(f"{WIDGETS}?watch=1&labelSelector=on=yes") as stream:
        assert seen(await stream.event()) == ("ADDED", "a")
        await server.call("PATCH", f"{WIDGETS}/a", {"metadata": {"labels": {"on": "no"}}}, MERGE)
        left = await stream.event()
        assert seen(left) == ("DELETED", "a")
        assert left["object"]["metadata"]["labels"] == {"on": "yes"}
        await server.call("PATCH", f"{WIDGETS}/a", {"metadata": {"labels": {"on": "yes"}}}, MERGE)
        assert seen(await stream.event()) == ("ADDED", "a")


async def test_one_item(server: Server) -> None:
    await server.call("POST", WIDGETS, widget("a"))
    await server.call("POST", WIDGETS, widget("b"))
    async with server.call.watch(f"{WIDGETS}/b?watch=1") as stream:
        assert seen(await stream.event()) == ("ADDED", "b")
        assert await stream.quiet()


async def test_watch_list_ends_its_initial_events_with_a_bookmark(server: Server) -> None:
    await server.call("POST", WIDGETS, widget("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with server.call.watch(f"{WIDGETS}?{query}") as stream:
        assert seen(await stream.event()) == ("ADDED", "a")
        mark = await stream.event()
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["kind"] == "Widget"
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_watch_list_of_a_revision_that_does_not_come(server: Server) -> None:
    created = await server.call("POST", WIDGETS, widget("a"))
    current = int(created.json()["metadata"]["resourceVersion"])
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with server.call.watch(f"{WIDGETS}?{query}&resourceVersion={current + 100}") as stream:
        assert stream.code == 200
        event = await stream.event()
        assert event["type"] == "ERROR"
        fault = event["object"]
        assert (fault["code"], fault["reason"]) == (504, "Timeout")
        assert fault["message"] == f"Timeout: Too large resource version: {current + 100}, current: {current}"
        assert [cause["reason"] for cause in fault["details"]["causes"]] == ["ResourceVersionTooLarge"]
        assert fault["details"]["retryAfterSeconds"] == 1
        assert await stream.event() is None


async def test_watch_list_of_a_revision_that_comes_soon(server: Server) -> None:
    current = int((await server.call("POST", WIDGETS, widget("a"))).json()["metadata"]["resourceVersion"])
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    asking = asyncio.create_task(_first_events(server, f"{WIDGETS}?{query}&resourceVersion={current + 1}", 2))
    await asyncio.sleep(0.1)
    await server.call("POST", WIDGETS, widget("b"))
    assert await asking == [("ADDED", "a"), ("ADDED", "b")]


async def _first_events(server: Server, target: str, count: int) -> list[tuple[str, str]]:
    async with server.call.watch(target) as stream:
        return [seen(await stream.event()) for _ in range(count)]


async def test_timeout_ends_the_stream_after_a_bookmark(server: Server) -> None:
    async with server.call.watch(f"{WIDGETS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true") as stream:
        assert (await stream.event())["type"] == "BOOKMARK"
        assert await stream.event() is None


async def test_a_table_watch_names_its_columns_once(server: Server) -> None:
    headers = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    await server.call("POST", WIDGETS, widget("a"))
    async with server.call.watch(f"{WIDGETS}?watch=1", headers) as stream:
        first = await stream.event()
        await server.call("POST", WIDGETS, widget("b"))
        second = await stream.event()
    assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Age"]
    assert not second["object"].get("columnDefinitions")
    assert second["object"]["rows"][0]["cells"][0] == "b"


async def test_refusals_come_before_the_stream(server: Server) -> None:
    assert (await server.call("GET", f"{WIDGETS}?watch=1&resourceVersion=x")).code in (400, 500)
    assert (await server.call("GET", f"{WIDGETS}?watch=1&sendInitialEvents=true")).code == 422
    yaml = await server.call("GET", f"{WIDGETS}?watch=1", headers={"accept": "application/yaml"})
    assert yaml.code == 406
