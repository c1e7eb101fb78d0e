from collections.abc import Iterator
from typing import Any

import pytest

from apimachinery.gvk import GroupVersion
from apimachinery.openapi import root, v3
from apimachinery.openapi.model import ResourceModel
from apimachinery.types import Object

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
PATCH_TYPES = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
]
GVK = "x-kubernetes-group-version-kind"


def build(*models: ResourceModel) -> Object:
    return v3.build(models[0].group_version, models, title="shop", version="v1.2.3")


def operations(document: Object) -> Iterator[tuple[str, str, Object]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def parameter_names(document: Object) -> list[str]:
    return [parameter["name"] for parameter in document.get("parameters", [])]


def test_envelope(widget: ResourceModel) -> None:
    document = build(widget)
    assert document["openapi"] == "3.0.0"
    assert document["info"] == {"title": "shop", "version": "v1.2.3"}


def test_paths_and_methods(widget: ResourceModel, dummy: ResourceModel) -> None:
    base = "/apis/shop.example.com/v1"
    item = f"{base}/namespaces/{{namespace}}/dummies/{{name}}"
    found = {
        path: sorted(method for other, method, _ in operations(build(widget, dummy)) if other == path)
        for path, _, _ in operations(build(widget, dummy))
    }
    assert found == {
        f"{base}/": ["get"],
        f"{base}/dummies": ["get"],
        f"{base}/namespaces/{{namespace}}/dummies": ["delete", "get", "post"],
        item: ["delete", "get", "patch", "put"],
        f"{item}/sub": ["get"],
        f"{base}/widgets": ["delete", "get", "post"],
        f"{base}/widgets/{{name}}": ["delete", "get", "patch", "put"],
        f"{base}/widgets/{{name}}/status": ["get", "patch", "put"],
    }


def test_virtual_resource_is_only_listed_and_is_its_own_answer(runtime: ResourceModel) -> None:
    document = build(runtime)
    path = "/apis/other.example.com/v1beta1/runtime"
    assert list(document["paths"]) == ["/apis/other.example.com/v1beta1/", path]
    operation = document["paths"][path]["get"]
    assert operation[GVK] == {"group": "other.example.com", "version": "v1beta1", "kind": "RuntimeInfo"}
    name = "com.example.other.v1beta1.RuntimeInfo"
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": f"#/components/schemas/{name}"
    }
    assert "watch" not in parameter_names(operation)
    assert set(document["components"]["schemas"][name]["properties"]) == {"apiVersion", "kind", "startupTime"}
    assert f"{name}List" not in document["components"]["schemas"]


def test_every_reference_resolves(widget: ResourceModel, dummy: ResourceModel) -> None:
    document = build(widget, dummy)
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    found = set(references(document))
    assert found
    assert found <= names


def test_operation_ids_are_unique(widget: ResourceModel, dummy: ResourceModel) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(build(widget, dummy))]
    assert len(ids) == len(set(ids))
    assert "createShopExampleComV1NamespacedDummy" in ids
    assert "listShopExampleComV1DummyForAllNamespaces" in ids
    assert "patchShopExampleComV1WidgetStatus" in ids


def test_path_parameters_are_declared(widget: ResourceModel, dummy: ResourceModel) -> None:
    for path, item in build(widget, dummy)["paths"].items():
        declared = {p["name"] for p in item.get("parameters", []) if p["in"] == "path" and p["required"] is True}
        assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}


@pytest.mark.parametrize("path", ["widgets/{name}", "widgets/{name}/status"])
def test_patch_tells_kubectl_what_the_server_can(widget: ResourceModel, path: str) -> None:
    operation = build(widget)["paths"][f"/apis/shop.example.com/v1/{path}"]["patch"]
    assert operation[GVK] == {"group": "shop.example.com", "version": "v1", "kind": "Widget"}
    assert operation["x-kubernetes-action"] == "patch"
    assert parameter_names(operation) == ["dryRun", "fieldManager", "fieldValidation", "force"]
    assert list(operation["requestBody"]["content"]) == PATCH_TYPES


