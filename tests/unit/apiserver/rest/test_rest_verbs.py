"""The verbs through HTTP: what a client sends, what it gets, what is stored."""

import json
from typing import Any

import pytest

from tests.unit.apiserver.rest.conftest import Server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
ZONES = "/apis/test.example.com/v1/zones"
MERGE = {"content-type": "application/merge-patch+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}
STRATEGIC = {"content-type": "application/strategic-merge-patch+json"}


def widget(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "test.example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


async def test_create_stamps_defaults_and_answers_201(server: Server) -> None:
    reply = await server.call("POST", WIDGETS, widget(size=1))
    assert reply.code == 201
    stored = reply.json()
    assert len(stored["metadata"]["managedFields"]) == 1
    assert stored["metadata"] == {
        "managedFields": stored["metadata"]["managedFields"],
        "name": "a",
        "namespace": "default",
        "uid": "uid-1",
        "creationTimestamp": "2023-11-14T22:13:20Z",
        "generation": 1,
        "resourceVersion": stored["metadata"]["resourceVersion"],
    }
    assert stored["spec"] == {"size": 1, "color": "red"}
    assert (await server.call("GET", f"{WIDGETS}/a")).json() == stored


async def test_create_ignores_status_and_server_fields(server: Server) -> None:
    body = widget(size=1) | {"status": {"ready": True}}
    body["metadata"] |= {"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7}
    stored = (await server.call("POST", WIDGETS, body)).json()
    assert "status" not in stored
    assert (stored["metadata"]["uid"], stored["metadata"]["generation"]) == ("uid-1", 1)


async def test_content_type_may_be_missing_and_yaml_is_read(server: Server) -> None:
    assert (await server.call("POST", WIDGETS, widget("a"))).code == 201
    text = b"apiVersion: test.example.com/v1\nkind: Widget\nmetadata: {name: b}\nspec: {size: 2}\n"
    assert (await server.call("POST", WIDGETS, text, {"content-type": "application/yaml"})).code == 201
    reply = await server.call("GET", f"{WIDGETS}/b", headers={"accept": "application/yaml"})
    assert reply.header("content-type") == "application/yaml"
    assert "size: 2" in reply.text


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "code", "reason", "text"),
    [
        pytest.param("POST", WIDGETS, b"{", {}, 400, "BadRequest", "", id="malformed JSON"),
        pytest.param(
            "POST", WIDGETS, b"[]", {}, 400, "BadRequest", "cannot be handled as a Widget", id="not an object"
        ),
        pytest.param("POST", WIDGETS, widget(size="x"), {}, 400, "BadRequest", "spec.size of type int32", id="type"),
        pytest.param(
            "POST", WIDGETS, widget() | {"apiVersion": "v9"}, {}, 400, "BadRequest", "does not match", id="api version"
        ),
        pytest.param("POST", WIDGETS, widget() | {"kind": "X"}, {}, 400, "BadRequest", "cannot be handled", id="kind"),
        pytest.param("POST", WIDGETS, widget(size=13), {}, 422, "Invalid", "brings bad luck", id="strategy"),
        pytest.param("POST", WIDGETS, widget("Bad_Name"), {}, 422, "Invalid", "RFC 1123", id="name"),
        pytest.param("POST", WIDGETS, widget(""), {}, 422, "Invalid", "name or generateName is required", id="no name"),
        pytest.param(
            "POST",
            WIDGETS,
            {**widget(), "metadata": {"name": "a", "namespace": "other"}},
            {},
            400,
            "BadRequest",
            "namespace of the provided object does not match",
            id="foreign namespace",
        ),
        pytest.param(
            "POST", WIDGETS, widget(), {"content-type": "text/plain"}, 415, "UnsupportedMediaType", "", id="media type"
        ),
        pytest.param(
            "GET", f"{WIDGETS}/x", None, {}, 404, "NotFound", 'widgets.test.example.com "x" not', id="missing"
        ),
        pytest.param("PUT", f"{WIDGETS}/b", widget("a"), {}, 400, "BadRequest", "name of the object (a)", id="names"),
        pytest.param("PUT", f"{WIDGETS}/a", widget("a"), {}, 404, "NotFound", "", id="update missing"),
        pytest.param("PUT", WIDGETS, widget("a"), {}, 405, "MethodNotAllowed", "", id="method"),
        pytest.param("POST", f"{WIDGETS}/a", widget("a"), {}, 405, "MethodNotAllowed", "", id="create on item"),
        pytest.param(
            "PATCH", f"{WIDGETS}/a", b"{}", {"content-type": "x/y"}, 415, "UnsupportedMediaType", "", id="patch"
        ),
        pytest.param("GET", WIDGETS, None, {"accept": "image/png"}, 406, "NotAcceptable", "", id="accept"),
        pytest.param("GET", f"{WIDGETS}?labelSelector=a%20b", None, {}, 400, "BadRequest", "", id="selector"),
        pytest.param("GET", f"{WIDGETS}?fieldSelector=x=y", None, {}, 400, "BadRequest", "known field", id="field"),
        pytest.param("GET", f"{WIDGETS}?limit=x", None, {}, 400, "BadRequest", "", id="limit"),
        pytest.param("GET", f"{WIDGETS}?resourceVersion=x", None, {}, 400, "BadRequest", "", id="version"),
        pytest.param("GET", f"{WIDGETS}?continue=x", None, {}, 400, "BadRequest", "continue", id="continue"),
        pytest.param("POST", f"{WIDGETS}?dryRun=Some", widget(), {}, 422, "Invalid", "Unsupported value", id="dry run"),
    ],
)
async def test_refusals(
    server: Server, method: str, path: str, body: Any, headers: dict[str, str], code: int, reason: str, text: str
) -> None:
    reply = await server.call(method, path, body, headers)
    document = reply.json()
    assert (reply.code, document["kind"], document["reason"]) == (code, "Status", reason)
    assert document["code"] == code
    assert text in document["message"]


async def test_body_over_the_limit_is_413(server: Server) -> None:
    reply = await server.call("POST", WIDGETS, b" " * (3 * 1024 * 1024 + 1))
    assert (reply.code, reply.json()["reason"]) == (413, "RequestEntityTooLarge")
    assert reply.json()["message"] == "Request entity too large: limit is 3145728"


async def test_unknown_paths_are_a_plain_404(server: Server) -> None:
    for path in ("/nope", "/apis/test.example.com/v1/nope", "/apis/test.example.com/v1/namespaces/n/zones/z"):
        reply = await server.call("GET", path)
        assert (reply.code, reply.text) == (404, "404 page not found\n")


async def test_exists_conflicts_and_revisions(server: Server) -> None:
    first = (await server.call("POST", WIDGETS, widget(size=1))).json()
    again = await server.call("POST", WIDGETS, widget(size=1))
    assert (again.code, again.json()["reason"]) == (409, "AlreadyExists")
    changed = {**first, "spec": {"size": 2}}
    second = (await server.call("PUT", f"{WIDGETS}/a", changed)).json()
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    assert second["metadata"]["generation"] == 2
    stale = await server.call("PUT", f"{WIDGETS}/a", changed)
    assert (stale.code, stale.json()["reason"]) == (409, "Conflict")
    assert "the object has been modified" in stale.json()["message"]


async def test_update_without_change_moves_nothing(server: Server) -> None:
    first = (await server.call("POST", WIDGETS, widget(size=1))).json()
    assert (await server.call("PUT", f"{WIDGETS}/a", first)).json() == first
    assert (await server.call("PATCH", f"{WIDGETS}/a", {"spec": {"size": 1}}, MERGE)).json() == first


async def test_unconditional_update_is_a_choice_of_the_kind(server: Server) -> None:
    await server.call("POST", WIDGETS, widget(size=1))
    assert (await server.call("PUT", f"{WIDGETS}/a", widget(size=5))).json()["spec"]["size"] == 5
    zone = {"metadata": {"name": "z"}, "spec": {"x": "1"}}
    await server.call("POST", ZONES, zone)
    reply = await server.call("PUT", f"{ZONES}/z", zone)
    assert reply.code == 422
    assert reply.json()["message"] == (
        'zones.test.example.com "z" is invalid: metadata.resourceVersion: Invalid value: 0: '
        "must be specified for an update"
    )


async def test_status_is_written_apart(server: Server) -> None:
    stored = (await server.call("POST", WIDGETS, widget(size=1))).json()
    both = {**stored, "spec": {"size": 9}, "status": {"ready": True}}
    after = (await server.call("PUT", f"{WIDGETS}/a/status", both)).json()
    assert (after["spec"]["size"], after["status"], after["metadata"]["generation"]) == (1, {"ready": True}, 1)
    main = (await server.call("PATCH", f"{WIDGETS}/a", {"spec": {"size": 2}, "status": {"ready": False}}, MERGE)).json()
    assert (main["spec"]["size"], main["status"]) == (2, {"ready": True})
    assert (await server.call("GET", f"{WIDGETS}/a/status")).json() == main
    assert (await server.call("GET", f"{ZONES}/a/status")).code == 404


async def test_patches(server: Server) -> None:
    await server.call("POST", WIDGETS, widget(size=1, parts=[{"name": "p", "n": 1}]))
    ops = [{"op": "replace", "path": "/spec/size", "value": 4}]
    assert (await server.call("PATCH", f"{WIDGETS}/a", ops, JSON_PATCH)).json()["spec"]["size"] == 4
    merged = await server.call("PATCH", f"{WIDGETS}/a", {"spec": {"color": None, "size": 5}}, MERGE)
    assert merged.json()["spec"]["color"] == "red"
    parts = {"spec": {"parts": [{"name": "q", "n": 2}]}}
    strategic = (await server.call("PATCH", f"{WIDGETS}/a", parts, STRATEGIC)).json()
    assert {part["name"] for part in strategic["spec"]["parts"]} == {"p", "q"}
    failed = await server.call("PATCH", f"{WIDGETS}/a", [{"op": "test", "path": "/spec/size", "value": 0}], JSON_PATCH)
    assert (failed.code, failed.json()["reason"]) == (422, "Invalid")


async def test_patch_with_a_stale_version_conflicts(server: Server) -> None:
    first = (await server.call("POST", WIDGETS, widget(size=1))).json()
    await server.call("PATCH", f"{WIDGETS}/a", {"spec": {"size": 2}}, MERGE)
    version = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "spec": {"size": 3}}
    assert (await server.call("PATCH", f"{WIDGETS}/a", version, MERGE)).code == 409


