"""The availability controllers, with real servers behind real informers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from aggregator.api import conditions, ports, probe
from aggregator.api.availability import LocalAvailability, RemoteAvailability
from aggregator.api.availability_metrics import AvailabilityMetrics
from aggregator.api.prober import ProbeLimits, Prober
from aggregator.api.refs import APISERVICES, EXTERNALNAMES
from aggregator.api.status_writer import StatusWriter
from aggregator.upstream.backend import Backend
from aggregator.upstream.kept import KeptConnections
from aggregator.upstream.tls import UpstreamTLS
from apimachinery import status
from apimachinery.gvk import GroupResource
from apimachinery.types import Object
from tests.unit.aggregator.api_kit import (
    HANG,
    Certificates,
    MemoryClient,
    Reply,
    apiservice,
    externalname,
    informer,
    make_certificates,
    running,
    serving,
    until,
)

NAME = "v1.example.com"
QUICK = ProbeLimits(timeout=0.4, grace=0.2, head_start=0.05)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), "svc.default.svc")


@dataclass
class World:
    client: MemoryClient
    collectors: CollectorRegistry
    remote: RemoteAvailability
    local: LocalAvailability

    def condition(self, name: str = NAME) -> Object:
        obj = self.client.find(APISERVICES, name)
        return (conditions.get(obj) if obj else None) or {}

    def reason(self, name: str = NAME) -> str:
        return str(self.condition(name).get("reason", ""))

    def sample(self, metric: str, **labels: str) -> float | None:
        return self.collectors.get_sample_value(metric, labels)

    @property
    def status_writes(self) -> int:
        return sum(verb == "update_status" for verb, _ in self.client.writes)


@asynccontextmanager
async def world(
    *objects: Object, ask: ports.AskStatus | None = None, limits: ProbeLimits = QUICK
) -> AsyncIterator[World]:
    client = MemoryClient()
    for obj in objects:
        client.put(EXTERNALNAMES if obj["kind"] == "ExternalName" else APISERVICES, obj)
    apiservices, externalnames = informer(client, APISERVICES), informer(client, EXTERNALNAMES)
    collectors, connections = CollectorRegistry(), KeptConnections(UpstreamTLS())
    metrics = AvailabilityMetrics(collectors)
    writer = StatusWriter(client=client, metrics=metrics, now=time.time)
    remote = RemoteAvailability(
        apiservices=apiservices,
        externalnames=externalnames,
        prober=Prober(ask or connections.status, limits),
        writer=writer,
        metrics=metrics,
    )
    local = LocalAvailability(apiservices=apiservices, writer=writer)
    async with running(apiservices.run(), externalnames.run(), remote.run(), local.run(), connections.run()):
        yield World(client, collectors, remote, local)


async def test_a_server_goes_down_and_comes_back(certificates: Certificates) -> None:
    async with serving(lambda request: Reply(200), certificates) as server:
        port = server.port
        obj = apiservice("example.com", service="svc", port=port, ca=certificates.ca)
        async with world(obj, externalname("svc")) as subject:
            await until(lambda: subject.reason() == "Passed")
            assert subject.condition()["status"] == "True"
            assert subject.condition()["message"] == "all checks passed"
            assert subject.remote.synced.is_set()
            assert subject.sample("aggregator_unavailable_apiservice", name=NAME) == 0
            since = subject.condition()["lastTransitionTime"]
            assert since.endswith("Z")

            server.handler = lambda request: Reply(500)
            async with _reporting(subject):
                await until(lambda: subject.reason() == "FailedDiscoveryCheck")
            assert (
                f"bad status from https://127.0.0.1:{port}/apis/example.com/v1: 500" in subject.condition()["message"]
            )
            assert subject.sample("aggregator_unavailable_apiservice", name=NAME) == 1
            labels = {"name": NAME, "reason": "FailedDiscoveryCheck"}
            assert subject.sample("aggregator_unavailable_apiservice_total", **labels) == 1

            server.handler = lambda request: Reply(200)
            await until(lambda: subject.reason() == "Passed")
            assert subject.sample("aggregator_unavailable_apiservice", name=NAME) == 0
            assert subject.status_writes == 3


@asynccontextmanager
async def _reporting(subject: World) -> AsyncIterator[None]:
    """Report failures as the proxy does, for each request; they are ignored for a second after a check."""

    async def report() -> None:
        while True:
            subject.remote.report_failure(NAME)
            await asyncio.sleep(0.02)

    async with running(report()):
        yield


class Asked:
    """Answers checks from a list of codes, the last one for ever, and counts them."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.count = 0

    async def __call__(self, backend: Backend, path: str, *, headers: Any, timeout: float) -> int:
        self.count += 1
        return self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]


