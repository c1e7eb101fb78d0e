"""The OpenAPI aggregator, with real servers behind real informers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
import pytest
from prometheus_client import CollectorRegistry

from aggregator.api.openapi_aggregator import OpenAPIAggregator
from aggregator.api.openapi_fetch import OpenAPIFetcher, OpenAPILimits
from aggregator.api.openapi_metrics import RegenerationMetrics
from aggregator.api.refs import APISERVICES, EXTERNALNAMES
from aggregator.upstream.tls import UpstreamTLS
from apimachinery.types import Object
from tests.unit.aggregator.api_kit import (
    HANG,
    Certificates,
    Handler,
    MemoryClient,
    Reply,
    apiservice,
    externalname,
    fetch_with,
    informer,
    json_reply,
    make_certificates,
    routes,
    running,
    serving,
    until,
)

LOCAL_KEY = "apis/local.example/v1"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), "svc.default.svc")


def v2(*groups: str) -> Object:
    operation = {"responses": {"200": {"description": "OK"}}}
    paths = {f"/apis/{group}/v1/things": {"get": operation} for group in groups}
    return {"swagger": "2.0", "info": {"title": "t", "version": "1"}, "paths": paths, "definitions": {}}


def serves(group: str, number: int = 1) -> Handler:
    key = f"apis/{group}/v1"
    document = {"openapi": "3.0.0", "info": {"title": f"{group} {number}", "version": "1"}, "paths": {}}
    return routes(
        {
            "/openapi/v2": json_reply(v2(group, "foreign.example"), etag=f'"{number}"'),
            "/openapi/v3": json_reply({"paths": {key: {"serverRelativeURL": f"/openapi/v3/{key}?hash={number}"}}}),
            f"/openapi/v3/{key}?hash={number}": json_reply(document),
        }
    )


class Local:
    """The documents of this server."""

    documents: Mapping[str, bytes] = {LOCAL_KEY: b'{"openapi":"3.0.0"}'}
    hashes: Mapping[str, str] = {LOCAL_KEY: "LOCAL"}
    v2_json = orjson.dumps(v2("local.example"))


@dataclass
class World:
    client: MemoryClient
    subject: OpenAPIAggregator
    collectors: CollectorRegistry

    def merges(self, name: str, reason: str) -> float:
        labels = {"apiservice": name, "reason": reason}
        return self.collectors.get_sample_value("aggregator_openapi_v2_regeneration_count_total", labels) or 0

    def read(self, path: str) -> Object:
        answer = self.subject.respond(path, "application/json", "")
        assert answer is not None
        document: Object = orjson.loads(answer.body)
        return document

    @property
    def keys(self) -> list[str]:
        return sorted(self.read("/openapi/v3")["paths"])

    @property
    def v2_groups(self) -> list[str]:
        return sorted(path.split("/")[2] for path in self.read("/openapi/v2")["paths"])

    def title(self, key: str) -> str:
        return str(self.read(f"/openapi/v3/{key}")["info"]["title"])

    def mark(self, name: str, value: str) -> None:
        obj = self.client.find(APISERVICES, name)
        assert obj is not None
        self.client.put(APISERVICES, available(obj, value))


def available(obj: Object, value: str = "True") -> Object:
    return {**obj, "status": {"conditions": [{"type": "Available", "status": value}]}}


@asynccontextmanager
async def world(*objects: Object) -> AsyncIterator[World]:
    client = MemoryClient()
    for obj in objects:
        client.put(EXTERNALNAMES if obj["kind"] == "ExternalName" else APISERVICES, obj)
    apiservices, externalnames = informer(client, APISERVICES), informer(client, EXTERNALNAMES)
    collectors = CollectorRegistry()
    subject = OpenAPIAggregator(
        local=Local(),
        apiservices=apiservices,
        externalnames=externalnames,
        fetcher=OpenAPIFetcher(fetch_with(UpstreamTLS()), OpenAPILimits(timeout=0.5)),
        regenerations=RegenerationMetrics(collectors),
    )
    async with running(apiservices.run(), externalnames.run(), subject.run()):
        await until(subject.synced.is_set)
        yield World(client, subject, collectors)


async def test_before_the_first_build_there_is_no_answer() -> None:
    client = MemoryClient()
    subject = OpenAPIAggregator(
        local=Local(),
        apiservices=informer(client, APISERVICES),
        externalnames=informer(client, EXTERNALNAMES),
        fetcher=OpenAPIFetcher(fetch_with(UpstreamTLS())),
    )
    answer = subject.respond("/openapi/v3", "", "")
    assert answer is not None
    assert (answer.code, answer.body) == (503, b"")
    assert subject.respond("/apis", "", "") is None


async def test_services_come_change_and_go(certificates: Certificates) -> None:
    async with serving(serves("a.example"), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(externalname("svc")) as subject:
            assert subject.keys == [LOCAL_KEY]
            assert subject.v2_groups == ["local.example"]

            subject.client.put(APISERVICES, available(obj))
            await until(lambda: subject.keys == ["apis/a.example/v1", LOCAL_KEY])
            assert subject.v2_groups == ["a.example", "local.example"]
            assert subject.title("apis/a.example/v1") == "a.example 1"

            server.handler = serves("a.example", 2)
            subject.mark("v1.a.example", "False")
            subject.mark("v1.a.example", "True")
            await until(lambda: subject.title("apis/a.example/v1") == "a.example 2")

            subject.client.drop(APISERVICES, "v1.a.example")
            await until(lambda: subject.keys == [LOCAL_KEY] and subject.v2_groups == ["local.example"])
            assert [subject.merges("v1.a.example", reason) for reason in ("add", "update", "delete")] == [1, 1, 1]


async def test_a_failing_service_keeps_its_documents(certificates: Certificates) -> None:
    async with serving(serves("a.example"), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(available(obj), externalname("svc")) as subject:
            await until(lambda: len(subject.keys) == 2)
            server.handler = lambda request: Reply(500)
            asked = len(server.requests)
            subject.mark("v1.a.example", "False")
            subject.mark("v1.a.example", "True")
            await until(lambda: len(server.requests) > asked + 1)
            assert subject.v2_groups == ["a.example", "local.example"]
            assert subject.title("apis/a.example/v1") == "a.example 1"


async def test_an_unavailable_service_is_not_asked(certificates: Certificates) -> None:
    async with serving(serves("a.example"), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(available(obj, "False"), externalname("svc")) as subject:
            await until(subject.subject.first_pass.done.is_set)
            assert server.requests == []
            subject.mark("v1.a.example", "True")
            await until(lambda: len(subject.keys) == 2)


async def test_a_hanging_service_delays_nobody(certificates: Certificates) -> None:
    async with (
        serving(lambda request: HANG, certificates) as stuck,
        serving(serves("good.example"), certificates) as good,
        world(
            available(apiservice("hangs.example", service="svc", port=stuck.port, ca=certificates.ca)),
            available(apiservice("good.example", service="svc", port=good.port, ca=certificates.ca)),
            externalname("svc"),
        ) as subject,
    ):
        await until(lambda: len(subject.keys) == 2, 0.45)
        assert not subject.subject.first_pass.done.is_set()
        await until(subject.subject.first_pass.done.is_set)
        assert subject.keys == ["apis/good.example/v1", LOCAL_KEY]
