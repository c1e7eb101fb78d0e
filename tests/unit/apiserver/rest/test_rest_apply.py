"""Server-side apply and managed fields through HTTP (rest.md A4.3)."""

import json
from typing import Any

import pytest

from apimachinery.types import Object
from apiserver.client import LocalClient, ResourceRef
from tests.support.asgi import Reply
from tests.unit.apiserver.rest.conftest import Server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
ZONES = "/apis/test.example.com/v1/zones"
APPLY = {"content-type": "application/apply-patch+yaml"}
MERGE = {"content-type": "application/merge-patch+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}
V1 = "test.example.com/v1"


def widget(metadata: Object | None = None, **spec: Any) -> Object:
    return {"apiVersion": V1, "kind": "Widget", "metadata": {"name": "a", **(metadata or {})}, "spec": spec}


async def apply(server: Server, body: Any, manager: str = "one", query: str = "", path: str = f"{WIDGETS}/a") -> Reply:
    return await server.call("PATCH", f"{path}?fieldManager={manager}{query}", body, APPLY)


def owners(obj: Object) -> dict[str, Any]:
    """`manager operation [subresource]` -> fields."""
    found = {}
    for entry in obj["metadata"].get("managedFields", []):
        parts = (entry["manager"], entry["operation"], entry.get("subresource"))
        found[" ".join(part for part in parts if part)] = entry["fieldsV1"]
    return found


async def stored(server: Server, path: str = f"{WIDGETS}/a") -> Object:
    obj: Object = (await server.call("GET", path)).json()
    return obj


async def test_apply_creates_and_then_changes(server: Server) -> None:
    made = await apply(server, widget(size=1))
    assert made.code == 201
    assert made.json()["spec"] == {"size": 1, "color": "red"}
    assert owners(made.json()) == {"one Apply": {"f:spec": {"f:size": {}}}}
    changed = await apply(server, widget(size=2))
    assert (changed.code, changed.json()["spec"]["size"], changed.json()["metadata"]["generation"]) == (200, 2, 2)
    assert await stored(server) == changed.json()


async def test_apply_takes_yaml(server: Server) -> None:
    text = b"apiVersion: test.example.com/v1\nkind: Widget\nmetadata:\n  name: a\nspec:\n  size: 3\n"
    assert (await apply(server, text)).json()["spec"]["size"] == 3


async def test_apply_creates_cluster_scoped_objects(server: Server) -> None:
    body = {"apiVersion": V1, "kind": "Zone", "metadata": {"name": "z"}, "spec": {"x": "y"}}
    made = await apply(server, body, path=f"{ZONES}/z")
    assert (made.code, "namespace" in made.json()["metadata"]) == (201, False)


async def test_an_apply_that_changes_nothing_is_no_write(server: Server) -> None:
    first = (await apply(server, widget(size=1))).json()
    server.clock[0] += 100
    assert (await apply(server, widget(size=1))).json() == first


async def test_conflict_and_force(server: Server) -> None:
    await server.call("POST", f"{WIDGETS}?fieldManager=maker", widget(size=1))
    refused = await apply(server, widget(size=2))
    assert refused.code == 409
    assert refused.json() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f'Apply failed with 1 conflict: conflict with "maker" using {V1}: .spec.size',
        "reason": "Conflict",
        "details": {
            "causes": [
                {
                    "reason": "FieldManagerConflict",
                    "message": f'conflict with "maker" using {V1}',
                    "field": ".spec.size",
                }
            ]
        },
        "code": 409,
    }
    assert (await stored(server))["spec"]["size"] == 1
    forced = await apply(server, widget(size=2), query="&force=true")
    assert (forced.code, forced.json()["spec"]["size"]) == (200, 2)
    assert owners(forced.json())["one Apply"] == {"f:spec": {"f:size": {}}}
    assert owners(forced.json())["maker Update"] == {"f:spec": {".": {}, "f:color": {}}}


