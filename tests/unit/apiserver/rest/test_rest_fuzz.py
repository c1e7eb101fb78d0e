"""Whatever a client sends, it gets an answer: no traceback, no hang (bodies, query strings, selectors, paths)."""

import json
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apimachinery.patch import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from apimachinery.protobuf import PREFIX, PROTOBUF
from tests.unit.apiserver.rest.conftest import Server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
ZONES = "/apis/test.example.com/v1/zones"
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)

# One server for all examples of a test: what one leaves behind is part of the input of the next.
fuzzed = settings(max_examples=120, deadline=4000, suppress_health_check=[HealthCheck.function_scoped_fixture])

FIELDS = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "status",
        "name",
        "namespace",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "managedFields",
        "resourceVersion",
        "uid",
        "generation",
        "size",
        "color",
        "parts",
        "ready",
        "deletionTimestamp",
        "creationTimestamp",
        "generateName",
        "fieldsV1",
        "operation",
        "manager",
        "time",
        "f:spec",
        "$patch",
        "$setElementOrder/parts",
        "$retainKeys",
        "$deleteFromPrimitiveList/x",
        "n",
        "k:{",
        ".",
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(("a", "default", "Widget", "test.example.com/v1", "replace", "Apply", "FieldsV1", "delete", "0")),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(FIELDS, inner, max_size=5)),
    max_leaves=20,
)
OBJECTS = st.dictionaries(FIELDS, VALUES, max_size=6)
NAMED = st.builds(
    lambda metadata, rest: {**rest, "metadata": {**metadata, "name": "a"}},
    st.dictionaries(FIELDS, VALUES, max_size=4),
    st.dictionaries(FIELDS, VALUES, max_size=4),
)
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "op": st.one_of(st.sampled_from(("add", "remove", "replace", "move", "copy", "test")), SCALARS),
            "path": st.one_of(
                st.sampled_from(("", "/", "/spec", "/spec/parts/-", "/metadata/labels/x", "/~2")), SCALARS
            ),
            "from": st.one_of(st.sampled_from(("", "/spec", "/metadata")), SCALARS),
            "value": VALUES,
        },
    ),
    max_size=4,
)


def encoded(value: Any) -> bytes:
    # NaN and lone surrogates too: what no client should send.
    return json.dumps(value).encode("utf-8", "surrogatepass")


BODIES = st.one_of(
    st.binary(max_size=60),
    st.one_of(VALUES, OBJECTS, NAMED, OPERATIONS).map(encoded),
    st.integers(1, 6000).map(lambda depth: b"[" * depth),
    st.integers(1, 6000).map(lambda depth: b'{"metadata":' * depth + b"1" + b"}" * depth),
    st.integers(1, 9000).map(lambda digits: b'{"spec":{"size":' + b"9" * digits + b"}}"),
)
YAML = st.one_of(
    BODIES,
    st.text(alphabet="ab:- \n&*!|>{}[]'\"#%@?,0~", max_size=60).map(str.encode),
    st.just(b"a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c]\ne: [*d,*d,*d,*d]\n"),
)
PARAMETERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "labelSelector",
                "fieldSelector",
                "limit",
                "continue",
                "resourceVersion",
                "resourceVersionMatch",
                "pretty",
                "dryRun",
                "fieldManager",
                "fieldValidation",
                "force",
                "timeout",
                "propagationPolicy",
                "includeObject",
                "gracePeriodSeconds",
                "orphanDependents",
                "sendInitialEvents",
                "allowWatchBookmarks",
                "x",
            ]
        ),
        st.one_of(
            st.text(max_size=20),
            st.text(alphabet="abc=!,()<>\\in notin ", max_size=20),
            st.integers(-(2**70), 2**70).map(str),
            st.sampled_from(("All", "Strict", "Ignore", "true", "0", "1", "Exact", "NotOlderThan", "Orphan", "1s")),
        ),
    ),
    max_size=4,
)


