"""What the example declares."""

import pytest
from example_service.resources import Build, resources

from apimachinery.discovery import APIResource
from apimachinery.identity import User
from apiserver.registry import Registry
from apiserver.resource import SubresourceRequest

BUILD = Build(version="1.2.3", commit="abc", python="3.13.0", started=1_000_000.0)


@pytest.fixture
def registry() -> Registry:
    return Registry(resources(BUILD))


def test_discovery(registry: Registry) -> None:
    (group_version,) = registry.group_versions()
    entries: dict[str, APIResource] = {entry.name: entry for entry in registry.api_resources(group_version)}
    assert str(group_version) == "example.grafana.app/v0alpha1"
    assert set(entries) == {"runtime", "dummy", "dummy/sub"}
    assert (entries["runtime"].namespaced, entries["runtime"].verbs) == (False, ("list",))
    assert entries["dummy"].namespaced
    assert "watch" in entries["dummy"].verbs
    assert entries["dummy/sub"].kind == "DummySubresource"


async def test_runtime(registry: Registry) -> None:
    runtime = registry.find("example.grafana.app", "v0alpha1", "runtime")
    assert runtime is not None
    assert runtime.virtual_list is not None
    document = await runtime.virtual_list(User("someone"))
    assert document["kind"] == "RuntimeInfo"
    assert (document["buildVersion"], document["startupTime"]) == ("1.2.3", 1_000_000_000)
    cells = [column.cell(document, 1_000_090.0) for column in runtime.columns]
    assert cells == ["1.2.3", "abc", "3.13.0", "90s"]


async def test_sub(registry: Registry) -> None:
    dummy = registry.find("example.grafana.app", "v0alpha1", "dummy")
    assert dummy is not None
    request = SubresourceRequest(user=User("jane"), parent={"metadata": {"name": "hello"}}, query={})
    assert await dummy.subresources[0].get(request) == {"info": "hello/jane"}
