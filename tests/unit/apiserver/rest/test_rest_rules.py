"""Negotiation, routing and options of the verbs, row by row (rest.md A1 to A7)."""

import asyncio
import json
from typing import Any

import pytest

from apiserver.rest import read
from tests.unit.apiserver.rest.conftest import Server

ALL = "/apis/test.example.com/v1/widgets"
WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
ZONES = "/apis/test.example.com/v1/zones"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"


def widget(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "spec": {}}


@pytest.fixture
async def filled(server: Server) -> Server:
    """Widgets a and b."""
    for name in ("a", "b"):
        assert (await server.call("POST", WIDGETS, widget(name))).code == 201
    return server


@pytest.mark.parametrize(
    ("method", "target", "code", "names"),
    [
        ("GET", f"{ALL}?fieldSelector=metadata.name%3Da", 200, ["a"]),
        ("GET", f"{WIDGETS}?fieldSelector=metadata.name%3Da", 200, ["a"]),
        ("GET", f"{WIDGETS}?fieldSelector=metadata.name%3Dnobody", 200, []),
        ("GET", f"{WIDGETS}/", 200, ["a", "b"]),
        ("GET", "/apis/test.example.com/v1/widgets/a", 404, None),
        ("GET", f"{WIDGETS}/a/status/more", 404, None),
        ("GET", f"{WIDGETS}/a/nothing", 404, None),
        ("GET", f"{ZONES}/a/status", 404, None),
        ("GET", "/apis/test.example.com/v1/namespaces/default/zones", 404, None),
        ("GET", "/apis/test.example.com/v1/watch/namespaces/default/widgets/a/status", 404, None),
        ("GET", "/apis/test.example.com/v1/watch", 400, None),
        ("POST", f"{WIDGETS}/a", 405, None),
        ("POST", ALL, 405, None),
        ("PUT", WIDGETS, 405, None),
        ("PATCH", WIDGETS, 405, None),
        ("OPTIONS", f"{WIDGETS}/a", 405, None),
        ("FOO", f"{WIDGETS}/a", 405, None),
        ("GET", f"{WIDGETS}/..", 400, None),
        ("GET", "/version/", 200, None),
        ("GET", "/api", 200, None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_routes(filled: Server, method: str, target: str, code: int, names: list[str] | None) -> None:
    answer = await filled.call(method, target)
    assert answer.code == code
    if names is not None:
        assert [item["metadata"]["name"] for item in answer.json()["items"]] == names


async def _events(server: Server, target: str) -> list[tuple[str, str]]:
    """Type and name of every event until the watch ends."""
    answer = await server.call("GET", f"{target}timeoutSeconds=1")
    assert answer.code == 200
    lines = [line for line in answer.text.splitlines() if line]
    events = [json.loads(line) for line in lines]
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("/apis/test.example.com/v1/watch/widgets?", ["a", "b"]),
        ("/apis/test.example.com/v1/watch/namespaces/default/widgets?", ["a", "b"]),
        ("/apis/test.example.com/v1/watch/namespaces/default/widgets/b?", ["b"]),
        (f"{WIDGETS}/b?watch=1&", ["b"]),
        (f"{WIDGETS}/b?watch=1&fieldSelector=metadata.name%3Db&", ["b"]),
        (f"{ALL}?watch&fieldSelector=metadata.name%3Da&", ["a"]),
        (f"{WIDGETS}?watch=1&resourceVersion=0&", ["a", "b"]),
        (f"{WIDGETS}?watch=1&resourceVersion=99999&", []),
    ],
    ids=["all", "namespace", "one", "item", "item-selected", "collection-selected", "any", "future"],
)
async def test_watch_paths(filled: Server, target: str, names: list[str]) -> None:
    assert await _events(filled, target) == [("ADDED", name) for name in names]


RV_FAULT = 'resourceVersion: Invalid value: "{0}": strconv.ParseUint: parsing "{0}": invalid syntax'
RV_RANGE = 'resourceVersion: Invalid value: "{0}": strconv.ParseUint: parsing "{0}": value out of range'
HUGE = "9" * 30


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        (f"{WIDGETS}?resourceVersion=abc", 400, "invalid resource version: " + RV_FAULT.format("abc")),
        (f"{WIDGETS}?resourceVersion=-1", 400, "invalid resource version: " + RV_FAULT.format("-1")),
        (f"{WIDGETS}?resourceVersion={HUGE}", 400, "invalid resource version: " + RV_RANGE.format(HUGE)),
        (f"{WIDGETS}/a?resourceVersion=abc", 500, RV_FAULT.format("abc")),
        (f"{WIDGETS}?watch=1&resourceVersion=abc", 500, RV_FAULT.format("abc")),
        (f"{WIDGETS}?watch=1&resourceVersion={'9' * 5000}", 500, RV_RANGE.format("9" * 5000)),
        (
            f"{WIDGETS}/a?watch=1&fieldSelector=metadata.name%3Db",
            400,
            "fieldSelector metadata.name doesn't match requested name",
        ),
        (
            "/apis/test.example.com/v1/watch/namespaces/default/widgets/a?fieldSelector=spec.color%3Dred",
            400,
            "fieldSelector metadata.name doesn't match requested name",
        ),
        (
            f"{WIDGETS}?timeout=abc",
            400,
            'invalid timeout specified in the request URL - time: invalid duration "abc"',
        ),
        (
            "/apis/test.example.com/v1/watch",
            400,
            "failed to create RequestInfo: unable to determine kind and namespace from url, "
            "/apis/test.example.com/v1/watch",
        ),
    ],
    ids=[
        "list",
        "list-negative",
        "list-range",
        "get",
        "watch",
        "watch-range",
        "watch-other-name",
        "watch-no-name",
        "timeout",
        "nothing-to-watch",
    ],
)
async def test_refused_reads(filled: Server, target: str, code: int, message: str) -> None:
    answer = await filled.call("GET", target)
    assert (answer.code, answer.json()["message"]) == (code, message)
    assert answer.json().get("reason", "") == ("" if code == 500 else "BadRequest")