async def test_own_writes_do_not_cause_another_check() -> None:
    asked = Asked(200)
    async with world(apiservice("example.com", service="svc"), externalname("svc"), ask=asked) as subject:
        await until(lambda: subject.reason() == "Passed")
        await until(lambda: subject.sample("aggregator_unavailable_apiservice", name=NAME) == 0)
        subject.client.put(APISERVICES, apiservice("other.example", service="svc"))
        await until(lambda: subject.reason("v1.other.example") == "Passed")
    assert asked.count == 2
    assert subject.status_writes == 2


async def test_unchanged_condition_is_not_written() -> None:
    obj = apiservice("example.com", service="svc")
    passed = {"type": "Available", "status": "True", "reason": "Passed", "message": "all checks passed"}
    obj["status"] = {"conditions": [passed]}
    async with world(obj, externalname("svc"), ask=Asked(200)) as subject:
        await until(subject.remote.synced.is_set)
        assert subject.sample("aggregator_unavailable_apiservice", name=NAME) == 0
    assert subject.client.writes == []


async def test_missing_external_name_and_its_return() -> None:
    async with world(apiservice("example.com", service="svc"), ask=Asked(200)) as subject:
        await until(lambda: subject.reason() == "ServiceNotFound")
        assert subject.condition()["status"] == "False"
        assert subject.condition()["message"] == 'service/svc in "default" is not present'
        subject.client.put(EXTERNALNAMES, externalname("svc"))
        await until(lambda: subject.reason() == "Passed", 1)
        subject.client.drop(EXTERNALNAMES, "svc", "default")
        await until(lambda: subject.reason() == "ServiceNotFound", 1)
        labels = {"name": NAME, "reason": "ServiceNotFound"}
        assert subject.sample("aggregator_unavailable_apiservice_total", **labels) == 1


async def test_a_new_host_is_checked_at_once() -> None:
    asked = Asked(200)
    async with world(apiservice("example.com", service="svc"), externalname("svc"), ask=asked) as subject:
        await until(lambda: subject.reason() == "Passed")
        subject.client.put(EXTERNALNAMES, externalname("svc", "localhost"))
        await until(lambda: asked.count == 2, 1)


async def test_a_foreign_change_of_the_condition_is_corrected() -> None:
    async with world(apiservice("example.com", service="svc"), externalname("svc"), ask=Asked(200)) as subject:
        await until(lambda: subject.reason() == "Passed")
        obj = subject.client.find(APISERVICES, NAME)
        assert obj is not None
        lie = {"type": "Available", "status": "False", "reason": "Lie", "message": ""}
        subject.client.put(APISERVICES, {**obj, "status": {"conditions": [lie]}})
        await until(lambda: subject.reason() == "Passed", 1)


async def test_a_conflict_is_retried() -> None:
    conflict = status.conflict(GroupResource("apiregistration.k8s.io", "apiservices"), NAME)
    asked = Asked(200)
    async with world(externalname("svc"), ask=asked) as subject:
        subject.client.refuse = [conflict, conflict]
        subject.client.put(APISERVICES, apiservice("example.com", service="svc"))
        await until(lambda: subject.reason() == "Passed")
    assert subject.status_writes == 3
    assert asked.count == 1


