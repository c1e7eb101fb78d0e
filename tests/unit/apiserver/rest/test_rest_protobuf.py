"""Objects and options in protobuf: read where a kind declares its message, answered in JSON (rest.md A1.1)."""

import pytest

from apimachinery.protobuf import PROTOBUF
from tests.support.protobuf import body, content, number
from tests.unit.apiserver.rest.conftest import Server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
ZONES = "/apis/test.example.com/v1/zones"
HEADERS = {"content-type": PROTOBUF, "accept": f"{PROTOBUF},application/json"}


def zone(name: str, x: str, version: str = "") -> bytes:
    raw = content(1, content(1, name) + content(6, version) + content(8, b"")) + content(2, content(1, x))
    return body(raw, "test.example.com/v1", "Zone")


async def test_create_update_delete(server: Server) -> None:
    made = await server.call("POST", ZONES, zone("a", "first"), HEADERS)
    assert (made.code, made.header("content-type")) == (201, "application/json")
    assert made.json()["spec"] == {"x": "first"}
    version = made.json()["metadata"]["resourceVersion"]
    changed = await server.call("PUT", f"{ZONES}/a", zone("a", "second", version), HEADERS)
    assert (changed.code, changed.json()["spec"]) == (200, {"x": "second"})
    stale = body(content(2, content(1, "other")), "meta.k8s.io/v1", "DeleteOptions")
    assert (await server.call("DELETE", f"{ZONES}/a", stale, HEADERS)).code == 409
    good = body(content(2, content(1, made.json()["metadata"]["uid"])) + content(4, "Background"))
    assert (await server.call("DELETE", f"{ZONES}/a", good, HEADERS)).json()["status"] == "Success"


async def test_options_of_a_delete_are_read_for_every_kind(server: Server) -> None:
    for name in ("a", "b"):
        await server.call("POST", WIDGETS, {"metadata": {"name": name}, "spec": {}})
    dry = body(content(5, "All"), "v1", "DeleteOptions")
    assert (await server.call("DELETE", f"{WIDGETS}/a", dry, HEADERS)).code == 200
    assert (await server.call("DELETE", WIDGETS, dry, HEADERS)).code == 200
    assert len((await server.call("GET", WIDGETS)).json()["items"]) == 2
    assert (await server.call("DELETE", f"{WIDGETS}/a", body(number(1, 0)), HEADERS)).code == 200
    wrong = body(content(4, "Never"))
    refused = await server.call("DELETE", f"{WIDGETS}/b", wrong, HEADERS)
    assert (refused.code, refused.json()["details"]["causes"][0]["field"]) == (422, "propagationPolicy")


ACCEPTED = "the body of the request was in an unknown format - accepted media types include: "


@pytest.mark.parametrize(
    ("method", "target", "media_type", "accepted"),
    [
        ("POST", WIDGETS, PROTOBUF, "application/json, application/yaml"),
        ("PUT", f"{WIDGETS}/a", PROTOBUF, "application/json, application/yaml"),
        ("POST", ZONES, "text/plain", f"application/json, application/yaml, {PROTOBUF}"),
        ("DELETE", f"{ZONES}/a", "text/plain", f"application/json, application/yaml, {PROTOBUF}"),
        (
            "PATCH",
            f"{ZONES}/a",
            PROTOBUF,
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, "
            "application/apply-patch+yaml",
        ),
    ],
    ids=["create", "update", "other", "delete", "patch"],
)
async def test_media_types_that_are_not_read(
    server: Server, method: str, target: str, media_type: str, accepted: str
) -> None:
    answer = await server.call(method, target, b"x", {"content-type": media_type})
    assert (answer.code, answer.json()["message"]) == (415, ACCEPTED + accepted)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the object provided is unrecognized (must be of type Zone): empty data (<empty>)"),
        (
            b'{"kind":"Zone"}',
            "the object provided is unrecognized (must be of type Zone): provided data does not appear to be a "
            'protobuf message, expected prefix [107 56 115 0] ({"kind":"Zone"})',
        ),
        (
            zone("a", "x")[:-9],
            "the object provided is unrecognized (must be of type Zone): unexpected EOF "
            "(6b3873000a1b0a13746573742e6578616d706c652e636f6d2f763112 ...)",
        ),
        (
            body(b"", "other.example.com/v1", "Zone"),
            "the API version in the data (other.example.com/v1) does not match the expected API version "
            "(test.example.com/v1)",
        ),
        (body(b"", "", "Widget"), 'Widget in version "v1" cannot be handled as a Zone'),
    ],
    ids=["empty", "json", "truncated", "version", "kind"],
)
async def test_bodies_that_are_refused(server: Server, raw: bytes, message: str) -> None:
    answer = await server.call("POST", ZONES, raw, HEADERS)
    assert (answer.code, answer.json()["reason"]) == (400, "BadRequest")
    assert answer.json()["message"].startswith(message[:110])


async def test_options_that_do_not_decode(server: Server) -> None:
    answer = await server.call("DELETE", f"{ZONES}/a", b"nonsense", HEADERS)
    assert (answer.code, answer.json()["reason"]) == (400, "BadRequest")
    other = await server.call("DELETE", f"{ZONES}/a", body(b"", "v1", "Zone"), HEADERS)
    assert other.json()["message"] == "decoded object cannot be converted to DeleteOptions"
