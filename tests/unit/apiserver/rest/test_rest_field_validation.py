"""Unknown and duplicate fields on create, update and every patch type (rest.md A3.3)."""

import json
from typing import Any

import pytest

from apimachinery.field_errors import quote
from apimachinery.patch import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from tests.unit.apiserver.rest.conftest import Server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
HANDLED = 'Widget in version "v1" cannot be handled as a Widget: strict decoding error: '
UNKNOWN, DUPLICATE = 'unknown field "spec.shape"', 'duplicate field "spec.size"'
JSON_BODY = b'{"metadata":{"name":"a"},"spec":{"size":1,"shape":1,"size":2}}'
YAML_BODY = b"metadata:\n  name: a\nspec:\n  size: 1\n  shape: 1\n  size: 2\n"
YAML_DUPLICATE = 'line 6: key "size" already set in map'


async def stored(server: Server) -> Any:
    made = await server.call("POST", WIDGETS, {"metadata": {"name": "a"}, "spec": {"size": 1}})
    return made.json()


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("media_type", "body", "problems"),
    [
        ("application/json", JSON_BODY, [DUPLICATE, UNKNOWN]),
        ("application/yaml", YAML_BODY, [YAML_DUPLICATE, UNKNOWN]),
    ],
    ids=["json", "yaml"],
)
async def test_writes(server: Server, method: str, media_type: str, body: bytes, problems: list[str]) -> None:
    target = WIDGETS if method == "POST" else f"{WIDGETS}/a"
    if method == "PUT":
        await stored(server)
    headers = {"content-type": media_type}
    strict = await server.call(method, f"{target}?fieldValidation=Strict", body, headers)
    assert (strict.code, strict.json()["message"]) == (400, HANDLED + ", ".join(problems))
    warned = await server.call(method, f"{target}?dryRun=All", body, headers)
    assert warned.all("warning") == [f"299 - {quote(problem)}" for problem in problems]
    assert warned.json()["spec"] == {"size": 2, "color": "red"}
    ignored = await server.call(method, f"{target}?fieldValidation=Ignore", body, headers)
    assert ignored.all("warning") == []
    assert ignored.json()["spec"] == {"size": 2, "color": "red"}


PATCHES = [
    (MERGE_PATCH, b'{"spec":{"size":1,"shape":1,"size":2}}', [DUPLICATE, UNKNOWN]),
    (STRATEGIC_MERGE_PATCH, b'{"spec":{"size":1,"shape":1,"size":2}}', [DUPLICATE, UNKNOWN]),
    (
        JSON_PATCH,
        b'[{"op":"replace","op":"replace","path":"/spec/size","value":2,"why":""},'
        b'{"op":"add","path":"/spec/shape","value":1}]',
        ['json patch duplicate field "[0].op"', 'json patch unknown field "[0].why"', UNKNOWN],
    ),
]


@pytest.mark.parametrize(("media_type", "body", "problems"), PATCHES, ids=["merge", "strategic", "json"])
async def test_patches(server: Server, media_type: str, body: bytes, problems: list[str]) -> None:
    before = await stored(server)
    target, headers = f"{WIDGETS}/a", {"content-type": media_type}
    strict = await server.call("PATCH", f"{target}?fieldValidation=Strict", body, headers)
    status = strict.json()
    assert (strict.code, status["reason"]) == (422, "Invalid")
    assert status["message"].startswith(' "" is invalid: patch: Invalid value: "')
    assert status["message"].endswith(f": strict decoding error: {', '.join(problems)}")
    assert [cause["field"] for cause in status["details"]["causes"]] == ["patch"]
    shown = status["message"].removeprefix(' "" is invalid: patch: Invalid value: ')
    document = json.loads(json.loads(shown[: shown.index('": strict decoding error') + 1]))
    assert document["spec"]["shape"] == 1
    assert ("kind" in document) is (media_type != STRATEGIC_MERGE_PATCH)
    warned = await server.call("PATCH", f"{target}?dryRun=All", body, headers)
    assert warned.all("warning") == [f"299 - {quote(problem)}" for problem in problems]
    ignored = await server.call("PATCH", f"{target}?fieldValidation=Ignore", body, headers)
    assert ignored.all("warning") == []
    assert ignored.json()["spec"] == {**before["spec"], "size": 2}


@pytest.mark.parametrize("media_type", [MERGE_PATCH, STRATEGIC_MERGE_PATCH, JSON_PATCH])
async def test_a_patch_whose_result_does_not_decode(server: Server, media_type: str) -> None:
    await stored(server)
    json_patch = [{"op": "replace", "path": "/spec/size", "value": "big"}]
    body = json_patch if media_type == JSON_PATCH else {"spec": {"size": "big"}}
    refused = await server.call(
        "PATCH", f"{WIDGETS}/a?fieldValidation=Ignore", body, headers={"content-type": media_type}
    )
    assert refused.code == 422
    assert refused.json()["message"].startswith(' "" is invalid: patch: Invalid value: "{')
    assert "json: cannot unmarshal string into Go struct field" in refused.json()["message"]


async def test_apply_names_repeated_keys(server: Server) -> None:
    body = b"apiVersion: test.example.com/v1\nkind: Widget\nmetadata:\n  name: a\nspec:\n  size: 1\n  size: 2\n"
    target = f"{WIDGETS}/a?fieldManager=m&fieldValidation="
    refused = await server.call("PATCH", f"{target}Strict", body, {"content-type": APPLY_PATCH})
    assert refused.code == 400
    assert refused.json()["message"].startswith("error strict decoding patch: ")
    assert 'line 7: key "size" already set in map' in refused.json()["message"]