async def test_requests_end_when_the_client_wants(filled: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slowly(*_: object) -> None:
        await asyncio.sleep(5)

    monkeypatch.setattr(read.Reader, "wait_for", slowly)
    answer = await filled.call("GET", f"{WIDGETS}/a?resourceVersion=99&timeout=50ms")
    assert (answer.code, answer.json()["reason"]) == (504, "Timeout")
    assert (await filled.call("GET", f"{WIDGETS}/a?timeout=0s")).code == 200


@pytest.mark.parametrize(
    ("method", "target", "accept", "code", "kind"),
    [
        ("GET", f"{WIDGETS}/a", METADATA, 200, "PartialObjectMetadata"),
        ("GET", WIDGETS, METADATA_LIST, 200, "PartialObjectMetadataList"),
        ("GET", WIDGETS, TABLE, 200, "Table"),
        ("GET", f"{WIDGETS}/a", "text/html,application/json;q=0.5", 200, "Widget"),
        ("GET", f"{WIDGETS}/a", "application/json;as=Nothing;g=meta.k8s.io;v=v1,application/json", 200, "Widget"),
        ("DELETE", f"{WIDGETS}/a", METADATA, 200, "Status"),
        ("DELETE", f"{WIDGETS}/a", TABLE, 200, "Status"),
        ("DELETE", f"{WIDGETS}/nobody", METADATA, 404, "Status"),
        ("DELETE", WIDGETS, METADATA_LIST, 200, "PartialObjectMetadataList"),
        ("PUT", f"{WIDGETS}/a", METADATA, 200, "PartialObjectMetadata"),
        ("PUT", f"{WIDGETS}/a", TABLE, 200, "Table"),
    ],
    ids=str,
)
async def test_converted_answers(filled: Server, method: str, target: str, accept: str, code: int, kind: str) -> None:
    body = widget("a") if method == "PUT" else None
    answer = await filled.call(method, target, body, {"accept": accept})
    assert (answer.code, answer.json()["kind"]) == (code, kind)


@pytest.mark.parametrize(
    ("target", "accept", "message"),
    [
        (
            WIDGETS,
            METADATA,
            "you requested PartialObjectMetadata, but the requested object is a list (*v1.WidgetList)",
        ),
        (
            f"{WIDGETS}/a",
            METADATA_LIST,
            "you requested PartialObjectMetadataList, but the requested object is not a list (*v1.Widget)",
        ),
        (WIDGETS, "text/html", "only the following media types are accepted: application/json, application/yaml"),
        (
            f"{WIDGETS}?watch=1",
            "application/vnd.kubernetes.protobuf",
            "only the following media types are accepted: application/json;stream=watch",
        ),
    ],
    ids=["list", "item", "nothing", "stream"],
)
async def test_unacceptable_answers(filled: Server, target: str, accept: str, message: str) -> None:
    answer = await filled.call("GET", target, headers={"accept": accept})
    assert (answer.code, answer.json()["reason"], answer.json()["message"]) == (406, "NotAcceptable", message)


@pytest.mark.parametrize(
    ("method", "target"),
    [("POST", WIDGETS), ("PUT", f"{WIDGETS}/a"), ("DELETE", f"{WIDGETS}/a"), ("DELETE", WIDGETS)],
    ids=["create", "update", "delete", "deletecollection"],
)
async def test_nothing_is_written_when_the_answer_is_unacceptable(filled: Server, method: str, target: str) -> None:
    before = (await filled.call("GET", WIDGETS)).json()
    name = "c" if method == "POST" else "a"
    answer = await filled.call(method, target, {**widget(name), "spec": {"size": 9}}, {"accept": "image/png"})
    assert answer.code == 406
    assert (await filled.call("GET", WIDGETS)).json() == before


OWNER = {"apiVersion": "v1", "kind": "Zone", "name": "z", "uid": "u1"}
OWNERS = (
    ".metadata.ownerReferences contains duplicate entries{}; API server dedups owner references in 1.20+, and may "
    "reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: u1"
)


async def test_owners_are_kept_once(filled: Server) -> None:
    owners = [OWNER, {**OWNER, "name": "other"}, OWNER]
    made = await filled.call("POST", WIDGETS, widget("c", ownerReferences=owners))
    assert made.json()["metadata"]["ownerReferences"] == owners[:2]
    assert made.all("warning") == [f'299 - "{OWNERS.format("")}"']
    patched = await filled.call(
        "PATCH",
        f"{WIDGETS}/a",
        {"metadata": {"ownerReferences": [OWNER, OWNER]}},
        {"content-type": "application/merge-patch+json"},
    )
    assert patched.json()["metadata"]["ownerReferences"] == [OWNER]
    assert patched.all("warning") == [f'299 - "{OWNERS.format(" after mutating admission happens")}"']


async def test_many_owners_of_one_uid_are_no_burden(filled: Server) -> None:
    owners = [{**OWNER, "name": f"z{number}"} for number in range(20_000)]
    answer = await asyncio.wait_for(filled.call("POST", WIDGETS, widget("c", ownerReferences=owners)), 5)
    assert answer.code == 201


async def test_emptied_metadata_is_left_out(filled: Server) -> None:
    headers = {"content-type": "application/merge-patch+json"}
    await filled.call("PATCH", f"{WIDGETS}/a", {"metadata": {"annotations": {"x": "y"}}}, headers)
    answer = await filled.call("PATCH", f"{WIDGETS}/a", {"metadata": {"annotations": {"x": None}}}, headers)
    assert "annotations" not in answer.json()["metadata"]
    version = answer.json()["metadata"]["resourceVersion"]
    again = await filled.call("PATCH", f"{WIDGETS}/a", {"metadata": {"labels": {}, "finalizers": []}}, headers)
    assert again.json()["metadata"]["resourceVersion"] == version


async def test_conflict_of_uids(filled: Server) -> None:
    answer = await filled.call("PUT", f"{WIDGETS}/a", widget("a", uid="other"))
    expected = (
        'Operation cannot be fulfilled on widgets.test.example.com "a": StorageError: invalid object, Code: 4, '
        "Key: /test.example.com/widgets/default/a, ResourceVersion: 0, AdditionalErrorMsg: "
        "Precondition failed: UID in precondition: other, UID in object meta: uid-1"
    )
    assert (answer.code, answer.json()["message"]) == (409, expected)


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("deflate", False), ("", False), ("x-gzip", False)],
)
async def test_compression(filled: Server, accept_encoding: str, compressed: bool) -> None:
    await filled.call("POST", WIDGETS, widget("c", annotations={"x": "y" * 200_000}))
    answer = await filled.call("GET", f"{WIDGETS}/c", headers={"accept-encoding": accept_encoding})
    assert (answer.header("content-encoding") == "gzip") is compressed


