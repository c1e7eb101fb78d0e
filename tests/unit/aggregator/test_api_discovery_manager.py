"""The discovery manager, with real servers behind real informers."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from aggregator.api.discovery_fetch import DiscoveryFetcher, FetchLimits
from aggregator.api.discovery_manager import DiscoveryManager, DiscoverySettings
from aggregator.api.refs import APISERVICES, EXTERNALNAMES
from aggregator.upstream.tls import UpstreamTLS
from apimachinery.discovery import APIResource, Freshness, GroupVersionEntry, version_document
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

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
LIMITS = FetchLimits(timeout=0.4, max_body=256 * 1024)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), "svc.default.svc")


def listing(*groups: str, names: tuple[str, ...] = ("things",), etag: str = "") -> Reply:
    resources = [
        {
            "resource": name,
            "responseKind": {"group": "", "version": "", "kind": "Thing"},
            "scope": "Cluster",
            "singularResource": "",
            "verbs": ["get"],
        }
        for name in names
    ]
    items = [{"metadata": {"name": group}, "versions": [{"version": "v1", "resources": resources}]} for group in groups]
    document = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items}
    return json_reply(document, V2, **({"etag": etag} if etag else {}))


def serves(*groups: str, **options: Any) -> Handler:
    return routes({"/apis": listing(*groups, **options)})


def local_entry(group: str, version: str = "v1", plural: str = "locals") -> GroupVersionEntry:
    resource = APIResource(name=plural, kind="Local", namespaced=False, verbs=("get",))
    return GroupVersionEntry(group=group, version=version, document=version_document(version, [resource]))


LOCAL = (local_entry("apiregistration.k8s.io", plural="apiservices"),)


@dataclass
class World:
    client: MemoryClient
    collectors: CollectorRegistry
    subject: DiscoveryManager

    def document(self) -> Object:
        answer = self.subject.respond("/apis", V2, "")
        assert answer is not None
        document: Object = orjson.loads(answer.body)
        return document

    def shown(self) -> dict[str, tuple[str, list[str]]]:
        """(freshness, resources) by group, of its preferred version, in order."""
        return {
            item["metadata"]["name"]: (
                item["versions"][0]["freshness"],
                [resource["resource"] for resource in item["versions"][0]["resources"]],
            )
            for item in self.document()["items"]
        }

    def mark(self, name: str, value: str) -> None:
        obj = self.client.find(APISERVICES, name)
        assert obj is not None
        status = {"conditions": [{"type": "Available", "status": value}]}
        self.client.put(APISERVICES, {**obj, "status": status})


@asynccontextmanager
async def world(
    *objects: Object,
    local: tuple[GroupVersionEntry, ...] = LOCAL,
    cache_file: Path | None = None,
    last_known: Freshness = "Current",
) -> AsyncIterator[World]:
    client = MemoryClient()
    for obj in objects:
        client.put(EXTERNALNAMES if obj["kind"] == "ExternalName" else APISERVICES, obj)
    apiservices, externalnames = informer(client, APISERVICES), informer(client, EXTERNALNAMES)
    collectors = CollectorRegistry()
    subject = DiscoveryManager(
        settings=DiscoverySettings(local=local, cache_file=cache_file, last_known=last_known),
        apiservices=apiservices,
        externalnames=externalnames,
        fetcher=DiscoveryFetcher(fetch_with(UpstreamTLS()), LIMITS),
        collectors=collectors,
    )
    async with running(apiservices.run(), externalnames.run(), subject.run()):
        yield World(client, collectors, subject)


async def test_local_and_remote_groups_in_order_of_priority(certificates: Certificates) -> None:
    async with serving(serves("low.example", "high.example", "foreign.example"), certificates) as server:
        low = apiservice("low.example", service="svc", port=server.port, ca=certificates.ca, priority=10)
        high = apiservice("high.example", service="svc", port=server.port, ca=certificates.ca, priority=20000)
        local = (*LOCAL, local_entry("service.grafana.app", "v0alpha1", "externalnames"))
        async with world(low, high, externalname("svc"), local=local) as subject:
            await until(subject.subject.synced.is_set)
            assert list(subject.shown().items()) == [
                ("apiregistration.k8s.io", ("Current", ["apiservices"])),
                ("high.example", ("Current", ["things"])),
                ("service.grafana.app", ("Current", ["externalnames"])),
                ("low.example", ("Current", ["things"])),
            ]
        assert server.asked("/apis") == 1


async def test_the_priority_of_a_local_group_is_that_of_its_apiservice() -> None:
    local = (*LOCAL, local_entry("a.example"), local_entry("b.example"))
    async with world(apiservice("b.example", priority=19000), local=local) as subject:
        await until(subject.subject.synced.is_set)
        assert list(subject.shown()) == ["apiregistration.k8s.io", "b.example", "a.example"]


async def test_plain_documents_list_what_is_unavailable_too(certificates: Certificates) -> None:
    async with serving(lambda request: Reply(503), certificates) as server:
        obj = apiservice("down.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(obj, externalname("svc")) as subject:
            await until(subject.subject.synced.is_set)
            answer = subject.subject.respond("/apis", "application/json", "")
            assert answer is not None
            assert [group["name"] for group in orjson.loads(answer.body)["groups"]] == [
                "apiregistration.k8s.io",
                "down.example",
            ]
            assert subject.subject.respond("/apis/down.example", "application/json", "") is not None
            assert subject.subject.paths == ["/api", "/apis", "/apis/apiregistration.k8s.io", "/apis/down.example"]
            subject.client.drop(APISERVICES, "v1.down.example")
            await until(lambda: subject.subject.respond("/apis/down.example", "application/json", "") is None)
            assert list(subject.shown()) == ["apiregistration.k8s.io"]


async def test_hanging_and_missing_servers_do_not_keep_the_first_pass_from_ending(certificates: Certificates) -> None:
    async with (
        serving(lambda request: HANG, certificates) as stuck,
        serving(serves("good.example"), certificates) as good,
    ):
        started = time.monotonic()
        async with world(
            apiservice("hangs.example", service="svc", port=stuck.port, ca=certificates.ca),
            apiservice("lost.example", service="nobody"),
            apiservice("good.example", service="svc", port=good.port, ca=certificates.ca),
            externalname("svc"),
        ) as subject:
            await until(subject.subject.synced.is_set)
            assert time.monotonic() - started < 2
            assert subject.shown() == {
                "apiregistration.k8s.io": ("Current", ["apiservices"]),
                "good.example": ("Current", ["things"]),
                "hangs.example": ("Stale", []),
                "lost.example": ("Stale", []),
            }


@pytest.mark.parametrize("last_known", ["Current", "Stale"])
async def test_a_server_that_fails_keeps_its_resources(last_known: Freshness, certificates: Certificates) -> None:
    async with serving(serves("a.example"), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(obj, externalname("svc"), last_known=last_known) as subject:
            await until(subject.subject.synced.is_set)
            server.handler = lambda request: Reply(503)
            subject.mark("v1.a.example", "True")
            await until(lambda: server.asked("/apis") >= 2)
            await until(lambda: subject.shown()["a.example"] == (last_known, ["things"]))
            server.handler = serves("a.example", names=("things", "more"))
            await until(lambda: subject.shown()["a.example"] == ("Current", ["things", "more"]))


async def test_availability_and_address_changes_ask_again_at_once(certificates: Certificates) -> None:
    async with serving(serves("a.example"), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(obj, externalname("svc")) as subject:
            await until(subject.subject.synced.is_set)
            subject.mark("v1.a.example", "True")
            await until(lambda: server.asked("/apis") == 2, 1)
            subject.client.put(EXTERNALNAMES, externalname("svc", "localhost"))
            await until(lambda: server.asked("/apis") == 3, 1)
            subject.mark("v1.a.example", "True")
            subject.client.put(APISERVICES, apiservice("b.example", service="svc", port=1))
            await until(lambda: "b.example" in subject.shown())
            assert server.asked("/apis") == 3


async def test_equal_answers_do_not_rebuild_the_document(certificates: Certificates) -> None:
    async with serving(serves("a.example", etag='"1"'), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(obj, externalname("svc")) as subject:
            await until(subject.subject.synced.is_set)
            before = subject.subject.respond("/apis", V2, "")
            server.handler = lambda request: Reply(304)
            subject.mark("v1.a.example", "True")
            await until(lambda: server.asked("/apis") == 2)
            assert server.requests[1].headers["if-none-match"] == '"1"'
            server.handler = serves("a.example", etag='"2"')
            subject.mark("v1.a.example", "False")
            await until(lambda: server.asked("/apis") == 3)
            assert before is not None
            again = subject.subject.respond("/apis", V2, before.headers["etag"])
            assert again is not None
            assert again.code == 304
            assert subject.collectors.get_sample_value("aggregator_discovery_aggregation_count_total") == 1


async def test_a_service_switched_to_another_server_is_asked_there(certificates: Certificates) -> None:
    async with (
        serving(serves("a.example", names=("old",)), certificates) as first,
        serving(serves("a.example", names=("new",)), certificates) as second,
    ):
        obj = apiservice("a.example", service="svc", port=first.port, ca=certificates.ca)
        async with world(obj, externalname("svc")) as subject:
            await until(lambda: subject.shown().get("a.example") == ("Current", ["old"]))
            changed = apiservice("a.example", service="svc", port=second.port, ca=certificates.ca)
            subject.client.put(APISERVICES, changed)
            await until(lambda: subject.shown()["a.example"] == ("Current", ["new"]))


async def test_a_remote_service_takes_over_a_local_group_version(certificates: Certificates) -> None:
    async with serving(serves("a.example", names=("remote",)), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(obj, externalname("svc"), local=(*LOCAL, local_entry("a.example"))) as subject:
            await until(lambda: subject.shown().get("a.example") == ("Current", ["remote"]))
            subject.client.drop(APISERVICES, "v1.a.example")
            await until(lambda: subject.shown()["a.example"] == ("Current", ["locals"]))


async def test_what_is_known_survives_a_restart(certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "discovery.json"
    async with serving(serves("a.example", etag='"1"'), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(obj, externalname("svc"), cache_file=file):
            await until(file.exists)
        server.handler = lambda request: Reply(503)
        async with world(obj, externalname("svc"), cache_file=file, last_known="Stale") as subject:
            await until(subject.subject.synced.is_set)
            assert subject.shown()["a.example"] == ("Stale", ["things"])
            server.handler = lambda request: Reply(304)
            await until(lambda: subject.shown()["a.example"] == ("Current", ["things"]))


async def test_the_file_forgets_what_is_unregistered(certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "discovery.json"
    async with serving(serves("a.example"), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(obj, externalname("svc"), cache_file=file) as subject:
            await until(file.exists)
            assert b"things" in file.read_bytes()
            subject.client.drop(APISERVICES, "v1.a.example")
            await until(lambda: b"things" not in file.read_bytes())


async def test_the_file_forgets_what_was_unregistered_meanwhile(certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "discovery.json"
    async with serving(serves("a.example"), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(obj, externalname("svc"), cache_file=file):
            await until(file.exists)
        async with world(externalname("svc"), cache_file=file):
            await until(lambda: b"things" not in file.read_bytes())


async def test_a_remote_service_that_goes_uncovers_the_local_group_version(certificates: Certificates) -> None:
    async with serving(serves("local.example"), certificates) as server:
        obj = apiservice("local.example", service="svc", port=server.port, ca=certificates.ca, priority=17000)
        async with world(obj, externalname("svc"), local=(local_entry("local.example"),)) as subject:
            await until(lambda: subject.shown()["local.example"] == ("Current", ["things"]))
            subject.client.drop(APISERVICES, "v1.local.example")
            await until(lambda: subject.shown()["local.example"] == ("Current", ["locals"]))


async def test_a_fault_of_any_length_is_a_short_log_line(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    groups = [f"{'g' * 60}{number}.example" for number in range(40)]
    async with serving(lambda request: Reply(404), certificates) as server:
        objects = [apiservice(group, service="svc", port=server.port, ca=certificates.ca) for group in groups]
        async with world(*objects, externalname("svc")) as subject:
            await until(subject.subject.synced.is_set)
    (record,) = [record for record in caplog.records if "discovery failed" in record.getMessage()]
    assert len(str(vars(record))) < 4000


async def test_a_damaged_file_is_replaced(certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "discovery.json"
    file.write_bytes(b"{damaged")
    async with serving(serves("a.example"), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(obj, externalname("svc"), cache_file=file) as subject:
            await until(lambda: subject.shown().get("a.example") == ("Current", ["things"]))
            await until(lambda: b"things" in file.read_bytes())


async def test_an_unwritable_file_does_not_matter_to_clients(certificates: Certificates, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with serving(serves("a.example"), certificates) as server:
        obj = apiservice("a.example", service="svc", port=server.port, ca=certificates.ca)
        async with world(obj, externalname("svc"), cache_file=tmp_path / "file" / "cache.json") as subject:
            await until(lambda: subject.shown().get("a.example") == ("Current", ["things"]))


@pytest.mark.parametrize("path", ["/", "/version", "/apis/a.example/v1", "/openapi/v2"])
async def test_other_paths_are_left_to_others(path: str) -> None:
    async with world() as subject:
        assert subject.subject.respond(path, "application/json", "") is None
