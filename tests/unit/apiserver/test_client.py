"""The clients, in process and over HTTP, against one server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from apimachinery.authorization import Policy
from apimachinery.status import APIError
from apimachinery.types import Object
from apiserver import http1
from apiserver.app import AppConfig, build_app
from apiserver.auth.trusted import trusted_headers
from apiserver.client import LocalClient, ResourceRef
from apiserver.endpoints import Endpoints
from apiserver.health import HealthChecks
from apiserver.http_client import HttpListWatch
from apiserver.metrics import ServerMetrics
from apiserver.registry import Registry
from apiserver.resource import Resource
from apiserver.rest.context import Context
from apiserver.rest.dispatch import Verbs
from apiserver.serving import serve
from apiserver.storage.memory import MemoryStore
from apiserver.strategy import Strategy

MASTER = (("X-Remote-User", "tester"), ("X-Remote-Group", "system:masters"))
NOTES = ResourceRef("notes.example.com", "v1", "notes")


class NoteStrategy(Strategy):
    has_status = True
    allow_unconditional_update = False


NOTE = Resource(
    group="notes.example.com",
    version="v1",
    kind="Note",
    plural="notes",
    singular="note",
    namespaced=True,
    schema={
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
            "status": {"type": "object", "properties": {"seen": {"type": "boolean"}}},
        },
    },
    strategy=NoteStrategy(),
)


def note(**spec: str) -> Object:
    return {"apiVersion": "notes.example.com/v1", "kind": "Note", "metadata": {"name": "n"}, "spec": spec}


@pytest.fixture
def verbs() -> Verbs:
    return Verbs(Context(store=MemoryStore()))


@pytest.fixture
def client(verbs: Verbs) -> LocalClient:
    return LocalClient(Registry([NOTE]), verbs, manager="tester")


@pytest.fixture
async def target(verbs: Verbs, tmp_path: Path) -> AsyncIterator[http1.Target]:
    collectors = CollectorRegistry()
    endpoints = Endpoints(health=HealthChecks(), collectors=collectors, version={})
    app = build_app(
        AppConfig(
            registry=Registry([NOTE]),
            verbs=verbs,
            authenticate=trusted_headers,
            authorizer=Policy(),
            endpoints=endpoints,
            metrics=ServerMetrics(collectors),
        )
    )
    path = tmp_path / "api.sock"
    server = await serve(app, unix_path=path)
    yield http1.Target(unix_path=path)
    verbs.watcher.close()
    await server.stop(2)


async def test_a_life_in_process(client: LocalClient) -> None:
    made = await client.create(NOTES, "ns", note(a="1"))
    changed = await client.update(NOTES, "ns", {**made, "spec": {"a": "2"}})
    assert changed["spec"] == {"a": "2"}
    seen = await client.update_status(NOTES, "ns", {**changed, "status": {"seen": True}})
    assert (seen["status"], seen["spec"]) == ({"seen": True}, {"a": "2"})
    assert [item["metadata"]["name"] for item in (await client.list(NOTES))["items"]] == ["n"]
    with pytest.raises(APIError, match="does not match the UID"):
        await client.delete(NOTES, "ns", "n", uid="other")
    await client.delete(NOTES, "ns", "n", uid=made["metadata"]["uid"])
    with pytest.raises(APIError, match="not found"):
        await client.get(NOTES, "ns", "n")


async def test_apply_creates_changes_and_leaves_alone(client: LocalClient) -> None:
    first = await client.apply(NOTES, "ns", note(a="1"), field_manager="m")
    await client.update(NOTES, "ns", {**first, "spec": {"a": "1", "b": "kept"}})
    second = await client.apply(NOTES, "ns", note(a="2"), field_manager="m")
    assert second["spec"] == {"a": "2", "b": "kept"}
    third = await client.apply(NOTES, "ns", note(a="2"), field_manager="m")
    assert third["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_unknown_resources_are_refused(client: LocalClient) -> None:
    with pytest.raises(APIError, match="could not find the requested resource"):
        await client.list(ResourceRef("x", "v1", "y"))


async def test_http_lists_and_watches(client: LocalClient, target: http1.Target) -> None:
    remote = HttpListWatch(target, MASTER)
    await client.create(NOTES, "ns", note(a="1"))
    listed = await remote.list(NOTES)
    assert [item["spec"] for item in listed["items"]] == [{"a": "1"}]
    async with remote.watch(NOTES, resource_version=listed["metadata"]["resourceVersion"]) as events:
        await client.apply(NOTES, "ns", note(a="2"), field_manager="m")
        event = await asyncio.wait_for(anext(events), 3)
        assert (event.type, event.object["spec"]) == ("MODIFIED", {"a": "2"})
        await client.delete(NOTES, "ns", "n")
        event = await asyncio.wait_for(anext(events), 3)
        assert event.type == "DELETED"


@pytest.mark.parametrize(
    ("headers", "ref", "code"),
    [
        pytest.param((), NOTES, 401, id="no identity"),
        pytest.param((("X-Remote-User", "nobody"),), NOTES, 403, id="not allowed"),
        pytest.param(MASTER, ResourceRef("x", "v1", "y"), 404, id="unknown"),
    ],
)
async def test_http_refusals_are_api_errors(
    target: http1.Target, headers: tuple[tuple[str, str], ...], ref: ResourceRef, code: int
) -> None:
    remote = HttpListWatch(target, headers)
    with pytest.raises(APIError) as listing:
        await remote.list(ref)
    with pytest.raises(APIError) as watching:
        async with remote.watch(ref, resource_version="1"):
            pass
    assert (listing.value.code, watching.value.code) == (code, code)


async def test_http_without_a_server_is_a_connect_error(tmp_path: Path) -> None:
    remote = HttpListWatch(http1.Target(unix_path=tmp_path / "nobody.sock"), MASTER)
    with pytest.raises(http1.ConnectError):
        await remote.list(NOTES)
