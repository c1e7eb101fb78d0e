"""Automatic registration: the controller, the list of remote services and the completion check."""

import base64
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from aggregator.api.apiservice import AUTOMANAGED_LABEL
from aggregator.api.apiservice_strategy import APIServiceStrategy, validate
from aggregator.api.autoregister import AutoRegister
from aggregator.api.completion import CompletionCheck
from aggregator.api.desired import Mode
from aggregator.api.refs import APISERVICES, EXTERNALNAMES
from aggregator.api.remote_registration import (
    RegistrationSettings,
    RemoteRegistration,
    remote_apiservice,
    remote_external_name,
)
from apimachinery import status
from apimachinery.gvk import GroupVersion
from apimachinery.types import Object
from apiserver.informer import Informer
from tests.unit.aggregator.api_kit import MemoryClient, apiservice, externalname, informer, running, until

NAME = "v1.example.com"


@dataclass(frozen=True)
class Entry:
    group: str
    version: str = "v1"
    host: str = "host.example"
    port: int = 7443


def labelled(obj: Object, label: str) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "labels": {AUTOMANAGED_LABEL: label}}}


@dataclass
class World:
    client: MemoryClient
    apiservices: Informer
    externalnames: Informer
    subject: AutoRegister

    def spec(self, name: str = NAME) -> Object | None:
        found = self.client.find(APISERVICES, name)
        return found["spec"] if found else None


def prepare(*objects: Object) -> World:
    client = MemoryClient()
    for obj in objects:
        client.put(EXTERNALNAMES if obj["kind"] == "ExternalName" else APISERVICES, obj)
    apiservices = informer(client, APISERVICES)
    subject = AutoRegister(client=client, apiservices=apiservices)
    return World(client, apiservices, informer(client, EXTERNALNAMES), subject)


@asynccontextmanager
async def started(world: World) -> AsyncIterator[World]:
    async with running(world.apiservices.run(), world.externalnames.run(), world.subject.run()):
        await until(world.subject.synced.is_set)
        yield world


async def test_missing_ones_are_created_with_the_label_of_their_mode() -> None:
    world = prepare()
    world.subject.want(apiservice("once.example"), Mode.ON_START)
    world.subject.want(apiservice("always.example"), Mode.ALWAYS)
    async with started(world):
        created = {
            name: (world.client.find(APISERVICES, name) or {})["metadata"]["labels"][AUTOMANAGED_LABEL]
            for name in ("v1.once.example", "v1.always.example")
        }
    assert created == {"v1.once.example": "onstart", "v1.always.example": "true"}
    assert [verb for verb, _ in world.client.writes] == ["create", "create"]


async def test_a_deleted_one_comes_back_only_when_always_wanted() -> None:
    world = prepare()
    world.subject.want(apiservice("once.example"), Mode.ON_START)
    world.subject.want(apiservice("always.example"), Mode.ALWAYS)
    async with started(world):
        await until(lambda: len(world.apiservices.list()) == 2)
        world.client.drop(APISERVICES, "v1.once.example")
        world.client.drop(APISERVICES, "v1.always.example")
        await until(lambda: world.spec("v1.always.example"))
        assert world.spec("v1.once.example") is None


async def test_an_edited_spec_is_restored_only_when_always_wanted() -> None:
    world = prepare()
    world.subject.want(apiservice("once.example"), Mode.ON_START)
    world.subject.want(apiservice("always.example"), Mode.ALWAYS)
    async with started(world):
        await until(lambda: len(world.apiservices.list()) == 2)
        for group in ("once.example", "always.example"):
            name = f"v1.{group}"
            current = world.client.find(APISERVICES, name)
            assert current is not None
            world.client.put(APISERVICES, {**current, "spec": {**current["spec"], "versionPriority": 3}})
        await until(lambda: (world.spec("v1.always.example") or {}).get("versionPriority") == 15)
        assert (world.spec("v1.once.example") or {})["versionPriority"] == 3


async def test_at_start_specs_are_restored_and_leftovers_removed() -> None:
    unmanaged = apiservice("mine.example")
    world = prepare(
        labelled(apiservice("old.example"), "onstart"),
        labelled(apiservice("gone.example"), "true"),
        labelled(apiservice("example.com", priority=7), "onstart"),
        unmanaged,
    )
    world.subject.want(apiservice("example.com"), Mode.ON_START)
    world.subject.want(apiservice("mine.example", priority=9), Mode.ON_START)
    async with started(world):
        assert sorted(world.client.writes) == [
            ("delete", "v1.gone.example"),
            ("delete", "v1.old.example"),
            ("update", NAME),
        ]
        assert (world.spec() or {})["groupPriorityMinimum"] == 1000
        assert (world.spec("v1.mine.example") or {})["groupPriorityMinimum"] == 1000


