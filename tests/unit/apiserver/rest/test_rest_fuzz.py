"""Whatever a client sends, it gets an answer: no traceback, no hang (bodies, query strings, selectors, paths)."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apimachinery.patch import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from apimachinery.protobuf import PREFIX, PROTOBUF
from tests.support.budget import examples
from tests.support.hostile import BODIES, OPERATIONS, PARAMETERS, YAML, encoded, query
from tests.unit.apiserver.rest.conftest import Server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
ZONES = "/apis/test.example.com/v1/zones"
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)

# One server for all examples of a test: what one leaves behind is part of the input of the next.
fuzzed = settings(
    max_examples=examples(120), deadline=4000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


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