async def test_delete_answers_a_status_with_uid(server: Server) -> None:
    await server.call("POST", WIDGETS, widget())
    wrong = await server.call("DELETE", f"{WIDGETS}/a", {"preconditions": {"uid": "other"}})
    assert (wrong.code, wrong.json()["reason"]) == (409, "Conflict")
    reply = await server.call("DELETE", f"{WIDGETS}/a", {"kind": "DeleteOptions", "propagationPolicy": "Background"})
    assert reply.json()["status"] == "Success"
    assert reply.json()["details"]["uid"] == "uid-1"
    assert (await server.call("GET", f"{WIDGETS}/a")).code == 404


@pytest.mark.parametrize("policy", ["Foreground", "Orphan", "Background"])
async def test_cascade_modes_do_not_leave_an_object_hanging(server: Server, policy: str) -> None:
    await server.call("POST", WIDGETS, widget())
    assert (await server.call("DELETE", f"{WIDGETS}/a", {"propagationPolicy": policy})).code == 200
    assert (await server.call("GET", f"{WIDGETS}/a")).code == 404


async def test_finalizers_hold_an_object(server: Server) -> None:
    body = widget()
    body["metadata"]["finalizers"] = ["test.example.com/hold"]
    await server.call("POST", WIDGETS, body)
    waiting = (await server.call("DELETE", f"{WIDGETS}/a")).json()
    assert waiting["metadata"]["deletionTimestamp"] == "2023-11-14T22:13:20Z"
    more = {"metadata": {"finalizers": ["test.example.com/hold", "test.example.com/more"]}}
    assert (await server.call("PATCH", f"{WIDGETS}/a", more, MERGE)).code == 422
    last = await server.call("PATCH", f"{WIDGETS}/a", {"metadata": {"finalizers": None}}, MERGE)
    assert last.code == 200
    assert (await server.call("GET", f"{WIDGETS}/a")).code == 404