async def test_what_is_no_longer_applied_goes(server: Server) -> None:
    await apply(server, widget({"labels": {"a": "1", "b": "2"}}, size=1, parts=[{"name": "p", "n": 1}, {"name": "q"}]))
    await server.call("PATCH", f"{WIDGETS}/a", {"metadata": {"labels": {"c": "3"}}}, MERGE)
    left = (await apply(server, widget({"labels": {"a": "1"}}, parts=[{"name": "q"}]))).json()
    assert left["metadata"]["labels"] == {"a": "1", "c": "3"}
    assert left["spec"] == {"color": "red", "parts": [{"name": "q"}]}


async def test_dropping_a_field_with_a_default_brings_the_default_back(server: Server) -> None:
    await apply(server, widget(size=1, color="blue"))
    left = (await apply(server, widget(size=1))).json()
    assert left["spec"] == {"size": 1, "color": "red"}
    assert owners(left) == {"one Apply": {"f:spec": {"f:size": {}}}}


async def test_finalizers_are_a_set(server: Server) -> None:
    await apply(server, widget({"finalizers": ["test.example.com/x"]}))
    both = await apply(server, widget({"finalizers": ["test.example.com/y"]}), "two")
    assert both.json()["metadata"]["finalizers"] == ["test.example.com/x", "test.example.com/y"]


async def test_applying_away_the_last_finalizer_ends_a_deleted_object(server: Server) -> None:
    await apply(server, widget({"finalizers": ["test.example.com/x"]}, size=1))
    await server.call("DELETE", f"{WIDGETS}/a")
    assert (await apply(server, widget(size=1))).code == 200
    assert (await server.call("GET", f"{WIDGETS}/a")).code == 404


async def test_dry_run(server: Server) -> None:
    made = await apply(server, widget(size=1), query="&dryRun=All")
    assert (made.code, owners(made.json())) == (201, {"one Apply": {"f:spec": {"f:size": {}}}})
    assert (await server.call("GET", f"{WIDGETS}/a")).code == 404
    await apply(server, widget(size=1))
    assert (await apply(server, widget(size=2), query="&dryRun=All")).json()["spec"]["size"] == 2
    assert (await stored(server))["spec"]["size"] == 1


@pytest.mark.parametrize(
    ("body", "query", "code", "message"),
    [
        pytest.param(widget(), "?", 422, "fieldManager: Required value: is required for apply patch", id="no manager"),
        pytest.param(b"a: [", "", 400, "error decoding patch: ", id="no yaml"),
        pytest.param(b"- a", "", 400, "error decoding patch: expected an object, got array", id="a list"),
        pytest.param(b"", "", 400, "invalid object type: /, Kind=", id="nothing"),
        pytest.param({**widget(), "kind": "Zone"}, "", 400, f"invalid object type: {V1}, Kind=Zone", id="other kind"),
        pytest.param({**widget(), "apiVersion": "test.example.com/v2"}, "", 400, "Incorrect version", id="version"),
        pytest.param(widget({"managedFields": []}), "", 400, "metadata.managedFields must be nil", id="managed fields"),
        pytest.param(widget({"name": "b"}), "", 400, "the name of the object (b) does not match", id="other name"),
        pytest.param({"apiVersion": V1, "kind": "Widget"}, "", 400, "name must be provided", id="no name"),
        pytest.param(widget({"namespace": "x"}), "", 400, "does not match the namespace sent", id="other namespace"),
        pytest.param(
            widget(sise=1),
            "",
            500,
            f"failed to create typed patch object (/a; {V1}, Kind=Widget): .spec.sise: field not declared in schema",
            id="undeclared",
        ),
        pytest.param(widget(size=13), "", 422, "brings bad luck", id="invalid"),
        pytest.param(widget(size=-1), "", 422, "spec.size", id="invalid by schema"),
        pytest.param(widget(parts=[{"name": "p"}] * 2), "", 500, 'duplicate entries for key [name="p"]', id="twice"),
        pytest.param(widget({"uid": "u"}), "", 409, "uid mismatch: the provided object specified uid u", id="uid"),
        pytest.param(widget(size=2**40), "", 400, "json: cannot unmarshal number", id="does not decode"),
    ],
)
async def test_refusals(server: Server, body: Any, query: str, code: int, message: str) -> None:
    target = f"{WIDGETS}/a{query or '?fieldManager=one'}"
    reply = await server.call("PATCH", target, body, APPLY)
    assert reply.code == code
    assert message in reply.json()["message"]
    assert (await server.call("GET", f"{WIDGETS}/a")).code == 404


