"""An unmodified kubectl applies on the server's side, moves over from client-side apply, and scales."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Scope

from apimachinery.authorization import Policy
from apimachinery.identity import MASTERS, User
from apimachinery.types import Object
from apiserver.app import AppConfig, build_app
from apiserver.discovery import LocalDiscovery
from apiserver.endpoints import Endpoints
from apiserver.health import HealthChecks
from apiserver.metrics import ServerMetrics
from apiserver.openapi import LocalOpenAPI, OpenAPIDocuments
from apiserver.registry import Registry
from apiserver.rest.context import Context
from apiserver.rest.dispatch import Verbs
from apiserver.serving import serve
from apiserver.storage.memory import MemoryStore
from tests.unit.apiserver.rest.conftest import FLEET, WIDGET

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")

_SECONDS = 20


def _anybody_is_admin(_scope: Scope) -> User:
    return User("admin", groups=(MASTERS,))


@dataclass(frozen=True)
class Kubectl:
    url: str
    home: Path

    async def __call__(self, *arguments: str, given: Any = None) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"], "KUBECONFIG": str(self.home / "none")}
        process = await asyncio.create_subprocess_exec(
            "kubectl",
            f"--server={self.url}",
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(json.dumps(given).encode()), _SECONDS)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def apply(self, body: Object, *options: str) -> tuple[int, str, str]:
        return await self("apply", "--server-side", "--filename=-", *options, given=body)

    async def get(self, *options: str) -> Object:
        code, out, err = await self("get", "widget", "a", "--output=json", *options)
        assert code == 0, err
        obj: Object = json.loads(out)
        return obj


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    context = Context(store=MemoryStore())
    registry, verbs, collectors = Registry([WIDGET, FLEET]), Verbs(context), CollectorRegistry()
    discovery = LocalDiscovery(registry)
    openapi = LocalOpenAPI(registry, title="test", version="v1")
    app = build_app(
        AppConfig(
            registry=registry,
            verbs=verbs,
            authenticate=_anybody_is_admin,
            authorizer=Policy(),
            endpoints=Endpoints(health=HealthChecks(), collectors=collectors, version={"gitVersion": "v1.32.0"}),
            metrics=ServerMetrics(collectors),
            documents=[discovery, OpenAPIDocuments(openapi, context.now)],
            paths=lambda: discovery.paths,
        )
    )
    server = await serve(app, host="127.0.0.1", port=0)
    (address,) = server.addresses
    assert isinstance(address, tuple)
    yield Kubectl(f"http://127.0.0.1:{address[1]}", tmp_path)
    verbs.watcher.close()
    await server.stop(2)


def widget(**spec: Any) -> Object:
    return {"apiVersion": "test.example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec}


def managers(obj: Object) -> set[tuple[str, str]]:
    return {(entry["manager"], entry["operation"]) for entry in obj["metadata"]["managedFields"]}


async def test_conflict_and_force(kubectl: Kubectl) -> None:
    assert await kubectl.apply(widget(size=1)) == (0, "widget.test.example.com/a serverside-applied\n", "")
    code, _, err = await kubectl.apply(widget(size=2), "--field-manager=other")
    assert code == 1
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .spec.size' in err
    assert (await kubectl.apply(widget(size=2), "--field-manager=other", "--force-conflicts"))[0] == 0
    after = await kubectl.get("--show-managed-fields")
    assert after["spec"]["size"] == 2
    assert managers(after) == {("other", "Apply")}
    assert "managedFields" not in (await kubectl.get())["metadata"]


async def test_moving_over_from_client_side_apply(kubectl: Kubectl) -> None:
    assert (await kubectl("apply", "--filename=-", given=widget(size=1, color="blue")))[0] == 0
    assert managers(await kubectl.get("--show-managed-fields")) == {("kubectl-client-side-apply", "Update")}
    code, _, err = await kubectl.apply(widget(size=2))
    assert (code, err) == (0, "")
    # What client-side apply owned belongs to the applier now, so dropping a field removes it.
    after = await kubectl.get("--show-managed-fields")
    assert after["spec"] == {"size": 2, "color": "red"}
    assert managers(after) == {("kubectl", "Apply"), ("kubectl-last-applied", "Apply")}


async def test_scaling(kubectl: Kubectl) -> None:
    fleet = {"apiVersion": "test.example.com/v1", "kind": "Fleet", "metadata": {"name": "a"}, "spec": {"ships": 2}}
    assert (await kubectl("create", "--filename=-", given=fleet))[0] == 0
    scaled = "fleet.test.example.com/a scaled\n"
    assert await kubectl("scale", "fleet/a", "--replicas=3") == (0, scaled, "")
    assert await kubectl("scale", "fleet/a", "--replicas=4", "--current-replicas=3") == (0, scaled, "")
    code, _, err = await kubectl("scale", "fleet/a", "--replicas=5", "--current-replicas=3")
    assert (code, err) == (1, "error: Expected replicas to be 3, was 4\n")
    code, out, err = await kubectl("get", "fleet/a", "--subresource=scale")
    assert (code, [line.split()[:3] for line in out.splitlines()]) == (
        0,
        [["NAME", "DESIRED", "AVAILABLE"], ["a", "4", "0"]],
    ), err
    patch = ("patch", "fleet/a", "--subresource=scale", "--type=merge", '--patch={"spec":{"replicas":6}}')
    assert (await kubectl(*patch))[0] == 0
    code, out, _ = await kubectl("get", "fleet/a", "--output=jsonpath={.spec.ships}")
    assert (code, out) == (0, "6")
