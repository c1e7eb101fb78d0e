"""A server with one namespaced kind with status, one cluster-scoped kind, and a memory store."""

import itertools
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from apimachinery.authorization import Policy
from apimachinery.field_errors import FieldError, Path, invalid
from apimachinery.protobuf.message import Field, Message, of
from apimachinery.protobuf.meta import OBJECT_META
from apimachinery.scale import ScalePaths
from apimachinery.types import Object
from apiserver.app import AppConfig, build_app
from apiserver.auth.trusted import trusted_headers
from apiserver.discovery import LocalDiscovery
from apiserver.endpoints import Endpoints
from apiserver.health import HealthChecks
from apiserver.metrics import ServerMetrics
from apiserver.openapi import LocalOpenAPI, OpenAPIDocuments
from apiserver.registry import Registry
from apiserver.resource import Resource, Subresource, SubresourceRequest
from apiserver.rest.context import Context
from apiserver.rest.dispatch import Verbs
from apiserver.storage.fanout import HistoryLimits
from apiserver.storage.memory import MemoryStore
from apiserver.strategy import Strategy
from tests.support.asgi import Client


class WidgetStrategy(Strategy):
    has_status = True

    def validate_create(self, new: Object) -> list[FieldError]:
        if new.get("spec", {}).get("size") == 13:
            return [invalid(Path.of("spec", "size"), 13, "brings bad luck")]
        return []


class StrictStrategy(Strategy):
    allow_unconditional_update = False


async def _echo(request: SubresourceRequest) -> Object:
    return {"from": request.parent["metadata"]["name"], "by": request.user.name}


WIDGET = Resource(
    group="test.example.com",
    version="v1",
    kind="Widget",
    plural="widgets",
    singular="widget",
    namespaced=True,
    short_names=("wd",),
    schema={
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer", "format": "int32", "minimum": 0},
                    "color": {"type": "string", "default": "red"},
                    "parts": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
                        },
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                        "x-kubernetes-patch-strategy": "merge",
                        "x-kubernetes-patch-merge-key": "name",
                    },
                },
            },
            "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
        },
    },
    strategy=WidgetStrategy(),
    selectable_fields=("spec.color",),
    subresources=(Subresource(name="echo", kind="Echo", get=_echo),),
)

ZONE = Resource(
    group="test.example.com",
    version="v1",
    kind="Zone",
    plural="zones",
    singular="zone",
    namespaced=False,
    schema={"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": {"type": "string"}}}}},
    strategy=StrictStrategy(),
    protobuf=Message({1: of(OBJECT_META, "metadata"), 2: of(Message({1: Field("x")}), "spec")}),
)


FLEET = Resource(
    group="test.example.com",
    version="v1",
    kind="Fleet",
    plural="fleets",
    singular="fleet",
    namespaced=True,
    schema={
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "ships": {"type": "integer", "maximum": 9},
                    "harbour": {"type": "string"},
                },
            },
            "status": {
                "type": "object",
                "properties": {"afloat": {"type": "integer"}, "selector": {"type": "string"}},
            },
        },
    },
    strategy=WidgetStrategy(),
    scale=ScalePaths(spec_replicas="spec.ships", status_replicas="status.afloat", selector="status.selector"),
)


@dataclass
class Server:
    call: Client
    anonymous: Client
    nobody: Client
    verbs: Verbs
    registry: Registry
    clock: list[float]
    health: HealthChecks


@pytest.fixture
def server() -> Server:
    return make_server(WIDGET, ZONE)


def make_server(*resources: Resource) -> Server:
    clock = [1_700_000_000.0]
    numbers = itertools.count(1)
    context = Context(
        store=MemoryStore(limits=HistoryLimits(events=10)),
        now=lambda: clock[0],
        new_uid=lambda: f"uid-{next(numbers)}",
        new_suffix=lambda: "abcde",
    )
    registry, verbs, health, collectors = Registry(resources), Verbs(context), HealthChecks(), CollectorRegistry()
    openapi = LocalOpenAPI(registry, title="test", version="v1")
    discovery = LocalDiscovery(registry)
    app = build_app(
        AppConfig(
            registry=registry,
            verbs=verbs,
            authenticate=trusted_headers,
            authorizer=Policy(),
            endpoints=Endpoints(health=health, collectors=collectors, version={"gitVersion": "v1.32.0"}),
            metrics=ServerMetrics(collectors),
            documents=[discovery, OpenAPIDocuments(openapi, context.now)],
            paths=lambda: discovery.paths,
        )
    )
    return Server(
        call=Client(app),
        anonymous=Client(app, user=""),
        nobody=Client(app, user="nobody", groups=()),
        verbs=verbs,
        registry=registry,
        clock=clock,
        health=health,
    )
