"""The official Python client: typed custom objects and the dynamic client, unmodified, with watches."""

import itertools
from collections.abc import Iterator
from typing import Any

import kubernetes.client
import kubernetes.config
import kubernetes.dynamic
import kubernetes.watch
import pytest

from tests.clients.matrix import Matrix
from tests.support.local_stack import LocalStack

# Typed in parts only, and more narrowly than it behaves: everything in it that may be left out is optional.
client: Any = kubernetes.client
config: Any = kubernetes.config
dynamic: Any = kubernetes.dynamic
watch: Any = kubernetes.watch
ApiException: Any = kubernetes.client.ApiException


@pytest.fixture(scope="module")
def api(stack: LocalStack) -> Iterator[Any]:
    with config.new_client_from_config(config_file=str(stack.kubeconfig)) as made:
        yield made


@pytest.fixture
def where(matrix: Matrix) -> tuple[str, str, str, str]:
    """Group, version, namespace and plural: how the custom objects API names a collection."""
    return matrix.sample.group, matrix.sample.version, matrix.namespace, matrix.sample.plural


def test_custom_objects(api: Any, matrix: Matrix, where: tuple[str, str, str, str]) -> None:
    objects = client.CustomObjectsApi(api)
    made = objects.create_namespaced_custom_object(*where, matrix.document("a", labels={"x": "y"}))
    assert made["metadata"]["resourceVersion"]
    merged = objects.patch_namespaced_custom_object(*where, "a", matrix.sample.text("b.example.com"))
    assert merged["metadata"]["generation"] == 2
    objects.patch_namespaced_custom_object(
        *where,
        "a",
        [{"op": "replace", "path": matrix.sample.pointer, "value": "c.example.com"}],
        _content_type="application/json-patch+json",
    )
    assert matrix.value("a") == "c.example.com"
    changed = objects.get_namespaced_custom_object(*where, "a")
    changed.update(matrix.sample.text("d.example.com"))
    replaced = objects.replace_namespaced_custom_object(*where, "a", changed)
    with pytest.raises(ApiException, match="the object has been modified") as conflict:
        objects.replace_namespaced_custom_object(*where, "a", changed)
    assert conflict.value.status == 409
    assert replaced["metadata"]["generation"] == 4
    listed = objects.list_namespaced_custom_object(*where, label_selector="x=y", limit=1)
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]
    gone = objects.delete_namespaced_custom_object(
        *where, "a", body=client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=made["metadata"]["uid"]))
    )
    assert gone["details"]["uid"] == made["metadata"]["uid"]
    with pytest.raises(ApiException) as missing:
        objects.get_namespaced_custom_object(*where, "a")
    assert missing.value.status == 404


def test_pages_and_delete_of_a_collection(api: Any, matrix: Matrix, where: tuple[str, str, str, str]) -> None:
    objects = client.CustomObjectsApi(api)
    names = [f"n{number}" for number in range(5)]
    for name in names:
        objects.create_namespaced_custom_object(*where, matrix.document(name))
    seen: list[str] = []
    token = ""
    while True:
        page = objects.list_namespaced_custom_object(*where, limit=2, _continue=token)
        seen += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
        if not token:
            break
        assert page["metadata"]["remainingItemCount"] == 5 - len(seen)
    assert seen == names
    objects.delete_collection_namespaced_custom_object(*where, label_selector="!keep")
    assert objects.list_namespaced_custom_object(*where)["items"] == []


def test_watch(api: Any, matrix: Matrix, where: tuple[str, str, str, str]) -> None:
    objects = client.CustomObjectsApi(api)
    objects.create_namespaced_custom_object(*where, matrix.document("a"))
    since = objects.list_namespaced_custom_object(*where)["metadata"]["resourceVersion"]
    objects.patch_namespaced_custom_object(*where, "a", {"metadata": {"labels": {"x": "y"}}})
    objects.delete_namespaced_custom_object(*where, "a")
    stream = watch.Watch().stream(
        objects.list_namespaced_custom_object, *where, resource_version=since, timeout_seconds=1
    )
    events = [(event["type"], event["object"]["metadata"]["labels"]) for event in stream]
    assert events == [("MODIFIED", {"x": "y"}), ("DELETED", {"x": "y"})]


def test_expired_watch(api: Any, where: tuple[str, str, str, str]) -> None:
    objects = client.CustomObjectsApi(api)
    with pytest.raises(ApiException) as refused:
        list(watch.Watch().stream(objects.list_namespaced_custom_object, *where, resource_version="abc"))
    assert refused.value.status == 500


@pytest.fixture(scope="module")
def dynamic_client(api: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return dynamic.DynamicClient(api, cache_file=str(tmp_path_factory.mktemp("dynamic") / "cache.json"))


def test_dynamic_client(dynamic_client: Any, matrix: Matrix) -> None:
    resource = dynamic_client.resources.get(api_version=matrix.sample.api_version, kind=matrix.sample.kind)
    body = matrix.document("a")
    made = resource.create(body=body, namespace=matrix.namespace)
    assert made.metadata.uid
    applied = dynamic_client.server_side_apply(
        resource, body=matrix.document("a", "b.example.com"), field_manager="tester", force_conflicts=True
    )
    assert {entry.manager for entry in applied.metadata.managedFields} >= {"tester"}
    resource.patch(
        name="a",
        namespace=matrix.namespace,
        body={"metadata": {"labels": {"x": "y"}}},
        content_type="application/merge-patch+json",
    )
    found = resource.get(namespace=matrix.namespace, label_selector="x=y")
    assert [item.metadata.name for item in found.items] == ["a"]
    events: Iterator[Any] = resource.watch(namespace=matrix.namespace, resource_version="0", timeout=3)
    assert [event["type"] for event in itertools.islice(events, 1)] == ["ADDED"]
    resource.delete(name="a", namespace=matrix.namespace)
    with pytest.raises(dynamic.exceptions.NotFoundError):
        resource.get(name="a", namespace=matrix.namespace)


def test_dynamic_client_sees_status_and_short_documents(dynamic_client: Any) -> None:
    services = dynamic_client.resources.get(api_version="apiregistration.k8s.io/v1", kind="APIService")
    names = {item.metadata.name: item.status.conditions[0].status for item in services.get().items}
    assert names["v0alpha1.example.grafana.app"] == "True"
    assert services.status.get(name="v0alpha1.example.grafana.app").kind == "APIService"


def test_typed_apiregistration(api: Any) -> None:
    typed = client.ApiregistrationV1Api(api)
    found = typed.read_api_service("v0alpha1.example.grafana.app")
    assert found.status.conditions[0].type == "Available"
    assert found.metadata.creation_timestamp.tzinfo is not None
    assert "v0alpha1.service.grafana.app" in {item.metadata.name for item in typed.list_api_service().items}
    body = client.V1APIService(
        metadata=client.V1ObjectMeta(name="v2.typed.example.com"),
        spec=client.V1APIServiceSpec(
            group="typed.example.com",
            version="v2",
            group_priority_minimum=10,
            version_priority=10,
            service=client.ApiregistrationV1ServiceReference(namespace="default", name="nowhere"),
        ),
    )
    assert typed.create_api_service(body).metadata.uid
    typed.delete_api_service("v2.typed.example.com")
    with pytest.raises(ApiException, match="not found"):
        typed.read_api_service("v2.typed.example.com")


def test_versions_and_groups(api: Any) -> None:
    assert client.VersionApi(api).get_code().git_version.startswith("v1.")
    groups = {group.name: group.preferred_version.version for group in client.ApisApi(api).get_api_versions().groups}
    assert groups["example.grafana.app"] == "v0alpha1"
