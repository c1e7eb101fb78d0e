"""Audit and access log of requests that really pass the proxy."""

import asyncio
import gzip
import json
import re
from pathlib import Path

import pytest

from apimachinery.authorization import Policy
from apimachinery.rbac import BOOTSTRAP
from apiserver.auth import policy_file
from apiserver.auth.authorizer import Authorizers
from apiserver.auth.tokens import StaticTokenAuthenticator, Tokens
from tests.unit.aggregator.observe_kit import Recorder, observed
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Handler,
    answer,
    answering,
    client,
    on_uvloop,
    read_head,
    request,
)

THING = "/apis/test/v1/namespaces/a/things/one"
METADATA = "- level: Metadata\n"
FULL = "- level: RequestResponse\n"
RULES = """
roles:
- name: reader
  rules: [{apiGroups: [test], resources: [things], verbs: [get]}]
- name: impersonator
  rules: [{apiGroups: [""], resources: [users], resourceNames: [reader], verbs: [impersonate]}]
bindings:
- {role: reader, users: [reader]}
- {role: impersonator, users: [boss]}
"""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    made = PKI.make(tmp_path_factory.mktemp("pki"))
    for name in ("reader", "boss", "bad"):
        made.ca.issue(made.directory, name, cn=name)
    return made


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, METADATA)


