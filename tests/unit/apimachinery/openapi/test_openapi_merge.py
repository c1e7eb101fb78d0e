import copy
from typing import Any

import pytest

from apimachinery.openapi import merge
from apimachinery.types import Object

GVK = "x-kubernetes-group-version-kind"


def ref(name: str) -> Object:
    return {"$ref": f"#/definitions/{name}"}


def path_of(*names: str) -> Object:
    return {"get": {"responses": {str(200 + number): {"schema": ref(name)} for number, name in enumerate(names)}}}


def spec(paths: Object, definitions: Object, **more: Any) -> Object:
    return {
        "swagger": "2.0",
        "info": {"title": "t", "version": "v"},
        "paths": paths,
        "definitions": definitions,
        **more,
    }


def kind(group: str, version: str, name: str) -> Object:
    return {"group": group, "version": version, "kind": name}


def test_filter_drops_what_only_removed_paths_led_to() -> None:
    source = spec(
        {"/apis/g/v1/a": path_of("A"), "/apis/g/v2/b": path_of("B"), "/version": path_of("Shared")},
        {"A": {"items": ref("Shared")}, "B": {"items": ref("Deep")}, "Deep": {}, "Shared": {}, "Loose": {}},
    )
    before = copy.deepcopy(source)
    filtered = merge.filter_paths(source, ["/apis/g/v1/"])
    assert list(filtered["paths"]) == ["/apis/g/v1/a"]
    assert sorted(filtered["definitions"]) == ["A", "Loose", "Shared"]
    assert filtered["info"] == source["info"]
    assert source == before


def test_filter_follows_shared_parameters_and_cycles() -> None:
    source = spec(
        {"/k": {"parameters": [{"$ref": "#/parameters/p"}]}, "/d": path_of("B")},
        {"A": {"items": ref("A")}, "B": {"items": ref("B")}},
        parameters={"p": {"in": "body", "name": "b", "schema": ref("A")}},
    )
    assert list(merge.filter_paths(source, ["/k"])["definitions"]) == ["A"]


@pytest.mark.parametrize("prefixes", [[], ["/apis/x/"]], ids=["none", "other"])
def test_filter_everything(prefixes: list[str]) -> None:
    filtered = merge.filter_paths(spec({"/a": path_of("A")}, {"A": {}}), prefixes)
    assert (filtered["paths"], filtered["definitions"]) == ({}, {})


def test_merge_nothing() -> None:
    assert merge.merge([]) == {}
    assert merge.merge([spec({}, {"A": {}})]) == {}


def test_merge_first_gives_the_envelope() -> None:
    first = spec({"/a": path_of("A")}, {"A": {}}, security=[{}])
    second = {**spec({"/b": path_of("B")}, {"B": {}}), "info": {"title": "other", "version": "x"}}
    before = copy.deepcopy([first, second])
    merged = merge.merge([spec({}, {}), first, second])
    assert merged == {**first, "paths": {**first["paths"], **second["paths"]}, "definitions": {"A": {}, "B": {}}}
    assert [first, second] == before


def test_merge_present_path_stays() -> None:
    first = spec({"/a": path_of("A")}, {"A": {"type": "string"}})
    second = spec({"/a": path_of("B"), "/a/b": path_of("C")}, {"B": {}, "C": {}})
    merged = merge.merge([first, second])
    assert merged["paths"] == {"/a": path_of("A"), "/a/b": path_of("C")}
    assert sorted(merged["definitions"]) == ["A", "C"]


def test_merge_equal_definitions_share_and_unite_kinds() -> None:
    first = spec({"/a": path_of("S")}, {"S": {"type": "object", GVK: [kind("b", "v1", "S")]}})
    second = spec({"/b": path_of("S")}, {"S": {"type": "object", GVK: [kind("a", "v1", "S"), kind("b", "v1", "S")]}})
    merged = merge.merge([first, second])
    assert merged["definitions"] == {"S": {"type": "object", GVK: [kind("a", "v1", "S"), kind("b", "v1", "S")]}}


def test_merge_different_definitions_are_renamed() -> None:
    specs = [
        spec({f"/{number}": path_of("S")}, {"S": {"title": title}})
        for number, title in enumerate(["one", "two", "three", "two"])
    ]
    merged = merge.merge(specs)
    assert merged["definitions"] == {"S": {"title": "one"}, "S_v2": {"title": "two"}, "S_v3": {"title": "three"}}
    assert merged["paths"] == {
        "/0": path_of("S"),
        "/1": path_of("S_v2"),
        "/2": path_of("S_v3"),
        "/3": path_of("S_v2"),
    }


def test_merge_renames_through_references() -> None:
    """A definition that looks equal but refers to a renamed one means something else."""
    first = spec({"/a": path_of("List")}, {"List": {"items": ref("Item")}, "Item": {"type": "string"}})
    second = spec({"/b": path_of("List")}, {"List": {"items": ref("Item")}, "Item": {"type": "integer"}})
    merged = merge.merge([first, second])
    assert merged["paths"]["/b"] == path_of("List_v2")
    assert merged["definitions"] == {
        "List": {"items": ref("Item")},
        "Item": {"type": "string"},
        "List_v2": {"items": ref("Item_v2")},
        "Item_v2": {"type": "integer"},
    }


def test_merge_new_name_avoids_the_names_of_both() -> None:
    first = spec({"/a": path_of("S")}, {"S": {"title": "one"}})
    second = spec({"/b": path_of("S", "S_v2")}, {"S": {"title": "two"}, "S_v2": {"title": "other"}})
    merged = merge.merge([first, second])
    assert merged["definitions"] == {"S": {"title": "one"}, "S_v2": {"title": "other"}, "S_v3": {"title": "two"}}


def test_merge_parameters() -> None:
    def with_parameter(path: str, description: str) -> Object:
        item = {"parameters": [{"$ref": "#/parameters/p"}]}
        return spec({path: item}, {}, parameters={"p": {"in": "query", "name": "p", "description": description}})

    merged = merge.merge([with_parameter("/a", "x"), with_parameter("/b", "x"), with_parameter("/c", "y")])
    assert {name: parameter["description"] for name, parameter in merged["parameters"].items()} == {
        "p": "x",
        "p_v2": "y",
    }
    assert merged["paths"]["/b"]["parameters"] == [{"$ref": "#/parameters/p"}]
    assert merged["paths"]["/c"]["parameters"] == [{"$ref": "#/parameters/p_v2"}]


@pytest.mark.parametrize(
    "document",
    [{"paths": ["/a"]}, {"paths": {"/a": {}}, "definitions": [1]}, {"paths": {"/a": {}}, "parameters": "x"}, ["paths"]],
    ids=str,
)
def test_filter_refuses_what_is_no_document(document: Any) -> None:
    with pytest.raises(ValueError, match=r"^not an OpenAPI v2 document$"):
        merge.filter_paths(document, ["/"])