async def test_delete_collection_returns_what_it_selected(server: Server) -> None:
    for name in ("a", "b", "c"):
        body = widget(name)
        body["metadata"]["labels"] = {"keep": "yes" if name == "b" else "no"}
        await server.call("POST", WIDGETS, body)
    reply = await server.call("DELETE", f"{WIDGETS}?labelSelector=keep=no")
    assert [item["metadata"]["name"] for item in reply.json()["items"]] == ["a", "c"]
    left = (await server.call("GET", WIDGETS)).json()["items"]
    assert [item["metadata"]["name"] for item in left] == ["b"]


async def test_dry_run_changes_nothing(server: Server) -> None:
    assert (await server.call("POST", f"{WIDGETS}?dryRun=All", widget())).code == 201
    assert (await server.call("GET", f"{WIDGETS}/a")).code == 404
    await server.call("POST", WIDGETS, widget(size=1))
    patched = await server.call("PATCH", f"{WIDGETS}/a?dryRun=All", {"spec": {"size": 2}}, MERGE)
    assert patched.json()["spec"]["size"] == 2
    await server.call("DELETE", f"{WIDGETS}/a?dryRun=All")
    assert (await server.call("GET", f"{WIDGETS}/a")).json()["spec"]["size"] == 1


@pytest.mark.parametrize(
    ("mode", "code", "warnings"),
    [("Strict", 400, 0), ("Warn", 201, 1), ("Ignore", 201, 0), ("", 201, 1)],
)
async def test_field_validation(server: Server, mode: str, code: int, warnings: int) -> None:
    query = f"?fieldValidation={mode}" if mode else ""
    reply = await server.call("POST", WIDGETS + query, widget(sise=1))
    assert reply.code == code
    assert reply.all("warning") == ['299 - "unknown field \\"spec.sise\\""'] * warnings
    if code == 201:
        assert "sise" not in reply.json()["spec"]
    else:
        assert 'strict decoding error: unknown field "spec.sise"' in reply.json()["message"]


