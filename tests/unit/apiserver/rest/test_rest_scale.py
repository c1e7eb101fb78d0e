"""The scale subresource of a kind that only declares where its numbers are."""

from typing import Any

import pytest

from apimachinery import scale as scales
from apimachinery.scale import ScalePaths
from tests.unit.apiserver.rest.conftest import FLEET, Server, make_server

FLEETS = "/apis/test.example.com/v1/namespaces/default/fleets"
SCALE = f"{FLEETS}/a/scale"
MERGE = {"content-type": "application/merge-patch+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}
APPLY = {"content-type": "application/apply-patch+yaml"}


@pytest.fixture
async def server() -> Server:
    made = make_server(FLEET)
    body = {"metadata": {"name": "a"}, "spec": {"ships": 2, "harbour": "north"}}
    assert (await made.call("POST", f"{FLEETS}?fieldManager=maker", body)).code == 201
    await made.call("PATCH", f"{FLEETS}/a/status", {"status": {"afloat": 1, "selector": "of=a"}}, MERGE)
    return made


def scale(replicas: Any, **metadata: Any) -> dict[str, Any]:
    spec = {} if replicas is None else {"replicas": replicas}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "a", "namespace": "default", **metadata},
        "spec": spec,
    }


async def _owners(server: Server) -> list[tuple[str, str, str, Any]]:
    found = (await server.call("GET", f"{FLEETS}/a")).json()
    return [
        (entry["manager"], entry["operation"], entry.get("subresource", ""), entry["fieldsV1"])
        for entry in found["metadata"]["managedFields"]
        if entry.get("subresource") != "status"
    ]


_SHIPS: dict[str, Any] = {"f:spec": {"f:ships": {}}}
_HARBOUR: dict[str, Any] = {"f:spec": {"f:harbour": {}}}
_BOTH: dict[str, Any] = {"f:spec": {"f:harbour": {}, "f:ships": {}}}