async def test_a_refused_write_is_tried_again() -> None:
    async with world(externalname("svc"), ask=Asked(200)) as subject:
        subject.client.refuse = [status.internal_error("disk full")]
        subject.client.put(APISERVICES, apiservice("example.com", service="svc"))
        await until(lambda: subject.reason() == "Passed")
    assert subject.status_writes == 2


async def test_local_services_are_available_and_not_probed() -> None:
    asked = Asked(500)
    async with world(apiservice("example.com"), ask=asked) as subject:
        await until(lambda: subject.reason() == "Local")
        await until(subject.local.synced.is_set)
        assert subject.condition()["status"] == "True"
        assert subject.sample("aggregator_unavailable_apiservice", name=NAME) == 0
    assert asked.count == 0
    assert subject.status_writes == 1


async def test_a_local_service_registered_later_has_a_gauge_although_its_condition_was_set_on_creation() -> None:
    async with world(ask=Asked(500)) as subject:
        await until(subject.local.synced.is_set)
        now = conditions.with_condition(None, probe.LOCAL, 0.0)
        subject.client.put(APISERVICES, {**apiservice("example.com"), "status": now})
        await until(lambda: subject.sample("aggregator_unavailable_apiservice", name=NAME) == 0)
    assert subject.status_writes == 0


async def test_a_remote_service_becomes_local() -> None:
    async with world(apiservice("example.com", service="svc"), ask=Asked(200)) as subject:
        await until(lambda: subject.reason() == "ServiceNotFound")
        obj = subject.client.find(APISERVICES, NAME)
        assert obj is not None
        spec = {key: value for key, value in obj["spec"].items() if key != "service"}
        subject.client.put(APISERVICES, {**obj, "spec": spec})
        await until(lambda: subject.reason() == "Local")


async def test_deletion_drops_the_gauge_and_keeps_the_counter() -> None:
    asked = Asked(200)
    async with world(apiservice("example.com", service="svc"), externalname("svc"), ask=asked) as subject:
        await until(lambda: subject.reason() == "Passed")
        subject.client.drop(EXTERNALNAMES, "svc", "default")
        await until(lambda: subject.reason() == "ServiceNotFound")
        subject.client.drop(APISERVICES, NAME)
        await until(lambda: subject.sample("aggregator_unavailable_apiservice", name=NAME) is None)
        labels = {"name": NAME, "reason": "ServiceNotFound"}
        assert subject.sample("aggregator_unavailable_apiservice_total", **labels) == 1
        assert subject.sample("aggregator_apiservice_probes_total", name=NAME, reason="Passed") is None


async def test_a_hanging_server_does_not_delay_the_others(certificates: Certificates) -> None:
    async with (
        serving(lambda request: HANG, certificates) as stuck,
        serving(lambda request: Reply(200), certificates) as good,
    ):
        hanging = [
            apiservice(f"hangs{number}.example", service="svc", port=stuck.port, ca=certificates.ca)
            for number in range(8)
        ]
        fine = apiservice("zzz.example", service="svc", port=good.port, ca=certificates.ca)
        patient = ProbeLimits(timeout=3.0, grace=0.2, head_start=0.05)
        async with world(*hanging, fine, externalname("svc"), limits=patient) as subject:
            await until(lambda: subject.reason("v1.zzz.example") == "Passed")
            # The order tells, not the clock: nobody has given up on one of the others by now.
            assert not any(subject.reason(obj["metadata"]["name"]) for obj in hanging)
            await until(subject.remote.synced.is_set)
            assert all(subject.reason(obj["metadata"]["name"]) == "FailedDiscoveryCheck" for obj in hanging)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