async def test_generate_name(server: Server) -> None:
    body = {"metadata": {"generateName": "w-"}, "spec": {}}
    assert (await server.call("POST", WIDGETS, body)).json()["metadata"]["name"] == "w-abcde"
    taken = await server.call("POST", WIDGETS, body)
    assert (taken.code, taken.json()["details"]["retryAfterSeconds"]) == (409, 1)
    assert taken.header("retry-after") == "1"


async def test_pages_show_one_revision(server: Server) -> None:
    for number in range(5):
        await server.call("POST", WIDGETS, widget(f"w{number}"))
    first = (await server.call("GET", f"{WIDGETS}?limit=2")).json()
    assert first["metadata"]["remainingItemCount"] == 3
    await server.call("DELETE", f"{WIDGETS}/w3")
    await server.call("POST", WIDGETS, widget("w9"))
    names, token = [item["metadata"]["name"] for item in first["items"]], first["metadata"]["continue"]
    while token:
        page = (await server.call("GET", f"{WIDGETS}?limit=2&continue={token}")).json()
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
    assert names == ["w0", "w1", "w2", "w3", "w4"]


async def test_an_old_page_expires_but_can_go_on(server: Server) -> None:
    for number in range(3):
        await server.call("POST", WIDGETS, widget(f"w{number}"))
    token = (await server.call("GET", f"{WIDGETS}?limit=1")).json()["metadata"]["continue"]
    for number in range(12):
        await server.call("PATCH", f"{WIDGETS}/w0", {"spec": {"size": number}}, MERGE)
    expired = await server.call("GET", f"{WIDGETS}?limit=1&continue={token}")
    assert (expired.code, expired.json()["reason"]) == (410, "Expired")
    onward = expired.json()["metadata"]["continue"]
    rest = (await server.call("GET", f"{WIDGETS}?continue={onward}")).json()["items"]
    assert [item["metadata"]["name"] for item in rest] == ["w1", "w2"]


