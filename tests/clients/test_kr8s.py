"""kr8s, a client with objects that know how to save themselves, unmodified."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import kr8s
import pytest
from kr8s.asyncio.objects import APIObject, new_class

from tests.clients.matrix import Matrix
from tests.support.local_stack import LocalStack


@pytest.fixture
async def api(stack: LocalStack) -> AsyncIterator[Any]:
    made = await kr8s.asyncio.api(kubeconfig=str(stack.kubeconfig))
    yield made
    # There is no public way to close its connections, and open ones are warnings in whatever test runs next.
    session: Any = made._session
    await session.aclose()


@pytest.fixture
def kind(matrix: Matrix) -> type[APIObject]:
    sample = matrix.sample
    return new_class(sample.kind, version=sample.api_version, namespaced=True, plural=sample.plural)


async def test_objects_save_themselves(api: Any, kind: type[APIObject], matrix: Matrix) -> None:
    made = kind(matrix.document("a", labels={"x": "y"}), api=api)
    await made.create()
    assert await made.exists()
    await made.patch(matrix.sample.text("b.example.com"))
    await made.label({"tier": "front"})
    await made.annotate({"note": "two words"})
    await made.refresh()
    assert made.raw["metadata"]["labels"] == {"x": "y", "tier": "front"}
    listed: list[Any] = [item async for item in kind.list(namespace=matrix.namespace, label_selector="x=y", api=api)]
    assert [item.name for item in listed] == ["a"]
    await made.delete()
    await made.wait("delete", timeout=5)
    with pytest.raises(kr8s.NotFoundError):
        await kind.get("a", namespace=matrix.namespace, api=api)


async def test_resources_by_name(api: Any, matrix: Matrix) -> None:
    matrix.create("a")
    full = f"{matrix.sample.plural}.{matrix.sample.version}.{matrix.sample.group}"
    found = [item.name async for item in api.get(full, namespace=matrix.namespace)]
    assert found == ["a"]
    assert {"dummy", "externalnames", "apiservices"} <= {item["name"] for item in await api.api_resources()}


async def test_watch(api: Any, kind: type[APIObject], matrix: Matrix) -> None:
    made = kind(matrix.document("a"), api=api)
    await made.create()
    events = made.watch()
    # The watch begins at the revision that the object has at its first step.
    first = asyncio.create_task(anext(events), name="first event")
    await asyncio.sleep(0)
    other = await kind.get("a", namespace=matrix.namespace, api=api)
    await other.label({"x": "y"})
    await other.delete()
    async with asyncio.timeout(10):
        assert (await first)[0] == "MODIFIED"
        assert (await anext(events))[0] == "DELETED"
    await events.aclose()
