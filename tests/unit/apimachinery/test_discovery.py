import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery import discovery
from apimachinery.discovery import APIResource, GroupVersionEntry
from apimachinery.gvk import GroupVersion, version_sort_key

FOOS = APIResource(
    name="foos",
    kind="Foo",
    namespaced=True,
    verbs=("get", "list"),
    singular="foo",
    short_names=("fo",),
    categories=("all",),
    group="g.io",
    version="v1",
)
STATUS = APIResource(name="foos/status", kind="Foo", namespaced=True, verbs=("get",), group="g.io", version="v1")
SCALE = APIResource(name="foos/scale", kind="Scale", namespaced=True, verbs=("get",), group="autoscaling", version="v1")
NODES = APIResource(name="nodes", kind="Node", namespaced=False, verbs=("list",), group="g.io", version="v1")


def test_resource_list() -> None:
    assert discovery.resource_list(GroupVersion("g.io", "v1"), [FOOS, SCALE, NODES]) == {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": "g.io/v1",
        "resources": [
            {
                "name": "foos",
                "singularName": "foo",
                "namespaced": True,
                "kind": "Foo",
                "verbs": ["get", "list"],
                "shortNames": ["fo"],
                "categories": ["all"],
            },
            {
                "name": "foos/scale",
                "singularName": "",
                "namespaced": True,
                "kind": "Scale",
                "verbs": ["get"],
                "group": "autoscaling",
                "version": "v1",
            },
            {"name": "nodes", "singularName": "", "namespaced": False, "kind": "Node", "verbs": ["list"]},
        ],
    }


FOOS_DOCUMENT = {
    "resource": "foos",
    "responseKind": {"group": "g.io", "version": "v1", "kind": "Foo"},
    "scope": "Namespaced",
    "singularResource": "foo",
    "verbs": ["get", "list"],
    "shortNames": ["fo"],
    "categories": ["all"],
    "subresources": [
        {
            "subresource": "status",
            "responseKind": {"group": "g.io", "version": "v1", "kind": "Foo"},
            "verbs": ["get"],
        },
        {
            "subresource": "scale",
            "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
            "verbs": ["get"],
        },
    ],
}
NODES_DOCUMENT = {
    "resource": "nodes",
    "responseKind": {"group": "g.io", "version": "v1", "kind": "Node"},
    "scope": "Cluster",
    "singularResource": "",
    "verbs": ["list"],
}


@pytest.mark.parametrize(
    "resources",
    [[FOOS, STATUS, SCALE, NODES], [FOOS, NODES, STATUS, SCALE]],
    ids=["beside", "apart"],
)
def test_version_document(resources: list[APIResource]) -> None:
    assert discovery.version_document("v1", resources) == {
        "version": "v1",
        "freshness": "Current",
        "resources": [FOOS_DOCUMENT, NODES_DOCUMENT],
    }


def test_version_document_subresource_first() -> None:
    document = discovery.version_document("v1", [STATUS, SCALE, FOOS], "Stale")
    assert document == {"version": "v1", "freshness": "Stale", "resources": [FOOS_DOCUMENT]}


def test_version_document_subresource_alone() -> None:
    resource = discovery.version_document("v1", [STATUS])["resources"][0]
    assert resource["resource"] == "foos"
    assert resource["responseKind"] == {"group": "", "version": "", "kind": ""}
    assert resource["scope"] == "Namespaced"
    assert [sub["subresource"] for sub in resource["subresources"]] == ["status"]


def test_version_document_scope_mismatch() -> None:
    wrong = APIResource(name="nodes/x", kind="X", namespaced=True, verbs=())
    with pytest.raises(ValueError, match=r"^subresource nodes/x differs in scope from its resource$"):
        discovery.version_document("v1", [NODES, wrong])


def test_legacy_list_says_the_same() -> None:
    resources = [FOOS, STATUS, SCALE, NODES]
    legacy = discovery.resource_list(GroupVersion("g.io", "v1"), resources)
    assert discovery.version_document_from_legacy(legacy) == discovery.version_document("v1", resources)


NAMES = st.text("abc", min_size=1, max_size=3)
RESOURCES = st.builds(
    APIResource,
    name=NAMES,
    kind=NAMES,
    namespaced=st.booleans(),
    verbs=st.lists(NAMES, max_size=2).map(tuple),
    singular=NAMES,
    short_names=st.lists(NAMES, max_size=2).map(tuple),
    group=st.just("g.io") | NAMES,
    version=st.sampled_from(["v1", "v2"]),
)


@given(st.lists(RESOURCES, max_size=5))
def test_any_legacy_list_says_the_same(resources: list[APIResource]) -> None:
    legacy = discovery.resource_list(GroupVersion("g.io", "v1"), resources)
    assert discovery.version_document_from_legacy(legacy) == discovery.version_document("v1", resources)


@pytest.mark.parametrize(
    "document",
    [
        {"groupVersion": "a/b/c"},
        {"groupVersion": 5},
        {"groupVersion": "g/v1", "resources": {}},
        {"groupVersion": "g/v1", "resources": ["foos"]},
        {"groupVersion": "g/v1", "resources": [{"name": 5}]},
        {"groupVersion": "g/v1", "resources": [{"name": "a", "verbs": "get"}]},
        {"groupVersion": "g/v1", "resources": [{"name": "a", "verbs": [1]}]},
    ],
    ids=str,
)
def test_malformed_legacy_list(document: Any) -> None:
    with pytest.raises(ValueError):
        discovery.version_document_from_legacy(document)