async def test_a_stale_resource_version_is_refused(server: Server) -> None:
    first = (await apply(server, widget(size=1))).json()["metadata"]["resourceVersion"]
    current = (await apply(server, widget(size=2))).json()["metadata"]["resourceVersion"]
    stale = await apply(server, widget({"resourceVersion": first}, size=3))
    assert (stale.code, stale.json()["reason"]) == (409, "Conflict")
    assert (await apply(server, widget({"resourceVersion": current}, size=3))).code == 200


REPEATED = b"apiVersion: test.example.com/v1\nkind: Widget\nmetadata: {name: a}\nspec:\n  size: 1\n  size: 2\n"


@pytest.mark.parametrize(
    ("mode", "code", "warnings"),
    [
        ("Ignore", 201, []),
        ("Warn", 201, ['299 - "line 6: key \\"size\\" already set in map"']),
        ("", 201, ['299 - "line 6: key \\"size\\" already set in map"']),
        ("Strict", 400, []),
    ],
)
async def test_repeated_keys(server: Server, mode: str, code: int, warnings: list[str]) -> None:
    reply = await apply(server, REPEATED, query=f"&fieldValidation={mode}")
    assert (reply.code, reply.all("warning")) == (code, warnings)
    if code == 400:
        assert reply.json()["message"] == (
            "error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n"
            '  line 6: key "size" already set in map'
        )
    else:
        assert reply.json()["spec"]["size"] == 2


async def test_force_is_for_apply_only(server: Server) -> None:
    await server.call("POST", WIDGETS, widget(size=1))
    reply = await server.call("PATCH", f"{WIDGETS}/a?force=true", {"spec": {"size": 2}}, MERGE)
    assert (reply.code, "may not be specified for non-apply patch" in reply.json()["message"]) == (422, True)


async def test_unknown_patch_types_are_told_about_apply(server: Server) -> None:
    reply = await server.call("PATCH", f"{WIDGETS}/a", {}, {"content-type": "text/plain"})
    assert reply.code == 415
    assert reply.json()["message"].endswith("application/strategic-merge-patch+json, application/apply-patch+yaml")


