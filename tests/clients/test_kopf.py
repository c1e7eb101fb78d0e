"""kopf: an operator that watches one of our kinds, embedded as its documentation shows."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import kopf
import pytest

from tests.clients.matrix import EXTERNAL_NAME, Matrix
from tests.support.kubectl import Kubectl
from tests.support.local_stack import LocalStack

_PREFIX = "operator.example.com"
_TARGET = (EXTERNAL_NAME.group, EXTERNAL_NAME.version, EXTERNAL_NAME.plural)


@pytest.fixture
def watched(kubectl: Kubectl, namespace: str, tmp_path: Path) -> Matrix:
    return Matrix(kubectl, namespace, tmp_path, EXTERNAL_NAME)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=_PREFIX)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=_PREFIX)
    return settings


def _registry(stack: LocalStack, goodbyes: list[str]) -> kopf.OperatorRegistry:
    """Handlers that note what they saw in an annotation."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=stack.url,
            ca_path=str(stack.pki / "ca.crt"),
            certificate_path=str(stack.pki / "admin.crt"),
            private_key_path=str(stack.pki / "admin.key"),
        )

    @kopf.on.create(*_TARGET, registry=registry)
    def created(patch: kopf.Patch, spec: kopf.Spec, **_: Any) -> None:
        patch.metadata.annotations["seen-host"] = spec["host"]

    @kopf.on.update(*_TARGET, field="spec.host", registry=registry)
    def updated(patch: kopf.Patch, old: Any, new: Any, **_: Any) -> None:
        patch.metadata.annotations["seen-host"] = f"{old} to {new}"

    @kopf.on.delete(*_TARGET, registry=registry)
    def deleted(name: str | None, **_: Any) -> None:
        goodbyes.append(str(name))

    return registry


@contextlib.asynccontextmanager
async def _running(stack: LocalStack, namespace: str, goodbyes: list[str]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    operator = kopf.operator(
        registry=_registry(stack, goodbyes),
        settings=_settings(),
        standalone=True,
        namespaces=[namespace],
        stop_flag=stop,
    )
    task = asyncio.create_task(operator, name="operator")
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 15)


async def _until(ask: Callable[[], bool]) -> None:
    """Return once the answer is true; TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(ask):
            await asyncio.sleep(0.05)


async def test_an_operator_handles_objects(stack: LocalStack, watched: Matrix) -> None:
    goodbyes: list[str] = []

    def noted() -> str:
        found: str = watched.get("a")["metadata"].get("annotations", {}).get("seen-host", "")
        return found

    async with _running(stack, watched.namespace, goodbyes):
        await asyncio.to_thread(watched.create, "a", "first.example.com")
        await _until(lambda: noted() == "first.example.com")
        assert watched.get("a")["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
        patch = '--patch={"spec":{"host":"second.example.com"}}'
        await asyncio.to_thread(watched.ok, "patch", "externalname", "a", "--type=merge", patch)
        await _until(lambda: noted() == "first.example.com to second.example.com")
        await asyncio.to_thread(watched.ok, "delete", "externalname", "a")
    assert goodbyes == ["a"]
    assert watched.names() == []