async def test_an_unwanted_one_is_deleted_and_a_new_one_created_while_running() -> None:
    world = prepare()
    world.subject.want(apiservice("example.com"), Mode.ALWAYS)
    async with started(world):
        await until(lambda: world.apiservices.get("", NAME))
        world.subject.unwant(NAME)
        await until(lambda: world.spec() is None)
        world.subject.want(apiservice("example.com"), Mode.ALWAYS)
        await until(lambda: world.spec() is not None)


async def test_a_failure_is_tried_again_before_the_pass_counts() -> None:
    world = prepare()
    world.client.refuse = [status.internal_error("disk full"), status.internal_error("disk full")]
    world.subject.want(apiservice("example.com"), Mode.ON_START)
    async with started(world):
        assert world.spec() is not None
    assert world.client.writes == [("create", NAME)] * 3


@pytest.mark.parametrize("reason", ["NotFound", "Conflict"])
async def test_a_lost_race_on_deletion_is_no_failure(reason: str) -> None:
    world = prepare(labelled(apiservice("example.com"), "onstart"))
    world.client.refuse = [status.APIError(404 if reason == "NotFound" else 409, reason, "lost")]
    async with started(world):
        pass
    assert world.client.writes == [("delete", NAME)]


async def test_nothing_to_do_is_synced_at_once() -> None:
    async with started(prepare()):
        pass


async def test_replacing_a_remote_one_by_a_local_one_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    world = prepare(labelled(apiservice("example.com", service="svc", port=7443), "onstart"))
    world.subject.want(apiservice("example.com"), Mode.ON_START)
    with caplog.at_level(logging.WARNING):
        async with started(world):
            assert "service" not in (world.spec() or {})
    assert [record.getMessage() for record in caplog.records] == [
        "apiservice of a remote server is replaced by a local one"
    ]


BUNDLE = b"-----BEGIN CERTIFICATE-----"


@pytest.mark.parametrize(
    ("settings", "trust"),
    [
        (RegistrationSettings(bundle=BUNDLE), {"caBundle": base64.b64encode(BUNDLE).decode()}),
        (RegistrationSettings(bundle=BUNDLE, dev_mode=True), {"caBundle": base64.b64encode(BUNDLE).decode()}),
        (RegistrationSettings(), {}),
        (RegistrationSettings(dev_mode=True), {"insecureSkipTLSVerify": True}),
    ],
    ids=["bundle", "bundle in dev mode", "system roots", "dev mode"],
)
def test_remote_apiservice(settings: RegistrationSettings, trust: Object) -> None:
    obj = remote_apiservice(Entry("example.com"), 2, settings)
    assert obj["metadata"] == {"name": NAME}
    assert obj["spec"] == {
        "group": "example.com",
        "version": "v1",
        "groupPriorityMinimum": 16000,
        "versionPriority": 3,
        "service": {"name": NAME, "namespace": "default", "port": 7443},
        **trust,
    }
    APIServiceStrategy(lambda: 0).default(obj)
    assert validate(obj) == []


def test_the_version_priority_of_a_long_list_stays_valid() -> None:
    obj = remote_apiservice(Entry("example.com"), 5000, RegistrationSettings())
    assert validate(obj) == []


def test_remote_external_name() -> None:
    obj = remote_external_name(Entry("example.com"), RegistrationSettings(namespace="remote"))
    assert (obj["metadata"]["namespace"], obj["metadata"]["name"]) == ("remote", NAME)
    assert obj["spec"] == {"host": "host.example"}


def registration(
    world: World, *services: Entry, local: tuple[GroupVersion, ...] = (), bundle: bytes | None = None
) -> RemoteRegistration:
    return RemoteRegistration(
        services=services,
        settings=RegistrationSettings(bundle=bundle),
        local=local,
        client=world.client,
        externalnames=world.externalnames,
        apiservices=world.apiservices,
        autoregister=world.subject,
    )


async def test_listed_services_are_registered_and_applied_once() -> None:
    world = prepare()
    subject = registration(world, Entry("a.example"), Entry("b.example", "v2"))
    subject.prepare()
    async with started(world), running(subject.run()):
        await until(subject.synced.is_set)
    assert subject.names == ["v1.a.example", "v2.b.example"]
    assert (world.spec("v2.b.example") or {})["versionPriority"] == 2
    applied = world.client.find(EXTERNALNAMES, "v1.a.example", "default")
    assert applied is not None
    assert applied["spec"] == {"host": "host.example"}
    assert world.client.writes.count(("apply as grafana-aggregator", "v1.a.example")) == 1


def bundle_of(world: World, name: str) -> bytes:
    return base64.b64decode((world.spec(name) or {})["caBundle"])


