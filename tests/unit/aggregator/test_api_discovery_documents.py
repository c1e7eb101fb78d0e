"""Reading discovery answers, keeping them in a file and showing them: everything without a controller."""

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from aggregator.api import discovery_answer, discovery_cache, discovery_sources
from aggregator.api.discovery_answer import UnusableAnswerError
from aggregator.api.discovery_sources import Known
from apimachinery.discovery import GroupVersionEntry
from apimachinery.gvk import GroupVersion
from apimachinery.status import APIError
from apimachinery.types import Object
from apiserver import discovery_snapshot
from tests.unit.aggregator.api_kit import apiservice

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
MINE = GroupVersion("mine.example", "v1")


def aggregated(*groups: tuple[str, str, list[Any]]) -> bytes:
    items = [
        {"metadata": {"name": group}, "versions": [{"version": version, "resources": resources}]}
        for group, version, resources in groups
    ]
    return orjson.dumps({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items})


def full_resource(name: str = "widgets") -> Object:
    kind = {"group": "mine.example", "version": "v1", "kind": "Widget"}
    return {
        "resource": name,
        "responseKind": kind,
        "scope": "Namespaced",
        "singularResource": "widget",
        "verbs": ["get", "list"],
        "shortNames": ["w"],
        "categories": ["all"],
        "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["get"], "acceptedTypes": [kind]}],
    }


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (V2, True),
        ("application/json; as=APIGroupDiscoveryList; v=v2; g=apidiscovery.k8s.io", True),
        ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;charset=utf-8", True),
        ("application/json", False),
        ("", False),
        ("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList", False),
        ("text/html;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", False),
        ("application/json;v=v2;as=APIGroupDiscoveryList", False),
    ],
)
def test_which_answers_are_aggregated(content_type: str, expected: bool) -> None:
    assert discovery_answer.is_aggregated(content_type) is expected


def test_a_complete_resource_passes_unchanged() -> None:
    found = discovery_answer.parse_aggregated(aggregated(("mine.example", "v1", [full_resource()])), [MINE])
    assert found == {MINE: {"version": "v1", "freshness": "Current", "resources": [full_resource()]}}


def test_groups_that_the_server_does_not_own_are_ignored() -> None:
    body = aggregated(
        ("mine.example", "v1", [full_resource()]),
        ("apiregistration.k8s.io", "v1", [full_resource()]),
        ("mine.example", "v2", [full_resource()]),
    )
    assert set(discovery_answer.parse_aggregated(body, [MINE])) == {MINE}


def test_missing_kinds_become_empty_ones() -> None:
    resource = {"resource": "a", "responseKind": None, "subresources": [{"subresource": "b"}]}
    empty = {"group": "", "version": "", "kind": ""}
    found = discovery_answer.parse_aggregated(aggregated(("mine.example", "v1", [resource])), [MINE])
    assert found[MINE]["resources"] == [
        {
            "resource": "a",
            "responseKind": empty,
            "scope": "Cluster",
            "singularResource": "",
            "verbs": [],
            "subresources": [{"subresource": "b", "responseKind": empty, "verbs": []}],
        }
    ]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "no JSON"),
        (b"[]", "no JSON object"),
        (b'{"kind":"APIGroupList"}', "no APIGroupDiscoveryList"),
        (b'{"kind":"APIGroupDiscoveryList","items":{}}', "`items` is no list of objects"),
        (b'{"kind":"APIGroupDiscoveryList","items":[1]}', "`items` is no list of objects"),
        (
            b'{"kind":"APIGroupDiscoveryList","items":[{"metadata":{"name":"mine.example"},"versions":"v1"}]}',
            "`versions` is no list of objects",
        ),
        (aggregated(("mine.example", "v1", ["widgets"])), "`resources` is no list of objects"),
        (aggregated(("mine.example", "v1", [{"resource": "a"}] * 10_001)), "lists 10001 resources, more than 10000"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_unusable_documents(body: bytes, text: str) -> None:
    with pytest.raises(UnusableAnswerError, match=text):
        discovery_answer.parse_aggregated(body, [MINE])


@pytest.mark.parametrize(
    "item",
    [
        {"metadata": "mine.example", "versions": [{"version": "v1"}]},
        {"versions": [{"version": "v1"}]},
        {"metadata": {"name": ["mine.example"]}, "versions": [{"version": {"v": 1}}]},
    ],
)
def test_malformed_groups_are_no_groups(item: Object) -> None:
    body = orjson.dumps({"kind": "APIGroupDiscoveryList", "items": [item]})
    assert discovery_answer.parse_aggregated(body, [MINE]) == {}


def test_legacy_list() -> None:
    body = orjson.dumps(
        {
            "kind": "APIResourceList",
            "groupVersion": "lies.example/v9",
            "resources": [
                {"name": "widgets", "singularName": "widget", "namespaced": True, "kind": "Widget", "verbs": ["get"]},
                {"name": "widgets/status", "namespaced": True, "kind": "Widget", "verbs": ["get"]},
                {"name": "orphans/scale", "namespaced": False, "kind": "Scale", "verbs": ["get"]},
                {"name": "a/b/c", "kind": "X"},
                {"name": 7},
            ],
        }
    )
    document = discovery_answer.parse_legacy(body, MINE)
    kind = {"group": "mine.example", "version": "v1", "kind": "Widget"}
    assert document["version"] == "v1"
    assert [resource["resource"] for resource in document["resources"]] == ["widgets", "orphans"]
    assert document["resources"][0]["responseKind"] == kind
    assert document["resources"][0]["subresources"] == [
        {"subresource": "status", "responseKind": kind, "verbs": ["get"]}
    ]
    assert document["resources"][1]["responseKind"] == {"group": "", "version": "", "kind": ""}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"kind": "Status"}, "no APIResourceList"),
        (
            {
                "kind": "APIResourceList",
                "resources": [{"name": "a", "namespaced": True, "kind": "A"}, {"name": "a/b", "namespaced": False}],
            },
            "differs in scope",
        ),
        ({"kind": "APIResourceList", "resources": [{"name": "a"}] * 10_001}, "more than 10000"),
    ],
)
def test_unusable_legacy_lists(document: Object, text: str) -> None:
    with pytest.raises(UnusableAnswerError, match=text):
        discovery_answer.parse_legacy(orjson.dumps(document), MINE)