async def test_reports_are_heeded_at_most_once_a_second_and_only_for_available_services() -> None:
    client = MemoryClient()
    client.put(APISERVICES, apiservice("example.com", service="svc"))
    client.put(EXTERNALNAMES, externalname("svc"))
    apiservices, externalnames = informer(client, APISERVICES), informer(client, EXTERNALNAMES)
    metrics = AvailabilityMetrics(CollectorRegistry())
    asked, clock = Asked(200), Clock()
    subject = RemoteAvailability(
        apiservices=apiservices,
        externalnames=externalnames,
        prober=Prober(asked, QUICK),
        writer=StatusWriter(client=client, metrics=metrics, now=time.time),
        metrics=metrics,
        monotonic=clock,
    )
    async with running(apiservices.run(), externalnames.run(), subject.run()):
        await until(lambda: asked.count == 1 and subject.synced.is_set())
        subject.report_failure(NAME)
        subject.report_failure("v1.unknown.example")
        clock.seconds += 0.9
        subject.report_failure(NAME)
        clock.seconds += 0.2
        for _ in range(100):
            subject.report_failure(NAME)
        await until(lambda: asked.count >= 2)
        assert asked.count == 2


async def test_a_report_right_after_a_check_waits_for_its_second() -> None:
    asked = Asked(200, 500, 200)
    async with world(apiservice("example.com", service="svc"), externalname("svc"), ask=asked) as subject:
        await until(lambda: subject.reason() == "Passed")
        started = time.monotonic()
        subject.remote.report_failure(NAME)
        await until(lambda: asked.count >= 2, 2)
        assert 0.8 < time.monotonic() - started < 1.5


async def test_the_return_of_a_server_is_seen_within_a_second() -> None:
    asked = Asked(*[500] * 20, 200)
    async with world(apiservice("example.com", service="svc"), externalname("svc"), ask=asked) as subject:
        await until(lambda: subject.reason() == "FailedDiscoveryCheck")
        assert asked.count == 5
        await asyncio.sleep(0.3)
        # A server that is known to be away is asked once per check.
        assert asked.count == 6
        asked.codes = [200]
        await until(lambda: subject.reason() == "Passed", 1.1)


async def test_a_flapping_server_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.api.availability.HINT_INTERVAL_SECONDS", 0.02)
    asked = Asked(200)
    messages: list[str] = []
    async with world(apiservice("example.com", service="svc"), externalname("svc"), ask=asked) as subject:

        def passed() -> bool:
            messages.append(str(subject.condition().get("message", "")))
            return subject.reason() == "Passed"

        await until(passed)
        for _ in range(3):
            asked.codes = [500]
            async with _reporting(subject):
                await until(lambda: subject.reason() == "FailedDiscoveryCheck", 3)
            before, asked.codes = asked.count, [200]
            await until(passed, 3)
        assert asked.count - before >= 2
    assert any(message.startswith("checks pass again, but it failed 3 times within 60 s") for message in messages)


def test_metrics_text() -> None:
    collectors = CollectorRegistry()
    metrics = AvailabilityMetrics(collectors)
    metrics.set_available("v1.a", True)
    metrics.set_available("v1.b", False)
    metrics.count_unavailable("v1.b", "Passed")
    metrics.count_unavailable("v1.b", "Passed")
    lines = [line for line in generate_latest(collectors).decode().splitlines() if "unavailable" in line]
    assert lines == [
        "# HELP aggregator_unavailable_apiservice [ALPHA] Gauge of APIServices which are marked as unavailable "
        "broken down by APIService name.",
        "# TYPE aggregator_unavailable_apiservice gauge",
        'aggregator_unavailable_apiservice{name="v1.a"} 0.0',
        'aggregator_unavailable_apiservice{name="v1.b"} 1.0',
        "# HELP aggregator_unavailable_apiservice_total [ALPHA] Counter of APIServices which are marked as "
        "unavailable broken down by APIService name and reason.",
        "# TYPE aggregator_unavailable_apiservice_total counter",
        'aggregator_unavailable_apiservice_total{name="v1.b",reason="Passed"} 2.0',
    ]