async def test_another_bundle_is_put_into_what_was_registered_with_the_former_one() -> None:
    world = prepare()
    subject = registration(world, Entry("a.example"), Entry("b.example"), Entry("c.example"), bundle=b"one")
    subject.prepare()
    async with started(world), running(subject.run()), running(subject.follow_bundle()):
        await until(subject.synced.is_set)
        assert not subject.use_bundle(b"one")
        taken = world.client.find(APISERVICES, "v1.b.example")
        by_hand = world.client.find(APISERVICES, "v1.c.example")
        assert taken is not None
        assert by_hand is not None
        world.client.put(APISERVICES, {**taken, "metadata": {**taken["metadata"], "labels": {}}})
        mine = base64.b64encode(b"by hand").decode()
        world.client.put(APISERVICES, {**by_hand, "spec": {**by_hand["spec"], "caBundle": mine}})
        world.client.refuse.append(status.APIError(409, "Conflict", "somebody else was first"))
        assert subject.use_bundle(b"one and two")
        await until(lambda: bundle_of(world, "v1.a.example") == b"one and two")
        assert subject.use_bundle(b"two")
        await until(lambda: bundle_of(world, "v1.a.example") == b"two")
    assert bundle_of(world, "v1.b.example") == b"one"
    assert bundle_of(world, "v1.c.example") == b"by hand"


async def test_a_bundle_that_comes_before_the_registration_is_used_by_it() -> None:
    world = prepare()
    subject = registration(world, Entry("a.example"), bundle=b"one")
    subject.prepare()
    subject.use_bundle(b"two")
    async with started(world), running(subject.run()), running(subject.follow_bundle()):
        await until(subject.synced.is_set)
    assert bundle_of(world, "v1.a.example") == b"two"
    assert world.client.writes.count(("update", "v1.a.example")) == 0


async def test_what_is_listed_no_more_is_removed_with_its_external_name() -> None:
    gone = remote_external_name(Entry("gone.example"), RegistrationSettings())
    used = remote_external_name(Entry("used.example"), RegistrationSettings())
    world = prepare(
        labelled(remote_apiservice(Entry("gone.example"), 0, RegistrationSettings()), "onstart"),
        gone,
        apiservice("mine.example", service="v1.used.example"),
        used,
        externalname("by-hand"),
    )
    subject = registration(world, Entry("kept.example"))
    subject.prepare()
    async with started(world), running(subject.run()):
        await until(subject.synced.is_set)
    assert world.spec("v1.gone.example") is None
    kept = sorted(name for ref, _, name in world.client.objects if ref == EXTERNALNAMES)
    assert kept == ["by-hand", "v1.kept.example", "v1.used.example"]


async def test_a_local_group_version_wins_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    world = prepare()
    subject = registration(world, Entry("a.example"), Entry("b.example"), local=(GroupVersion("a.example", "v1"),))
    world.subject.want(apiservice("a.example"), Mode.ON_START)
    with caplog.at_level(logging.WARNING):
        subject.prepare()
        async with started(world), running(subject.run()):
            await until(subject.synced.is_set)
    assert subject.names == ["v1.b.example"]
    assert "service" not in (world.spec("v1.a.example") or {})
    assert "service" in (world.spec("v1.b.example") or {})
    assert [record.getMessage() for record in caplog.records] == [
        "remote service ignored: this server serves its group version itself"
    ]


async def test_a_failed_apply_is_tried_again() -> None:
    world = prepare()
    subject = registration(world, Entry("a.example"))
    async with started(world):
        world.client.refuse = [status.internal_error("disk full")]
        async with running(subject.run()):
            await until(subject.synced.is_set)
    assert world.client.find(EXTERNALNAMES, "v1.a.example", "default") is not None


async def test_completion_check_remembers_what_was_available_once() -> None:
    world = prepare(apiservice("a.example"), apiservice("b.example"))
    check = CompletionCheck(world.apiservices, lambda: ["v1.b.example", "v1.a.example", "v1.c.example"])
    assert check.check() == "missing APIService: [v1.a.example v1.b.example v1.c.example]"

    def mark(name: str, value: str) -> None:
        obj = world.client.find(APISERVICES, name)
        assert obj is not None
        world.client.put(APISERVICES, {**obj, "status": {"conditions": [{"type": "Available", "status": value}]}})

    async with running(world.apiservices.run()):
        await until(world.apiservices.synced.is_set)
        mark("v1.a.example", "True")
        await until(lambda: check.check() == "missing APIService: [v1.b.example v1.c.example]")
        mark("v1.a.example", "False")
        mark("v1.b.example", "True")
        await until(lambda: check.check() == "missing APIService: [v1.c.example]")
        world.client.put(APISERVICES, apiservice("c.example"))
        mark("v1.c.example", "True")
        await until(lambda: check.check() is None)