@pytest.mark.parametrize(
    ("method", "path", "names"),
    [
        ("post", "widgets", ["dryRun", "fieldManager", "fieldValidation"]),
        ("put", "widgets/{name}", ["dryRun", "fieldManager", "fieldValidation"]),
        (
            "delete",
            "widgets/{name}",
            ["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"],
        ),
        (
            "get",
            "widgets",
            [
                "continue",
                "fieldSelector",
                "labelSelector",
                "limit",
                "resourceVersion",
                "resourceVersionMatch",
                "timeoutSeconds",
                "allowWatchBookmarks",
                "sendInitialEvents",
                "watch",
            ],
        ),
    ],
)
def test_query_parameters(widget: ResourceModel, method: str, path: str, names: list[str]) -> None:
    item = build(widget)["paths"][f"/apis/shop.example.com/v1/{path}"]
    assert parameter_names(item[method]) == names
    assert "pretty" in parameter_names(item)


def test_resource_schema(widget: ResourceModel) -> None:
    schemas = build(widget)["components"]["schemas"]
    schema = schemas["com.example.shop.v1.Widget"]
    assert schema["description"] == "Widget is a thing."
    assert schema[GVK] == [{"group": "shop.example.com", "version": "v1", "kind": "Widget"}]
    assert list(schema["properties"]) == ["apiVersion", "kind", "metadata", "spec", "status"]
    assert schema["properties"]["metadata"]["allOf"] == [{"$ref": f"#/components/schemas/{META}ObjectMeta"}]
    assert schema["properties"]["metadata"]["description"]
    assert schema["properties"]["spec"] == widget.schema["properties"]["spec"]
    listing = schemas["com.example.shop.v1.WidgetList"]
    assert listing[GVK] == [{"group": "shop.example.com", "version": "v1", "kind": "WidgetList"}]
    assert listing["required"] == ["items"]
    assert listing["properties"]["items"]["items"] == {"$ref": "#/components/schemas/com.example.shop.v1.Widget"}


def test_subresource_schema(dummy: ResourceModel) -> None:
    document = build(dummy)
    schema = document["components"]["schemas"]["com.example.shop.v1.DummySub"]
    assert list(schema["properties"]) == ["apiVersion", "info", "kind"]
    assert schema["description"] == "DummySub tells more."
    path = "/apis/shop.example.com/v1/namespaces/{namespace}/dummies/{name}/sub"
    assert document["paths"][path]["get"][GVK]["kind"] == "DummySub"


def test_everything_is_described(widget: ResourceModel) -> None:
    schemas = build(widget)["components"]["schemas"]
    for name, schema in schemas.items():
        assert schema.get("description"), name
    for name in ("ListMeta", "Status", "StatusDetails", "DeleteOptions", "Preconditions", "ObjectMeta"):
        for field, member in schemas[META + name]["properties"].items():
            assert member.get("description"), f"{name}.{field}"


def test_inputs_are_not_mutated(widget: ResourceModel) -> None:
    before = repr(widget)
    first = build(widget)
    assert build(widget) == first
    assert repr(widget) == before


def test_core_group_has_a_legal_document() -> None:
    model = ResourceModel(
        group="",
        version="v1",
        kind="Thing",
        list_kind="ThingList",
        plural="things",
        singular="thing",
        namespaced=False,
        verbs=("get",),
        schema={},
    )
    document = v3.build(GroupVersion("", "v1"), [model], title="t", version="v")
    assert list(document["paths"]) == ["/api/v1/", "/api/v1/things/{name}"]
    assert document["paths"]["/api/v1/things/{name}"]["get"]["tags"] == ["core_v1"]
    assert "core.v1.Thing" in document["components"]["schemas"]


def test_root() -> None:
    assert root.root({"version": "BB", "apis/g/v1": "AA"}) == {
        "paths": {
            "apis/g/v1": {"serverRelativeURL": "/openapi/v3/apis/g/v1?hash=AA"},
            "version": {"serverRelativeURL": "/openapi/v3/version?hash=BB"},
        }
    }