def echoing(response: bytes) -> Handler:
    """Reads a body of known length, then answers."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length.group(1)) if length else 0)
            writer.write(response)
            await writer.drain()

    return handle


@pytest.mark.parametrize("headers", [(), ("Audit-ID: mine-1",)], ids=["plain", "parsed"])
@on_uvloop
async def test_every_stage_of_a_request(pki: PKI, recorder: Recorder, headers: tuple[str, ...]) -> None:
    async with (
        observed(pki, answering(answer(b"hello")), recorder.sinks) as (served, upstream),
        client(pki, served) as caller,
    ):
        got = await caller.get(f"{THING}?fieldManager=x&token=hidden", "User-Agent: test/1", *headers)
    events, lines = recorder.stop()
    assert [event["stage"] for event in events] == ["RequestReceived", "ResponseComplete"]
    received, complete = events
    assert complete == {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": got.all("audit-id")[0],
        "stage": "ResponseComplete",
        "requestURI": f"{THING}?fieldManager=x&token=***",
        "verb": "get",
        "user": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
        "sourceIPs": ["127.0.0.1"],
        "userAgent": "test/1",
        "objectRef": {
            "resource": "things",
            "namespace": "a",
            "name": "one",
            "apiGroup": "test",
            "apiVersion": "v1",
        },
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": complete["requestReceivedTimestamp"],
        "stageTimestamp": complete["stageTimestamp"],
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", complete["stageTimestamp"])
    assert complete["requestReceivedTimestamp"] <= complete["stageTimestamp"]
    later = ("stage", "stageTimestamp", "responseStatus", "annotations")
    assert received == {
        **{key: value for key, value in complete.items() if key not in later},
        "stage": "RequestReceived",
        "stageTimestamp": complete["requestReceivedTimestamp"],
    }
    (line,) = lines
    assert 0 < line.pop("seconds") < 10
    assert line.pop("ts")
    assert line == {
        "msg": "access",
        "audit_id": got.all("audit-id")[0],
        "client": "127.0.0.1",
        "user": "admin",
        "method": "GET",
        "path": f"{THING}?fieldManager=x&token=***",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 5,
        "apiservice": "v1.test",
        "upstream": f"127.0.0.1:{upstream.port}",
        "trace_id": "",
        "agent": "test/1",
    }


@on_uvloop
async def test_bodies_at_request_response(pki: PKI, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, f"{FULL}  omitManagedFields: true\n  omitStages: [RequestReceived]\n")
    sent = json.dumps({"metadata": {"name": "made", "managedFields": [1]}, "x": 1}).encode()
    reply = gzip.compress(json.dumps({"items": [{"metadata": {"name": "made", "managedFields": [2]}}]}).encode())
    async with (
        observed(pki, echoing(answer(reply, "Content-Encoding: gzip")), recorder.sinks) as (served, _upstream),
        client(pki, served) as caller,
    ):
        await caller.send(request("POST", "/apis/test/v1/things", f"Content-Length: {len(sent)}", body=sent[:5]))
        await caller.send(sent[5:])
        got = await caller.response()
        assert got.body == reply
    ((event,), _) = recorder.stop()
    assert event["requestObject"] == {"metadata": {"name": "made"}, "x": 1}
    assert event["responseObject"] == {"items": [{"metadata": {"name": "made"}}]}
    assert event["objectRef"]["name"] == "made"
    assert "audit.k8s.io/truncated" not in event["annotations"]


@pytest.mark.parametrize(
    ("sent", "reply", "annotation"),
    [
        pytest.param(b"[" + b"1," * 100 + b"1]", b"{}", ("audit.k8s.io/truncated", "true"), id="large-request"),
        pytest.param(b"{}", b"[" + b"1," * 100 + b"1]", ("audit.k8s.io/truncated", "true"), id="large-response"),
        pytest.param(b"{}", gzip.compress(b" " * 1000), ("audit.k8s.io/truncated", "true"), id="large-unpacked"),
        pytest.param(b"k8s\0x", b"{}", ("aggregator/request-not-recorded", "not JSON"), id="protobuf-request"),
        pytest.param(b"{}", b"k8s\0", ("aggregator/response-not-recorded", "not JSON"), id="protobuf-response"),
    ],
)
@on_uvloop
async def test_bodies_that_are_not_recorded(
    pki: PKI, tmp_path: Path, sent: bytes, reply: bytes, annotation: tuple[str, str]
) -> None:
    recorder = Recorder(tmp_path, FULL, body_bytes=100)
    async with (
        observed(pki, echoing(answer(reply)), recorder.sinks) as (served, _upstream),
        client(pki, served) as caller,
    ):
        await caller.send(request("POST", "/apis/test/v1/things", f"Content-Length: {len(sent)}", body=sent))
        assert (await caller.response()).body == reply
    events, _ = recorder.stop()
    assert annotation in events[-1]["annotations"].items()
    one_missing = {"requestObject", "responseObject"} - events[-1].keys()
    assert len(one_missing) == 1


@on_uvloop
async def test_a_watch_has_its_start_and_no_body(pki: PKI, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, FULL)

    async def watching(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n")
        await reader.read(1)

    async with observed(pki, watching, recorder.sinks) as (served, _upstream), client(pki, served) as caller:
        assert (await caller.get("/apis/test/v1/things?watch=1")).body == b"{}\n"
    events, (line,) = recorder.stop()
    assert [event["stage"] for event in events] == ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    assert events[1]["responseStatus"]["code"] == 200
    assert "responseObject" not in events[2]
    assert line["bytes"] == 3


@on_uvloop
async def test_a_response_that_breaks_off_is_marked(pki: PKI, recorder: Recorder) -> None:
    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    async with observed(pki, breaking, recorder.sinks) as (served, _upstream), client(pki, served) as caller:
        await caller.send(request("GET", THING))
        assert (await caller.reader.read()).endswith(b"half")
    _, (line,) = recorder.stop()
    assert (line["status"], line["bytes"], line["broken"]) == (200, 4, True)


@on_uvloop
async def test_refusals_tell_who_and_why(pki: PKI, recorder: Recorder) -> None:
    async with observed(pki, answering(answer(b"ok")), recorder.sinks) as (served, _upstream):
        rules = policy_file.parse(RULES, "rules")
        served.plane.authorizer = Authorizers(Policy(), BOOTSTRAP.extended(rules))
        async with client(pki, served, "reader") as caller:
            assert (await caller.get(THING)).status == 200
            await caller.send(request("DELETE", THING))
            assert (await caller.response()).status == 403
        async with client(pki, served, "boss") as caller:
            assert (await caller.get(THING, "Impersonate-User: reader")).status == 200
            assert (await caller.get(THING, "Impersonate-User: eve")).status == 403
        async with client(pki, served, "bad") as caller:
            assert (await caller.get(THING)).status == 401
        async with client(pki, served, None) as caller:
            assert (await caller.get("/healthz")).status == 503
        async with client(pki, served) as caller:
            await caller.send(b"nonsense\r\n\r\n")
            assert (await caller.response()).status == 400
    events, lines = recorder.stop()
    ended = [event for event in events if event["stage"] != "RequestReceived"]
    told = [
        (
            event["stage"],
            event["user"].get("username"),
            event.get("impersonatedUser", {}).get("username"),
            event["responseStatus"]["code"],
            event.get("annotations", {}).get("authorization.k8s.io/decision"),
        )
        for event in ended
    ]
    assert told == [
        ("ResponseComplete", "reader", None, 200, "allow"),
        ("ResponseComplete", "reader", None, 403, "forbid"),
        ("ResponseComplete", "boss", "reader", 200, "allow"),
        ("ResponseComplete", "boss", None, 403, "forbid"),
        ("ResponseStarted", None, None, 401, None),
        ("ResponseComplete", "system:anonymous", None, 503, "allow"),
    ]
    assert "reader" in ended[0]["annotations"]["authorization.k8s.io/reason"]
    assert ended[1]["responseStatus"]["reason"] == "Forbidden"
    assert 'User "reader" cannot delete' in ended[1]["responseStatus"]["message"]
    assert [(line["user"], line["status"]) for line in lines] == [
        ("reader", 200),
        ("reader", 403),
        ("reader", 200),
        ("boss", 403),
        ("", 401),
        ("system:anonymous", 503),
        ("", 400),
    ]
    assert lines[2]["impersonator"] == "boss"


@on_uvloop
async def test_tokens_never_show(pki: PKI, tmp_path: Path, recorder: Recorder) -> None:
    from aggregator.proxy.bearers import Bearers
    from apiserver.auth import static_tokens
    from apiserver.auth.watched import WatchedFile

    tokens = tmp_path / "tokens.csv"
    tokens.write_text("very-secret-token,boss,u1\n")
    async with observed(pki, answering(answer(b"ok")), recorder.sinks) as (served, _upstream):
        plane = served.plane
        known = Tokens([StaticTokenAuthenticator(WatchedFile(tokens, static_tokens.load))])
        plane.bearers = Bearers(known, plane.authorizer)
        plane.reads_tokens = True
        async with client(pki, served, None) as caller:
            for _ in range(2):
                await caller.get(THING, "Authorization: Bearer very-secret-token", "Cookie: a=very-secret-token")
            await caller.get(THING, "Authorization: Bearer very-secret-token-that-is-wrong")
    events, lines = recorder.stop()
    assert [event["user"].get("username") for event in events] == ["boss", "boss", "boss", "boss", None]
    assert [line["user"] for line in lines] == ["boss", "boss", ""]
    text = (tmp_path / "audit.log").read_text() + (tmp_path / "access.log").read_text()
    assert "very-secret" not in text


@on_uvloop
async def test_what_no_rule_wants_is_not_recorded(pki: PKI, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "- {level: None, verbs: [get]}\n- level: Metadata\n")
    async with (
        observed(pki, answering(answer(b"ok")), [recorder.audit]) as (served, _upstream),
        client(pki, served) as caller,
    ):
        for _ in range(3):
            assert (await caller.get(THING)).status == 200
        await caller.send(request("DELETE", THING))
        await caller.response()
    events, lines = recorder.stop()
    assert [(event["verb"], event["stage"]) for event in events] == [
        ("delete", "RequestReceived"),
        ("delete", "ResponseComplete"),
    ]
    assert lines == []
    families = {family.name: family for family in recorder.audit.collect()}
    assert [sample.value for sample in families["apiserver_audit_event"].samples] == [2]
    assert [sample.value for sample in families["apiserver_audit_error"].samples] == [0]
    levels = {sample.labels["level"]: sample.value for sample in families["apiserver_audit_level"].samples}
    assert levels == {"None": 3, "Metadata": 1, "Request": 0, "RequestResponse": 0}


@on_uvloop
async def test_a_request_sent_again_is_one_request(pki: PKI, recorder: Recorder) -> None:
    seen = 0

    async def dying_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while True:
            await read_head(reader)
            seen += 1
            if seen == 2:
                return
            writer.write(answer(b"ok"))
            await writer.drain()

    async with observed(pki, dying_once, recorder.sinks) as (served, _upstream), client(pki, served) as caller:
        assert (await caller.get(THING)).status == 200
        assert (await caller.get(THING)).status == 200
    events, lines = recorder.stop()
    assert seen == 3
    assert len(lines) == 2
    assert len(events) == 4