async def test_openapi_says_that_patch_takes_an_apply(server: Server) -> None:
    document = (await server.call("GET", "/openapi/v3/apis/test.example.com/v1")).json()
    operation = document["paths"]["/apis/test.example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert "application/apply-patch+yaml" in operation["requestBody"]["content"]


# Status


async def test_status_is_applied_through_its_subresource(server: Server) -> None:
    await apply(server, widget(size=1))
    config = {"apiVersion": V1, "kind": "Widget", "metadata": {"name": "a"}, "status": {"ready": True}}
    reply = await apply(server, config, "ctrl", path=f"{WIDGETS}/a/status")
    assert (reply.code, reply.json()["status"], reply.json()["spec"]["size"]) == (200, {"ready": True}, 1)
    assert owners(reply.json()) == {
        "ctrl Apply status": {"f:status": {"f:ready": {}}},
        "one Apply": {"f:spec": {"f:size": {}}},
    }
    refused = await apply(server, {**config, "status": {"ready": False}}, "other", path=f"{WIDGETS}/a/status")
    assert refused.json()["message"] == (
        'Apply failed with 1 conflict: conflict with "ctrl" with subresource "status": .status.ready'
    )
    gone = await apply(server, {**config, "status": {}}, "ctrl", path=f"{WIDGETS}/a/status")
    assert gone.json().get("status") in ({}, None)


async def test_status_cannot_be_applied_to_nothing(server: Server) -> None:
    reply = await apply(server, widget(), path=f"{WIDGETS}/a/status")
    assert (reply.code, reply.json()["reason"]) == (404, "NotFound")


async def test_applying_status_leaves_spec_and_metadata(server: Server) -> None:
    await apply(server, widget({"labels": {"a": "1"}}, size=1))
    config = {**widget({"labels": {"a": "2"}}, size=2), "status": {"ready": True}}
    reply = await apply(server, config, "ctrl", path=f"{WIDGETS}/a/status")
    assert reply.code == 200
    assert (reply.json()["spec"]["size"], reply.json()["metadata"]["labels"]) == (1, {"a": "1"})
    assert owners(reply.json())["ctrl Apply status"] == {"f:status": {"f:ready": {}}}


async def test_applying_an_object_leaves_its_status(server: Server) -> None:
    await apply(server, widget(size=1))
    await server.call("PATCH", f"{WIDGETS}/a/status?fieldManager=ctrl", {"status": {"ready": True}}, MERGE)
    reply = await apply(server, {**widget(size=2), "status": {"ready": False}})
    assert (reply.code, reply.json()["status"]) == (200, {"ready": True})
    assert owners(reply.json()) == {
        "one Apply": {"f:spec": {"f:size": {}}},
        "ctrl Update status": {"f:status": {".": {}, "f:ready": {}}},
    }


# Writes that are no applies


async def test_create_records_the_manager(server: Server) -> None:
    reply = await server.call("POST", f"{WIDGETS}?fieldManager=maker", widget({"labels": {"a": "1"}}, size=1))
    (entry,) = reply.json()["metadata"]["managedFields"]
    assert entry == {
        "manager": "maker",
        "operation": "Update",
        "apiVersion": V1,
        "time": "2023-11-14T22:13:20Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {".": {}, "f:color": {}, "f:size": {}},
        },
    }


@pytest.mark.parametrize(
    ("agent", "manager"), [("kubectl/v1.32 (linux/amd64)", "kubectl"), ("curl", "curl"), ("", "unknown")]
)
async def test_the_user_agent_names_the_manager(server: Server, agent: str, manager: str) -> None:
    reply = await server.call("POST", WIDGETS, widget(size=1), {"user-agent": agent})
    assert list(owners(reply.json())) == [f"{manager} Update"]


async def test_update_and_patch_record_what_they_change(server: Server) -> None:
    made = (await server.call("POST", f"{WIDGETS}?fieldManager=maker", widget(size=1))).json()
    server.clock[0] += 60
    made["spec"]["size"] = 2
    updated = (await server.call("PUT", f"{WIDGETS}/a?fieldManager=putter", made)).json()
    assert owners(updated)["putter Update"] == {"f:spec": {"f:size": {}}}
    patched = await server.call("PATCH", f"{WIDGETS}/a?fieldManager=patcher", {"spec": {"color": "blue"}}, MERGE)
    assert owners(patched.json()) == {
        "maker Update": {"f:spec": {}},
        "patcher Update": {"f:spec": {"f:color": {}}},
        "putter Update": {"f:spec": {"f:size": {}}},
    }


async def test_a_put_without_managed_fields_keeps_them(server: Server) -> None:
    await apply(server, widget(size=1))
    await server.call("PUT", f"{WIDGETS}/a?fieldManager=putter", widget(size=1, color="blue"))
    assert set(owners(await stored(server))) == {"one Apply", "putter Update"}


@pytest.mark.parametrize("reset", [[], [{}]])
async def test_managed_fields_can_be_reset(server: Server, reset: list[Object]) -> None:
    await apply(server, widget(size=1))
    patch = [{"op": "replace", "path": "/metadata/managedFields", "value": reset}]
    reply = await server.call("PATCH", f"{WIDGETS}/a", patch, JSON_PATCH)
    assert (reply.code, owners(reply.json())) == (200, {})
    after = await apply(server, widget(size=1))
    assert set(owners(after.json())) == {"before-first-apply Update", "one Apply"}