def test_apiservices_of_one_server_share_a_source() -> None:
    objects = [
        apiservice("b.example", service="one", ca=b"ca"),
        apiservice("a.example", service="one", ca=b"ca"),
        apiservice("c.example", service="one", ca=b"other ca"),
        apiservice("d.example", service="one", ca=b"ca", port=8443),
        apiservice("local.example"),
    ]
    found = discovery_sources.sources(objects)
    owned = sorted([gv.group for gv in source.owned] for source in found.values())
    assert owned == [["a.example", "b.example"], ["c.example"], ["d.example"]]
    assert all(key == source.key for key, source in found.items())
    assert discovery_sources.key_of(objects[-1]) == ""


def test_cache_round_trip_marks_everything_as_unconfirmed(tmp_path: Path) -> None:
    core = GroupVersion("", "v1")
    document = {"version": "v1", "freshness": "Current", "resources": [full_resource()]}
    known = {"a": Known(documents={MINE: document, core: document}, etag='"x"'), "empty": Known()}
    file = tmp_path / "below" / "discovery.json"
    discovery_cache.write(file, discovery_cache.encode(known))
    read = discovery_cache.read(file)
    assert read == {"a": Known(documents=known["a"].documents, etag='"x"', failed=frozenset({MINE, core}))}
    assert [path.name for path in file.parent.iterdir()] == ["discovery.json"]


def test_no_cache_file_is_an_empty_cache(tmp_path: Path) -> None:
    assert discovery_cache.read(tmp_path / "missing.json") == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"format":2}',
        b'{"format":1}',
        b'{"format":1,"sources":[]}',
        b'{"format":1,"sources":{"a":{"documents":{"g/v":{}},"etag":""}}}',
        b'{"format":1,"sources":{"a":{"documents":{"a/b/c":{"resources":[]}},"etag":""}}}',
        b'{"format":1,"sources":{"a":{"documents":{"g/v":{"resources":1}},"etag":""}}}',
    ],
)
def test_a_damaged_cache_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        discovery_cache.decode(data)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "discovery.json"
    discovery_cache.write(file, b"old")

    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        discovery_cache.write(file, b"new")
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["discovery.json"]


def entry(group: str, version: str = "v1", priority: int = 1000) -> GroupVersionEntry:
    document = {"version": version, "freshness": "Current", "resources": []}
    return GroupVersionEntry(group=group, version=version, document=document, group_priority=priority)


SNAPSHOT = discovery_snapshot.build([entry("a.example"), entry("a.example", "v2"), entry("b.example", priority=2000)])


@pytest.mark.parametrize(
    ("path", "accept", "content_type"),
    [
        ("/apis", "", "application/json"),
        ("/apis", "*/*", "application/json"),
        ("/apis/", "application/json", "application/json"),
        ("/apis", V2, V2),
        ("/apis?timeout=32s", f"{V2},application/json", V2),
        ("/apis", f"application/json,{V2}", V2),
        ("/apis", V2.replace("v2;", "v2beta1;") + ",application/json", V2.replace("v2;", "v2beta1;")),
        ("/apis", V2.replace("v2;", "v3;") + ",application/json", "application/json"),
        ("/apis", V2.replace("json", "yaml"), V2.replace("json", "yaml")),
        ("/apis/", f"{V2},application/json", "application/json"),
        ("/api", f"{V2},application/json", V2),
        ("/apis/a.example", "application/json", "application/json"),
        ("/apis/a.example/", f"{V2},application/json", "application/json"),
        ("/apis/a.example", "application/yaml", "application/yaml"),
    ],
)
def test_content_types(path: str, accept: str, content_type: str) -> None:
    answer = SNAPSHOT.respond(path, accept, "")
    assert answer is not None
    assert (answer.code, answer.headers["content-type"]) == (200, content_type)