async def test_what_a_scale_shows(server: Server) -> None:
    found = (await server.call("GET", SCALE)).json()
    parent = (await server.call("GET", f"{FLEETS}/a")).json()["metadata"]
    assert (found["kind"], found["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert (found["spec"], found["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "of=a"})
    same = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    assert [found["metadata"][name] for name in same] == [parent[name] for name in same]
    (entry,) = found["metadata"]["managedFields"]
    assert (entry["manager"], entry["apiVersion"]) == ("maker", "autoscaling/v1")
    assert entry["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    (row,) = (await server.call("GET", SCALE, headers=table)).json()["rows"]
    assert row["cells"][:3] == ["a", 2, 1]


@pytest.mark.parametrize(
    ("method", "body", "headers"),
    [
        ("PUT", scale(5), {}),
        ("PATCH", {"spec": {"replicas": 5}}, MERGE),
        ("PATCH", [{"op": "replace", "path": "/spec/replicas", "value": 5}], JSON_PATCH),
        ("PATCH", scale(5), APPLY),
    ],
    ids=["put", "merge", "json", "apply"],
)
async def test_every_write_sets_the_replicas_alone(
    server: Server, method: str, body: Any, headers: dict[str, str]
) -> None:
    before = (await server.call("GET", f"{FLEETS}/a")).json()
    forced = "&force=true" if headers is APPLY else ""
    reply = await server.call(method, f"{SCALE}?fieldManager=scaler{forced}", body, headers)
    assert (reply.code, reply.json()["spec"]) == (200, {"replicas": 5}), reply.text
    assert reply.json()["kind"] == "Scale"
    after = (await server.call("GET", f"{FLEETS}/a")).json()
    assert after["spec"] == {"ships": 5, "harbour": "north"}
    assert after["status"] == before["status"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    assert reply.json()["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    operation = "Apply" if headers is APPLY else "Update"
    assert sorted(await _owners(server), key=str) == [
        ("maker", "Update", "", {"f:spec": {".": {}, **_HARBOUR["f:spec"]}}),
        ("scaler", operation, "scale", _SHIPS),
    ]


async def test_a_write_of_the_same_number_changes_nothing(server: Server) -> None:
    before = (await server.call("GET", f"{FLEETS}/a")).json()
    assert (await server.call("PUT", f"{SCALE}?fieldManager=scaler", scale(2))).code == 200
    assert (await server.call("GET", f"{FLEETS}/a")).json() == before


async def test_applied_replicas_conflict_with_who_owns_them(server: Server) -> None:
    fleet = {"apiVersion": "test.example.com/v1", "kind": "Fleet", "metadata": {"name": "b"}, "spec": {"ships": 2}}
    assert (await server.call("PATCH", f"{FLEETS}/b?fieldManager=owner", fleet, APPLY)).code == 201
    other = {**scale(3), "metadata": {"name": "b"}}
    refused = await server.call("PATCH", f"{FLEETS}/b/scale?fieldManager=other", other, APPLY)
    assert refused.code == 409
    assert 'conflict with "owner"' in refused.json()["message"]
    assert refused.json()["details"]["causes"][0]["field"] == ".spec.replicas"
    forced = await server.call("PATCH", f"{FLEETS}/b/scale?fieldManager=other&force=true", other, APPLY)
    assert (forced.code, forced.json()["spec"]) == (200, {"replicas": 3})
    # The owner applies again without the number that it lost, which stays.
    kept = await server.call("PATCH", f"{FLEETS}/b?fieldManager=owner", {**fleet, "spec": {}}, APPLY)
    assert (kept.code, kept.json()["spec"]) == (200, {"ships": 3})
    again = await server.call("PATCH", f"{FLEETS}/b?fieldManager=owner", fleet, APPLY)
    assert again.code == 409
    assert 'conflict with "other" with subresource "scale"' in again.json()["message"]


@pytest.mark.parametrize(
    ("method", "body", "headers", "code", "text"),
    [
        ("PUT", scale(None), {}, 400, 'the spec replicas field ".spec.ships" cannot be empty'),
        (
            "PUT",
            scale(-1),
            {},
            422,
            'Scale.autoscaling "a" is invalid: spec.replicas: Invalid value: -1: must be greater',
        ),
        ("PUT", scale(10), {}, 422, 'Fleet.test.example.com "a" is invalid: spec.ships'),
        ("PUT", scale("x"), {}, 400, "cannot unmarshal string into Go struct field Scale.spec.replicas of type int32"),
        ("PUT", {**scale(1), "kind": "Fleet"}, {}, 400, "cannot be handled as a Scale"),
        ("PUT", scale(1, name="b"), {}, 400, "the name of the object (b) does not match the name on the URL (a)"),
        ("PUT", scale(1, namespace="x"), {}, 400, "the namespace of the provided object does not match"),
        ("PUT", scale(1, resourceVersion="1"), {}, 409, "the object has been modified"),
        ("PUT", scale(1, uid="other"), {}, 409, "UID in precondition: other"),
        ("PATCH", {"spec": {"replicas": None}}, MERGE, 400, "cannot be empty"),
        ("PATCH", {"metadata": {"resourceVersion": "1"}}, MERGE, 409, "the object has been modified"),
        ("PATCH", {}, {"content-type": "text/plain"}, 415, "the body of the request was in an unknown format"),
        ("POST", scale(1), {}, 405, 'create is not supported on resources of kind "fleets.test.example.com"'),
        ("DELETE", None, {}, 405, 'delete is not supported on resources of kind "fleets.test.example.com"'),
    ],
)
async def test_refused_writes(
    server: Server, method: str, body: Any, headers: dict[str, str], code: int, text: str
) -> None:
    before = (await server.call("GET", f"{FLEETS}/a")).json()
    reply = await server.call(method, SCALE, body, headers)
    assert (reply.code, text in reply.json()["message"]) == (code, True), reply.text
    assert (await server.call("GET", f"{FLEETS}/a")).json() == before


async def test_objects_that_say_nothing_about_replicas(server: Server) -> None:
    await server.call("POST", FLEETS, {"metadata": {"name": "b"}})
    reply = await server.call("GET", f"{FLEETS}/b/scale")
    assert reply.code == 500
    assert reply.json()["message"] == 'Internal error occurred: the spec replicas field ".spec.ships" does not exist'
    missing = await server.call("PUT", f"{FLEETS}/c/scale", scale(1, name="c"))
    assert (missing.code, missing.json()["message"]) == (404, 'fleets.test.example.com "c" not found')


async def test_dry_run_and_unknown_fields(server: Server) -> None:
    reply = await server.call("PATCH", f"{SCALE}?dryRun=All", {"spec": {"replicas": 7}}, MERGE)
    assert (reply.code, reply.json()["spec"]) == (200, {"replicas": 7})
    strict = await server.call("PUT", f"{SCALE}?fieldValidation=Strict", {**scale(1), "nonsense": 1})
    assert (strict.code, 'unknown field \\"nonsense\\"' in strict.text) == (400, True), strict.text
    assert (await server.call("GET", f"{FLEETS}/a")).json()["spec"]["ships"] == 2


async def test_discovery_and_openapi(server: Server) -> None:
    listed = (await server.call("GET", "/apis/test.example.com/v1")).json()["resources"]
    (entry,) = [item for item in listed if item["name"] == "fleets/scale"]
    assert (entry["group"], entry["version"], entry["kind"]) == ("autoscaling", "v1", "Scale")
    assert entry["verbs"] == ["get", "patch", "update"]
    document = (await server.call("GET", "/openapi/v3/apis/test.example.com/v1")).json()
    operations = document["paths"]["/apis/test.example.com/v1/namespaces/{namespace}/fleets/{name}/scale"]
    kind = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    for method in ("get", "put", "patch"):
        assert operations[method]["x-kubernetes-group-version-kind"] == kind
    assert document["components"]["schemas"]["autoscaling.v1.Scale"]["x-kubernetes-group-version-kind"] == [kind]


@pytest.mark.parametrize(
    "declared",
    [
        {"spec_replicas": "status.n"},
        {"status_replicas": "spec.n"},
        {"selector": "metadata.labels"},
        {"spec_replicas": "spec"},
        {"spec_replicas": ""},
        {"spec_replicas": "spec..n"},
    ],
    ids=repr,
)
def test_paths_that_make_no_sense(declared: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="path"):
        ScalePaths(**declared)


def test_the_object_is_changed_through_its_own_type() -> None:
    """An owner through both ways keeps one entry for each."""
    own = {"manager": "m", "operation": "Update", "apiVersion": "g/v1", "fieldsType": "FieldsV1", "fieldsV1": _BOTH}
    theirs = {
        "manager": "m",
        "operation": "Update",
        "apiVersion": "autoscaling/v1",
        "fieldsType": "FieldsV1",
        "subresource": "scale",
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }
    assert FLEET.scale is not None
    entries = scales.owners([own], [theirs], FLEET.scale, "g/v1")
    assert [(entry.get("subresource", ""), entry["fieldsV1"]) for entry in entries] == [
        ("", _HARBOUR),
        ("scale", _SHIPS),
    ]
