"""The kinds behind the verbs of a server: what a client gets to see of their rules."""

import pytest

from aggregator.api import apiservice, externalname
from aggregator.api.refs import APISERVICES, EXTERNALNAMES
from apimachinery.status import APIError
from apimachinery.types import Object
from apiserver.client import LocalClient
from apiserver.registry import Registry
from apiserver.rest.context import Context
from apiserver.rest.dispatch import Verbs
from apiserver.storage.memory import MemoryStore


@pytest.fixture
def client() -> LocalClient:
    registry = Registry([apiservice.resource(lambda: 1_700_000_000.0), externalname.RESOURCE])
    return LocalClient(registry, Verbs(Context(store=MemoryStore())), manager="test")


def make(name: str, **spec: object) -> Object:
    return {"metadata": {"name": name}, "spec": spec}


async def test_every_cause_of_an_invalid_apiservice(client: LocalClient) -> None:
    obj = make("wrong", group="example.com", version="1", service={"name": "a", "port": 70000})
    with pytest.raises(APIError) as caught:
        await client.create(APISERVICES, "", obj)
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    assert caught.value.message.startswith('APIService.apiregistration.k8s.io "wrong" is invalid: [metadata.name: ')
    assert [(cause["field"], cause["reason"]) for cause in (caught.value.details or {})["causes"]] == [
        ("metadata.name", "FieldValueInvalid"),
        ("spec.version", "FieldValueInvalid"),
        ("spec.groupPriorityMinimum", "FieldValueInvalid"),
        ("spec.versionPriority", "FieldValueInvalid"),
        ("spec.service.namespace", "FieldValueRequired"),
        ("spec.service.port", "FieldValueInvalid"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [("..", "may not be '..'"), ("a/b", "may not contain '/'"), ("a%b", "may not contain '%'")],
)
async def test_a_name_that_is_no_path_segment_is_the_only_fault_of_the_name(
    name: str, text: str, client: LocalClient
) -> None:
    obj = make(name, group="example.com", version="v1", groupPriorityMinimum=1, versionPriority=1)
    with pytest.raises(APIError) as caught:
        await client.create(APISERVICES, "", obj)
    assert caught.value.message == (
        f'APIService.apiregistration.k8s.io "{name}" is invalid: metadata.name: Invalid value: "{name}": {text}'
    )


async def test_a_bundle_that_is_no_base64(client: LocalClient) -> None:
    obj = make("v1.example.com", group="example.com", version="v1", caBundle="not base64!")
    with pytest.raises(APIError) as caught:
        await client.create(APISERVICES, "", obj)
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")
    assert caught.value.message == (
        'APIService in version "v1" cannot be handled as a APIService: illegal base64 data at input byte 3'
    )


async def test_status_is_the_servers_on_create_and_update_and_the_clients_on_the_subresource(
    client: LocalClient,
) -> None:
    fields = {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}
    lie = {"conditions": [{"type": "Available", "status": "False"}]}
    created = await client.create(APISERVICES, "", {**make("v1.example.com", **fields), "status": lie})
    assert created["status"]["conditions"][0]["reason"] == "Local"
    assert "generation" not in created["metadata"]

    changed = {**created, "spec": {**fields, "versionPriority": 2}, "status": lie}
    updated = await client.update(APISERVICES, "", changed)
    assert updated["spec"]["versionPriority"] == 2
    assert updated["status"] == created["status"]

    spoofed = {**updated, "spec": {**fields, "versionPriority": 3}, "status": lie}
    written = await client.update_status(APISERVICES, "", spoofed)
    assert written["spec"]["versionPriority"] == 2
    assert written["status"] == lie

    bad = {**written, "status": {"conditions": [{"type": "Available", "status": "Maybe"}]}}
    with pytest.raises(APIError, match="supported values"):
        await client.update_status(APISERVICES, "", bad)

    with pytest.raises(APIError) as caught:
        await client.update(APISERVICES, "", changed)
    assert caught.value.reason == "Conflict"


async def test_update_without_resource_version_is_refused(client: LocalClient) -> None:
    obj = make("v1.example.com", group="example.com", version="v1", groupPriorityMinimum=1, versionPriority=1)
    await client.create(APISERVICES, "", obj)
    with pytest.raises(APIError) as caught:
        await client.update(APISERVICES, "", obj)
    assert caught.value.code == 422
    assert "metadata.resourceVersion" in caught.value.message


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({}, "spec.host: Required value"),
        ({"host": ""}, "spec.host: Required value: must be a DNS name or an IP address"),
        (
            {"host": "a:1"},
            'spec.host: Invalid value: "a:1": must be a host without a port; '
            "the port belongs to spec.service.port of the APIService",
        ),
    ],
)
async def test_an_invalid_external_name(spec: Object, text: str, client: LocalClient) -> None:
    with pytest.raises(APIError) as caught:
        await client.create(EXTERNALNAMES, "default", make("a", **spec))
    assert caught.value.message == f'ExternalName.service.grafana.app "a" is invalid: {text}'


async def test_an_external_name(client: LocalClient) -> None:
    obj = externalname.external_name("default", "a", "example.com")
    created = await client.create(EXTERNALNAMES, "default", obj)
    assert externalname.host(created) == "example.com"
    assert created["metadata"]["generation"] == 1