@pytest.mark.parametrize("path", ["/", "/apisx", "/apis/c.example", "/apis/a.example/v1", "/api/v1", "/apis//"])
def test_paths_of_others(path: str) -> None:
    assert SNAPSHOT.respond(path, "application/json", "") is None


def test_plain_api_lists_the_versions_of_the_legacy_group() -> None:
    legacy = discovery_snapshot.build([entry("a.example"), entry("")])
    for subject, versions in ((SNAPSHOT, []), (legacy, ["v1"])):
        answer = subject.respond("/api", "application/json", "")
        assert answer is not None
        document = orjson.loads(answer.body)
        assert (document["kind"], document["versions"]) == ("APIVersions", versions)


def test_unknown_conversions_only_are_not_acceptable() -> None:
    with pytest.raises(APIError) as caught:
        SNAPSHOT.respond("/apis", V2.replace("v2;", "v3;"), "")
    assert caught.value.code == 406


def test_aggregated_answer_and_its_etag() -> None:
    answer = SNAPSHOT.respond("/apis", V2, "")
    assert answer is not None
    document = orjson.loads(answer.body)
    assert [item["metadata"]["name"] for item in document["items"]] == ["b.example", "a.example"]
    assert [version["version"] for version in document["items"][1]["versions"]] == ["v2", "v1"]
    assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Accept", "public")
    etag = answer.headers["etag"]
    again = SNAPSHOT.respond("/apis", V2, etag)
    assert again is not None
    assert (again.code, again.body, again.headers["etag"]) == (304, b"", etag)
    other = SNAPSHOT.respond("/apis", V2, etag.strip('"'))
    assert other is not None
    assert other.code == 200


@pytest.mark.parametrize("path", ["/apis", "/apis/", "/apis/a.example", "/api"])
@pytest.mark.parametrize("accept", ["application/json", "application/yaml", V2, V2.replace("json", "yaml")])
def test_every_form_has_an_etag(path: str, accept: str) -> None:
    accept = f"{accept},application/json"
    answer = SNAPSHOT.respond(path, accept, "")
    assert answer is not None
    etag = answer.headers["etag"]
    assert answer.headers["vary"] == "Accept"
    for sent, code in ((etag, 304), (f'"x", W/{etag}', 304), ("*", 304), ('"x"', 200), (etag[:-2] + '"', 200)):
        again = SNAPSHOT.respond(path, accept, sent)
        assert again is not None
        assert (again.code, again.headers["etag"], bool(again.body)) == (code, etag, code == 200)


def test_the_tag_follows_the_content() -> None:
    def etag(*entries: GroupVersionEntry) -> str:
        answer = discovery_snapshot.build(entries).respond("/apis", V2, "")
        assert answer is not None
        return answer.headers["etag"]

    one, two = entry("a.example"), entry("b.example")
    assert etag(one) != etag(one, two)
    assert etag(one) == etag(entry("a.example"))


def test_yaml_says_the_same_and_large_documents_are_json_in_it() -> None:
    large = discovery_snapshot.build([entry(f"g{number}.example") for number in range(1000)])
    for subject in (SNAPSHOT, large):
        plain, text = (subject.respond("/apis", accept, "") for accept in (V2, V2.replace("json", "yaml")))
        assert plain is not None
        assert text is not None
        assert yaml.safe_load(text.body) == orjson.loads(plain.body)
        assert (text.body == plain.body) == (subject is large)


def test_media_parameter_asks_for_indentation() -> None:
    answer = SNAPSHOT.respond("/apis", V2 + ";pretty=1", "")
    assert answer is not None
    assert answer.body.startswith(b'{\n  "kind"')


def test_plain_groups() -> None:
    answer = SNAPSHOT.respond("/apis", "application/json", "")
    group = SNAPSHOT.respond("/apis/a.example", "application/json", "")
    assert answer is not None
    assert group is not None
    document = orjson.loads(answer.body)
    assert (document["kind"], [item["name"] for item in document["groups"]]) == (
        "APIGroupList",
        ["b.example", "a.example"],
    )
    assert orjson.loads(group.body) == {"kind": "APIGroup", "apiVersion": "v1", **document["groups"][1]}
    assert document["groups"][1]["preferredVersion"] == {"groupVersion": "a.example/v2", "version": "v2"}


def test_paths_for_the_root_list() -> None:
    assert SNAPSHOT.paths == ["/api", "/apis", "/apis/a.example", "/apis/b.example"]