async def test_lists_over_all_namespaces_and_selectors(server: Server) -> None:
    for namespace, color in (("x", "blue"), ("y", "red")):
        path = f"/apis/test.example.com/v1/namespaces/{namespace}/widgets"
        assert (await server.call("POST", path, widget(color=color))).code == 201
    everywhere = (await server.call("GET", "/apis/test.example.com/v1/widgets")).json()
    assert everywhere["kind"] == "WidgetList"
    assert [item["metadata"]["namespace"] for item in everywhere["items"]] == ["x", "y"]
    blue = (await server.call("GET", "/apis/test.example.com/v1/widgets?fieldSelector=spec.color=blue")).json()
    assert [item["metadata"]["namespace"] for item in blue["items"]] == ["x"]


async def test_tables_and_metadata(server: Server) -> None:
    await server.call("POST", WIDGETS, widget(size=1))
    server.clock[0] += 90
    accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    table = (await server.call("GET", WIDGETS, headers=accept)).json()
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert table["rows"][0]["cells"] == ["a", "90s"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    meta = {"accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    document = (await server.call("GET", WIDGETS, headers=meta)).json()
    assert "spec" not in document["items"][0]


async def test_subresource_by_declaration(server: Server) -> None:
    await server.call("POST", WIDGETS, widget())
    answer = (await server.call("GET", f"{WIDGETS}/a/echo")).json()
    assert answer == {"kind": "Echo", "apiVersion": "test.example.com/v1", "from": "a", "by": "admin"}
    assert (await server.call("POST", f"{WIDGETS}/a/echo", {})).code == 405
    assert (await server.call("GET", f"{WIDGETS}/a/nope")).code == 404


async def test_who_may_ask(server: Server) -> None:
    assert (await server.anonymous("GET", WIDGETS)).code == 401
    refused = await server.nobody("GET", WIDGETS)
    assert refused.code == 403
    assert 'User "nobody" cannot list resource "widgets" in API group "test.example.com"' in refused.json()["message"]
    assert (await server.anonymous("GET", "/healthz")).text == "ok"


async def test_large_answers_are_compressed_when_asked(server: Server) -> None:
    import gzip

    body = widget()
    body["metadata"]["annotations"] = {"a": "x" * 200_000}
    await server.call("POST", WIDGETS, body)
    reply = await server.call("GET", f"{WIDGETS}/a", headers={"accept-encoding": "gzip"})
    assert reply.header("content-encoding") == "gzip"
    assert json.loads(gzip.decompress(reply.body))["metadata"]["name"] == "a"
    assert (await server.call("GET", f"{WIDGETS}/a")).header("content-encoding") == ""


async def test_documents(server: Server) -> None:
    groups = (await server.call("GET", "/apis")).json()
    assert groups["groups"][0]["name"] == "test.example.com"
    accept = {"accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"}
    aggregated = await server.call("GET", "/apis", headers=accept)
    assert aggregated.json()["items"][0]["metadata"]["name"] == "test.example.com"
    again = await server.call("GET", "/apis", headers=accept | {"if-none-match": aggregated.header("etag")})
    assert (again.code, again.body) == (304, b"")
    resources = (await server.call("GET", "/apis/test.example.com/v1")).json()["resources"]
    assert {entry["name"] for entry in resources} == {"widgets", "widgets/status", "widgets/echo", "zones"}
    root = (await server.call("GET", "/openapi/v3")).json()
    url = root["paths"]["apis/test.example.com/v1"]["serverRelativeURL"]
    document = await server.call("GET", url)
    assert (document.code, document.header("cache-control")) == (200, "public, immutable")
    assert (await server.call("GET", url[:-4] + "0000")).code == 301
    assert (await server.call("GET", "/version")).json()["gitVersion"] == "v1.32.0"
    assert "/apis/test.example.com" in (await server.call("GET", "/")).json()["paths"]
    assert "apiserver_request_total" in (await server.call("GET", "/metrics")).text
