"""Whatever comes over the socket, each running program answers it: no failure of its own, no hang, no growing memory.

The bodies and queries are those of the fuzz tests of the verbs; here they go through TLS, the proxy and the servers.
"""

import http.client
import json
import ssl
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apimachinery.patch import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from apimachinery.protobuf import PROTOBUF
from tests.support.budget import examples
from tests.support.hostile import BODIES, OPERATIONS, PARAMETERS, YAML, encoded, query
from tests.support.local_stack import LocalStack

_ITEMS = (
    "/apis/service.grafana.app/v0alpha1/namespaces/hostile/externalnames",
    "/apis/apiregistration.k8s.io/v1/apiservices",
    "/apis/example.grafana.app/v0alpha1/namespaces/hostile/dummy",
    "/api/v1/namespaces",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
)
_TYPES = ("application/json", "application/yaml", PROTOBUF, "text/plain", "")
_PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)
_SECONDS = 10
_MORE_MEMORY_BYTES = 64 * 1024 * 1024
_PROGRAMS = ("aggregator", "example-apiserver")

fuzzed = settings(
    max_examples=examples(80),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Caller:
    """One connection, opened again where the server has closed it."""

    def __init__(self, stack: LocalStack) -> None:
        context = ssl.create_default_context(cafile=str(stack.pki / "ca.crt"))
        context.load_cert_chain(stack.pki / "admin.crt", stack.pki / "admin.key")
        self.connection = http.client.HTTPSConnection("localhost", stack.port, timeout=_SECONDS, context=context)

    def __call__(self, method: str, target: str, body: bytes = b"", media_type: str = "") -> int:
        """The code of the answer, which is complete and tells of no failure of a server."""
        headers = {"content-type": media_type} if media_type else {}
        try:
            self.connection.request(method, target, body or None, headers)
            answer = self.connection.getresponse()
            content = answer.read()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # The server has refused a body before it had it all, or closed an idle connection: once more, from new.
            self.connection.close()
            self.connection.request(method, target, body or None, headers)
            answer = self.connection.getresponse()
            content = answer.read()
        if answer.headers.get_content_type() == "application/json" and method != "HEAD":
            document = json.loads(content)
            if answer.status >= 400:
                assert document["code"] == answer.status
                assert document.get("reason") != "InternalError", document["message"]
        # The originals take a revision that is no number for a fault of theirs, and so clients expect it.
        expected = answer.status == 504 or b"resourceVersion: Invalid value" in content
        assert 200 <= answer.status < 500 or expected, content
        assert b"Traceback" not in content
        return answer.status


@pytest.fixture(scope="module")
def call(stack: LocalStack) -> Iterator[Caller]:
    caller = Caller(stack)
    for items in _ITEMS[:3]:
        caller("GET", items)
    before = {name: _resident(stack, name) for name in _PROGRAMS}
    yield caller
    for items in _ITEMS[:3:2]:
        assert caller("DELETE", items) == 200
    caller.connection.close()
    grown = {name: _resident(stack, name) - before[name] for name in _PROGRAMS}
    assert all(more < _MORE_MEMORY_BYTES for more in grown.values()), grown
    assert "Traceback" not in stack.logs(lines=100_000)


def _resident(stack: LocalStack, name: str) -> int:
    """Bytes of memory that a program holds."""
    (line,) = [
        line for line in Path(f"/proc/{stack.pid(name)}/status").read_text().splitlines() if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) * 1024


@fuzzed
@given(
    items=st.sampled_from(_ITEMS),
    method=st.sampled_from(("POST", "PUT", "DELETE")),
    media_type=st.sampled_from(_TYPES),
    body=st.one_of(BODIES, YAML),
    parameters=PARAMETERS,
)
def test_bodies(
    call: Caller, items: str, method: str, media_type: str, body: bytes, parameters: list[tuple[str, str]]
) -> None:
    call(method, f"{items if method == 'POST' else items + '/a'}?{query(parameters)}", body, media_type)


@fuzzed
@given(
    items=st.sampled_from(_ITEMS),
    media_type=st.sampled_from(_PATCHES),
    body=st.one_of(BODIES, OPERATIONS.map(encoded)),
    mode=st.sampled_from(("Ignore", "Warn", "Strict")),
)
def test_patches(call: Caller, items: str, media_type: str, body: bytes, mode: str) -> None:
    options = f"fieldValidation={mode}" + ("&fieldManager=m&force=true" if media_type == APPLY_PATCH else "")
    call("PATCH", f"{items}/a?{options}", body, media_type)


@fuzzed
@given(items=st.sampled_from(_ITEMS), parameters=PARAMETERS, accept=st.booleans())
def test_queries(call: Caller, items: str, parameters: list[tuple[str, str]], accept: bool) -> None:
    # A revision of the future is waited for, which is right and takes long.
    quick = [(name, value) for name, value in parameters if name != "resourceVersion" or not value.isdigit()]
    call("GET", f"{items}?{query(quick)}" if accept else f"{items}/a?{query(quick)}")


@pytest.mark.parametrize("items", _ITEMS[:3])
def test_too_much(call: Caller, items: str) -> None:
    assert call("POST", items, b"[" * (3 * 1024 * 1024 + 1), "application/json") == 413
    bomb = b"a: &a [x,x,x,x,x,x,x,x]\n" + b"".join(
        f"{name}: &{name} [{','.join(['*' + before] * 8)}]\n".encode() for before, name in pairwise("abcdefghi")
    )
    assert call("POST", items, bomb, "application/yaml") == 400
    assert call("GET", f"{items}?labelSelector={'a,' * 3000}a") in (200, 400, 414, 431)
    assert call("GET", f"{items}?labelSelector={'%28' * 3000}") in (400, 414, 431)