def test_empty_legacy_list() -> None:
    assert discovery.version_document_from_legacy({"groupVersion": "g/v1", "resources": None}) == {
        "version": "v1",
        "freshness": "Current",
        "resources": [],
    }


def entry(
    group: str, version: str, group_priority: int = 1000, version_priority: int = 15, source: int = 0, mark: str = ""
) -> GroupVersionEntry:
    return GroupVersionEntry(
        group=group,
        version=version,
        document={"version": version, "mark": mark},
        group_priority=group_priority,
        version_priority=version_priority,
        source=source,
    )


def order(document: dict[str, Any]) -> list[tuple[str, list[str]]]:
    return [(item["metadata"]["name"], [doc["version"] for doc in item["versions"]]) for item in document["items"]]


def plain_order(document: dict[str, Any]) -> list[tuple[str, list[str]]]:
    return [(item["name"], [doc["version"] for doc in item["versions"]]) for item in document["groups"]]


@pytest.mark.parametrize(
    ("entries", "aggregated", "plain"),
    [
        pytest.param([], [], [], id="none"),
        pytest.param(
            [entry("b", "v1"), entry("a", "v1", 2000), entry("c", "v1", 2000)],
            [("a", ["v1"]), ("c", ["v1"]), ("b", ["v1"])],
            [("a", ["v1"]), ("c", ["v1"]), ("b", ["v1"])],
            id="group priority, then name",
        ),
        pytest.param(
            [entry("a", "v1beta1"), entry("b", "v1")],
            [("a", ["v1beta1"]), ("b", ["v1"])],
            [("b", ["v1"]), ("a", ["v1beta1"])],
            id="ties differ: object names begin with the version",
        ),
        pytest.param(
            [entry("a", "v1", 10), entry("a", "v2", 3000), entry("b", "v1", 2000)],
            [("a", ["v2", "v1"]), ("b", ["v1"])],
            [("a", ["v2", "v1"]), ("b", ["v1"])],
            id="the best version places the group",
        ),
        pytest.param(
            [
                entry("g", version)
                for version in [
                    "foo10",
                    "v11alpha2",
                    "v12alpha1",
                    "v3beta1",
                    "foo1",
                    "v10beta3",
                    "v11beta2",
                    "v1",
                    "v10",
                    "v2",
                ]
            ],
            [("g", ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"])],
            [("g", ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"])],
            id="kube-aware versions",
        ),
        pytest.param(
            [entry("g", "v1"), entry("g", "v1alpha1", version_priority=100)],
            [("g", ["v1alpha1", "v1"])],
            [("g", ["v1alpha1", "v1"])],
            id="version priority before version",
        ),
        pytest.param(
            [entry("", "v1", 18000), entry("g", "v1")],
            [("", ["v1"]), ("g", ["v1"])],
            [("g", ["v1"])],
            id="legacy group",
        ),
    ],
)
def test_order(
    entries: list[GroupVersionEntry], aggregated: list[tuple[str, list[str]]], plain: list[tuple[str, list[str]]]
) -> None:
    for arrangement in (entries, entries[::-1]):
        assert order(discovery.merge(arrangement)) == aggregated
        assert plain_order(discovery.group_list(arrangement)) == plain


def test_merge_lowest_source_wins_each_version() -> None:
    entries = [
        entry("g", "v1", source=200, mark="crd", group_priority=9000),
        entry("g", "v1", source=0, mark="aggregator"),
        entry("g", "v2", source=100, mark="builtin"),
        entry("h", "v1", group_priority=2000),
    ]
    document = discovery.merge(entries)
    # The losing source does not lend its priority either.
    assert [item["metadata"]["name"] for item in document["items"]] == ["h", "g"]
    assert document["items"][1]["versions"] == [
        {"version": "v2", "mark": "builtin"},
        {"version": "v1", "mark": "aggregator"},
    ]


def test_merge_envelope_and_beta() -> None:
    document = discovery.merge([entry("g", "v1")])
    assert {key: document[key] for key in ("kind", "apiVersion", "metadata")} == {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
    }
    beta = discovery.as_v2beta1(document)
    assert beta == {**document, "apiVersion": "apidiscovery.k8s.io/v2beta1"}
    assert document["apiVersion"] == "apidiscovery.k8s.io/v2"


def test_api_group() -> None:
    group = {
        "name": "g",
        "versions": [{"groupVersion": "g/v1", "version": "v1"}, {"groupVersion": "g/v1beta1", "version": "v1beta1"}],
        "preferredVersion": {"groupVersion": "g/v1", "version": "v1"},
    }
    entries = [entry("g", "v1beta1"), entry("h", "v1"), entry("g", "v1")]
    assert discovery.api_group("g", entries) == {"kind": "APIGroup", "apiVersion": "v1", **group}
    assert discovery.group_list(entries[:1] + entries[2:]) == {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [group],
    }
    with pytest.raises(KeyError):
        discovery.api_group("x", entries)


def test_etag() -> None:
    assert discovery.etag(b"x") == '"' + hashlib.sha512(b"x").hexdigest().upper() + '"'


def test_content_type() -> None:
    expected = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    assert discovery.aggregated_content_type("v2") == expected
    assert discovery.aggregated_content_type("v2beta1", "application/yaml") == (
        "application/yaml;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
    )


VERSIONS = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]


@given(st.permutations(VERSIONS))
def test_versions_are_in_kube_order(versions: list[str]) -> None:
    assert sorted(versions, key=version_sort_key) == VERSIONS
