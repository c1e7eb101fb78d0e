"""The virtual namespaces: which there are, what they look like, and that clients cannot change them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from aggregator.api import externalname, namespaces
from aggregator.api.namespaces import NamespaceMirror, Occupancy, stored_kinds
from apimachinery.authorization import AlwaysAllow
from apimachinery.gvk import GroupResource
from apiserver.app import AppConfig, build_app
from apiserver.auth.trusted import trusted_headers
from apiserver.endpoints import Endpoints
from apiserver.health import HealthChecks
from apiserver.metrics import ServerMetrics
from apiserver.registry import Registry
from apiserver.rest.context import Context
from apiserver.rest.dispatch import Verbs
from apiserver.storage.base import Store
from apiserver.storage.fanout import HistoryLimits
from apiserver.storage.memory import MemoryStore
from tests.support.asgi import Client

_ITEMS = "/apis/service.grafana.app/v0alpha1/namespaces/{}/externalnames"
_PATH = "/api/v1/namespaces"


class World:
    """A server of ExternalNames and namespaces over `store`, as a client sees it."""

    def __init__(self, store: Store) -> None:
        registry = Registry([externalname.RESOURCE, namespaces.RESOURCE])
        verbs, collectors = Verbs(Context(store=store)), CollectorRegistry()
        app = build_app(
            AppConfig(
                registry=registry,
                verbs=verbs,
                authenticate=trusted_headers,
                authorizer=AlwaysAllow(),
                endpoints=Endpoints(health=HealthChecks(), collectors=collectors, version={}),
                metrics=ServerMetrics(collectors),
            )
        )
        self.call = Client(app)
        self.mirror = NamespaceMirror(store, stored_kinds(registry))

    async def create(self, namespace: str, name: str) -> int:
        body = {"metadata": {"name": name}, "spec": {"host": "h.example.com"}}
        return (await self.call("POST", _ITEMS.format(namespace), body)).code

    async def delete(self, namespace: str, name: str) -> int:
        return (await self.call("DELETE", f"{_ITEMS.format(namespace)}/{name}")).code

    async def names(self) -> list[str]:
        listed = (await self.call("GET", _PATH)).json()
        assert listed["kind"] == "NamespaceList"
        return [item["metadata"]["name"] for item in listed["items"]]

    async def becomes(self, *names: str) -> None:
        async with asyncio.timeout(5):
            while await self.names() != list(names):
                await asyncio.sleep(0.005)


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    made = MemoryStore()
    yield made
    await made.close()


@pytest.fixture
async def world(store: MemoryStore) -> AsyncIterator[World]:
    made = World(store)
    async with _running(made):
        yield made


class _running:
    def __init__(self, world: World) -> None:
        self._mirror = world.mirror

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._mirror.run(), name="mirror")
        await asyncio.wait_for(self._mirror.synced.wait(), 5)

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_a_namespace_is_there_while_it_holds_something(world: World) -> None:
    assert await world.names() == ["default", "kube-system"]
    assert [await world.create("team", name) for name in ("a", "b")] == [201, 201]
    await world.becomes("default", "kube-system", "team")
    assert await world.delete("team", "a") == 200
    assert await world.create("default", "a") == 201
    assert await world.delete("default", "a") == 200
    await world.becomes("default", "kube-system", "team")
    assert await world.delete("team", "b") == 200
    await world.becomes("default", "kube-system")


async def test_what_a_namespace_looks_like(world: World) -> None:
    found = (await world.call("GET", f"{_PATH}/default")).json()
    assert (found["kind"], found["apiVersion"]) == ("Namespace", "v1")
    assert (found["spec"], found["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
    metadata = found["metadata"]
    assert metadata["labels"] == {"kubernetes.io/metadata.name": "default"}
    assert all(metadata[name] for name in ("uid", "resourceVersion", "creationTimestamp"))
    active = (await world.call("GET", f"{_PATH}?fieldSelector=status.phase%3DActive&limit=1")).json()
    assert [item["metadata"]["name"] for item in active["items"]] == ["default"]


async def test_every_name_that_could_be_one_is_confirmed(world: World) -> None:
    reply = await world.call("GET", f"{_PATH}/team")
    found = reply.json()
    assert (reply.code, found["status"]) == (200, {"phase": "Active"})
    assert (found["metadata"]["name"], found["metadata"]["creationTimestamp"]) == ("team", None)
    table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    row = (await world.call("GET", f"{_PATH}/team", headers=table)).json()["rows"][0]
    assert row["cells"] == ["team", "Active", "<unknown>"]
    assert await world.names() == ["default", "kube-system"]
    await world.create("team", "a")
    await world.becomes("default", "kube-system", "team")
    stored = (await world.call("GET", f"{_PATH}/team")).json()
    assert stored["metadata"]["uid"] == found["metadata"]["uid"]
    assert stored["metadata"]["creationTimestamp"]


async def test_a_watch_sees_the_first_object_of_a_namespace(world: World) -> None:
    version = (await world.call("GET", _PATH)).json()["metadata"]["resourceVersion"]
    async with world.call.watch(f"{_PATH}?watch=true&resourceVersion={version}") as stream:
        await world.create("team", "a")
        await world.create("team", "b")
        added = await stream.event()
        assert (added["type"], added["object"]["metadata"]["name"]) == ("ADDED", "team")
        await world.delete("team", "a")
        assert await stream.quiet()
        await world.delete("team", "b")
        deleted = await stream.event()
        assert (deleted["type"], deleted["object"]["metadata"]["name"]) == ("DELETED", "team")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", _PATH, 405),
        ("DELETE", _PATH, 405),
        ("PUT", f"{_PATH}/default", 405),
        ("PATCH", f"{_PATH}/default", 405),
        ("DELETE", f"{_PATH}/default", 405),
        ("GET", f"{_PATH}/No_Name", 404),
        ("PUT", f"{_PATH}/default/finalize", 404),
    ],
)
async def test_clients_only_read_them(world: World, method: str, path: str, code: int) -> None:
    reply = await world.call(method, path, {"metadata": {"name": "default"}} if method != "GET" else None)
    assert reply.code == code
    if code == 405:
        assert reply.json()["reason"] == "MethodNotAllowed"
    assert await world.names() == ["default", "kube-system"]


async def test_a_restart_keeps_what_is_true_and_drops_what_is_not(store: MemoryStore) -> None:
    before = World(store)
    async with _running(before):
        await before.create("kept", "a")
        await before.create("emptied", "a")
        await before.becomes("default", "emptied", "kept", "kube-system")
        first = (await before.call("GET", f"{_PATH}/kept")).json()
    await before.delete("emptied", "a")
    await before.create("filled", "a")
    after = World(store)
    async with _running(after):
        assert await after.names() == ["default", "filled", "kept", "kube-system"]
        assert (await after.call("GET", f"{_PATH}/kept")).json() == first


async def test_a_burst_that_is_missed_is_counted_anew() -> None:
    store = MemoryStore(limits=HistoryLimits(events=4))
    world = World(store)
    async with _running(world):
        await asyncio.gather(*(world.create(f"n{number}", "a") for number in range(40)))
        await world.becomes("default", "kube-system", *sorted(f"n{number}" for number in range(40)))
    await store.close()


_A, _B = GroupResource("g", "as"), GroupResource("g", "bs")


@pytest.mark.parametrize(
    ("steps", "changed", "left"),
    [
        ([(_A, "n", 1)], [{"n"}], {"n"}),
        ([(_A, "n", 1), (_A, "n", 1)], [{"n"}, set()], {"n"}),
        ([(_A, "n", 1), (_A, "n", -1)], [{"n"}, {"n"}], set()),
        ([(_A, "n", 1), (_B, "n", 1), (_A, "n", -1)], [{"n"}, {"n"}, {"n"}], {"n"}),
        ([(_A, "n", 1), (_A, "m", 1)], [{"n"}, {"m"}], {"n", "m"}),
    ],
    ids=["first", "second", "last", "of-two-kinds", "two-namespaces"],
)
def test_occupancy(steps: list[Any], changed: list[set[str]], left: set[str]) -> None:
    occupied = Occupancy()
    assert [occupied.change(*step) for step in steps] == changed
    assert occupied.names() == left
    assert all(name in occupied for name in left)
    assert "elsewhere" not in occupied


def test_counting_anew_tells_what_came_and_went() -> None:
    occupied = Occupancy()
    assert occupied.replace(_A, ["n", "n", "m"]) == {"n", "m"}
    assert occupied.replace(_A, ["n", "o"]) == {"m", "o"}
    assert occupied.replace(_B, ["n"]) == set()