async def test_managed_fields_can_be_edited(server: Server) -> None:
    made = (await server.call("POST", f"{WIDGETS}?fieldManager=maker", widget(size=1))).json()
    entry = {**made["metadata"]["managedFields"][0], "manager": "one", "operation": "Apply"}
    patch = [
        {"op": "replace", "path": "/metadata/managedFields", "value": [entry]},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
    ]
    assert list(owners((await server.call("PATCH", f"{WIDGETS}/a", patch, JSON_PATCH)).json())) == ["one Apply"]
    assert (await apply(server, widget(size=2))).json()["spec"] == {"size": 2, "color": "red"}


async def test_managed_fields_cannot_be_edited_through_status(server: Server) -> None:
    await apply(server, widget(size=1))
    patch = [{"op": "replace", "path": "/metadata/managedFields", "value": []}]
    reply = await server.call("PATCH", f"{WIDGETS}/a/status", patch, JSON_PATCH)
    assert list(owners(reply.json())) == ["one Apply"]


async def test_writes_that_change_nothing_do_not_move_the_object(server: Server) -> None:
    first = (await server.call("POST", f"{WIDGETS}?fieldManager=maker", widget(size=1))).json()
    server.clock[0] += 60
    for method, path, body, headers in (
        ("PUT", f"{WIDGETS}/a?fieldManager=other", first, None),
        ("PUT", f"{WIDGETS}/a?fieldManager=maker", widget(size=1), None),
        ("PATCH", f"{WIDGETS}/a?fieldManager=other", {"spec": {"size": 1}}, MERGE),
        ("PATCH", f"{WIDGETS}/a/status?fieldManager=other", {"spec": {"size": 7}}, MERGE),
    ):
        assert (await server.call(method, path, body, headers)).json() == first


async def test_moving_the_time_alone_is_no_write(server: Server) -> None:
    first = (await server.call("POST", f"{WIDGETS}?fieldManager=maker", widget(size=1))).json()
    server.clock[0] += 60
    wish = json.loads(json.dumps(first))
    wish["metadata"]["managedFields"][0]["time"] = "2030-01-01T00:00:00Z"
    assert (await server.call("PUT", f"{WIDGETS}/a", wish)).json() == first


async def test_client_side_apply_becomes_server_side_apply(server: Server) -> None:
    annotation = "kubectl.kubernetes.io/last-applied-configuration"
    text = json.dumps(widget({"annotations": {}}, size=1, color="blue"))
    body = widget({"annotations": {annotation: text}}, size=1, color="blue")
    await server.call("POST", f"{WIDGETS}?fieldManager=kubectl-client-side-apply", body)
    after = (await apply(server, widget(size=2), "kubectl")).json()
    assert after["spec"] == {"size": 2, "color": "blue"}
    assert json.loads(after["metadata"]["annotations"][annotation]) == widget(size=2)


async def test_status_writes_of_a_local_client_are_its_own(server: Server) -> None:
    client = LocalClient(server.registry, server.verbs, manager="ctrl")
    ref = ResourceRef("test.example.com", "v1", "widgets")
    made = await client.create(ref, "default", widget(size=1))
    seen = await client.update_status(ref, "default", {**made, "status": {"ready": True}})
    assert owners(seen) == {
        "ctrl Update": {"f:spec": {".": {}, "f:color": {}, "f:size": {}}},
        "ctrl Update status": {"f:status": {".": {}, "f:ready": {}}},
    }


async def test_a_local_client_applies_with_force(server: Server) -> None:
    client = LocalClient(server.registry, server.verbs, manager="ctrl")
    ref = ResourceRef("test.example.com", "v1", "widgets")
    await server.call("POST", f"{WIDGETS}?fieldManager=maker", widget(size=1))
    taken = await client.apply(ref, "default", widget(size=2), field_manager="boss")
    assert (taken["spec"]["size"], owners(taken)["boss Apply"]) == (2, {"f:spec": {"f:size": {}}})
    dropped = await client.apply(ref, "default", widget(color="blue"), field_manager="boss")
    assert dropped["spec"] == {"color": "blue"}