def query(parameters: list[tuple[str, str]]) -> str:
    """A query string with every byte escaped that is not a letter or a digit."""
    plain = string.ascii_letters + string.digits

    def escaped(text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        return "".join(chr(byte) if chr(byte) in plain else f"%{byte:02X}" for byte in data)

    return "&".join(f"{name}={escaped(value)}" for name, value in parameters)


async def answer(
    server: Server, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> int:
    """The code of an answer that is well-formed and tells of no failure of the server."""
    reply = await server.call(method, target, body, headers)
    assert 200 <= reply.code < 505
    if reply.header("content-type") == "application/json" and "watch" not in target:
        document = reply.json()
        assert document.get("reason") != "InternalError", document["message"]
        if reply.code >= 400:
            assert document["code"] == reply.code
    return reply.code


@fuzzed
@given(body=BODIES, parameters=PARAMETERS, method=st.sampled_from(("POST", "PUT", "DELETE")))
async def test_json_bodies(server: Server, body: bytes, parameters: list[tuple[str, str]], method: str) -> None:
    target = WIDGETS if method == "POST" else f"{WIDGETS}/a"
    await answer(server, method, f"{target}?{query(parameters)}", body)


@fuzzed
@given(body=YAML, method=st.sampled_from(("POST", "PUT", "DELETE")))
async def test_yaml_bodies(server: Server, body: bytes, method: str) -> None:
    target = WIDGETS if method == "POST" else f"{WIDGETS}/a"
    await answer(server, method, target, body, {"content-type": "application/yaml"})


@fuzzed
@given(body=st.binary(max_size=120), enveloped=st.booleans(), method=st.sampled_from(("POST", "PUT", "DELETE")))
async def test_protobuf_bodies(server: Server, body: bytes, enveloped: bool, method: str) -> None:
    target = ZONES if method == "POST" else f"{ZONES}/a"
    await answer(server, method, target, PREFIX + body if enveloped else body, {"content-type": PROTOBUF})


@pytest.mark.parametrize("media_type", PATCHES)
@fuzzed
@given(body=st.one_of(BODIES, OPERATIONS.map(encoded)), mode=st.sampled_from(("Ignore", "Warn", "Strict")))
async def test_patches(server: Server, media_type: str, body: bytes, mode: str) -> None:
    await server.call("POST", WIDGETS, {"metadata": {"name": "a"}, "spec": {"parts": [{"name": "x", "n": 1}]}})
    options = f"fieldValidation={mode}" + ("&fieldManager=m&force=true" if media_type == APPLY_PATCH else "")
    for part in ("", "/status"):
        await answer(server, "PATCH", f"{WIDGETS}/a{part}?{options}", body, {"content-type": media_type})


@fuzzed
@given(parameters=PARAMETERS, accept=st.text(alphabet="ajson/*;=q1.,tableg kv ", max_size=40))
async def test_reads(server: Server, parameters: list[tuple[str, str]], accept: str) -> None:
    await server.call("POST", WIDGETS, {"metadata": {"name": "a"}, "spec": {}})
    # A revision of the future is waited for, which is right and takes long.
    quick = [(name, value) for name, value in parameters if name != "resourceVersion" or not value.isdigit()]
    for target in (WIDGETS, f"{WIDGETS}/a"):
        await answer(server, "GET", f"{target}?{query(quick)}", headers={"accept": accept})
    await answer(server, "GET", f"{WIDGETS}?watch=1&timeoutSeconds=1&limit=x&{query(quick)}")


@fuzzed
@given(
    segments=st.lists(
        st.one_of(
            st.sampled_from(
                ("apis", "api", "test.example.com", "v1", "namespaces", "default", "widgets", "watch", "a")
            ),
            st.text(alphabet="ab.%/-_~\u00e4\x00 ", max_size=5),
        ),
        max_size=8,
    ),
    method=st.sampled_from(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")),
)
async def test_paths(server: Server, segments: list[str], method: str) -> None:
    if "watch" in segments:
        segments = [*segments[: segments.index("watch")], *[part for part in segments if part != "watch"]]
    await answer(server, method, "/" + "/".join(segments))
