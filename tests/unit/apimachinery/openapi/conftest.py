import pytest

from apimachinery.openapi.model import ResourceModel, SubresourceModel

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@pytest.fixture(name="widget")
def widget_fixture() -> ResourceModel:
    """Cluster-scoped, everything possible, nested schema, status."""
    return ResourceModel(
        group="shop.example.com",
        version="v1",
        kind="Widget",
        list_kind="WidgetList",
        plural="widgets",
        singular="widget",
        namespaced=False,
        verbs=ALL_VERBS,
        schema={
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "description": "What is wanted.",
                    "required": ["size"],
                    "properties": {
                        "size": {"type": "integer", "format": "int32", "minimum": 1, "default": 3},
                        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                        "note": {"type": "string", "nullable": True, "description": "Free text."},
                        "port": {
                            "x-kubernetes-int-or-string": True,
                            "anyOf": [{"type": "integer"}, {"type": "string"}],
                        },
                        "raw": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                            "properties": {"a": {"type": "string"}},
                        },
                        "labels": {"type": "object", "additionalProperties": {"type": "string", "nullable": True}},
                    },
                },
                "status": {"type": "object"},
            },
        },
        description="Widget is a thing.",
        has_status=True,
    )


@pytest.fixture(name="dummy")
def dummy_fixture() -> ResourceModel:
    """Namespaced, with a custom subresource."""
    return ResourceModel(
        group="shop.example.com",
        version="v1",
        kind="Dummy",
        list_kind="DummyList",
        plural="dummies",
        singular="dummy",
        namespaced=True,
        verbs=ALL_VERBS,
        schema={"type": "object", "properties": {"spec": {"type": "string"}}},
        subresources=(
            SubresourceModel(
                name="sub",
                kind="DummySub",
                schema={"type": "object", "properties": {"info": {"type": "string"}}},
                description="DummySub tells more.",
            ),
        ),
    )


@pytest.fixture(name="runtime")
def runtime_fixture() -> ResourceModel:
    """Virtual: list only, answered with one document."""
    return ResourceModel(
        group="other.example.com",
        version="v1beta1",
        kind="RuntimeInfo",
        list_kind="RuntimeInfoList",
        plural="runtime",
        singular="runtime",
        namespaced=False,
        verbs=("list",),
        schema={"type": "object", "properties": {"startupTime": {"type": "integer"}}},
        virtual=True,
    )