@pytest.mark.parametrize(
    ("query", "agent", "pretty"),
    [
        ("", "curl/8.0", True),
        ("", "Wget/1.21", True),
        ("", "Mozilla/5.0 (X11)", True),
        ("", "kubectl/v1.32.0", False),
        ("?pretty=true", "kubectl/v1.32.0", True),
        ("?pretty=false", "curl/8.0", False),
    ],
)
async def test_pretty_answers(filled: Server, query: str, agent: str, pretty: bool) -> None:
    answer = await filled.call("GET", f"{WIDGETS}/a{query}", headers={"user-agent": agent})
    assert answer.body.startswith(b'{\n  "') is pretty


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "couldn't get version/kind; json parse error: "),
        (b"{", "couldn't get version/kind; json parse error: "),
        (b"\xff\xfe", "couldn't get version/kind; json parse error: "),
    ],
    ids=["empty", "broken", "binary"],
)
async def test_unreadable_objects(server: Server, body: bytes, message: str) -> None:
    answer = await server.call("POST", WIDGETS, body)
    start = f"the object provided is unrecognized (must be of type Widget): {message}"
    assert (answer.code, answer.json()["reason"]) == (400, "BadRequest")
    assert answer.json()["message"].startswith(start)
    shown = {b"": "(<empty>)", b"{": "({)", b"\xff\xfe": "(fffe)"}[body]
    assert answer.json()["message"].endswith(shown)
