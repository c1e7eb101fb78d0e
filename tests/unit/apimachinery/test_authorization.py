import pytest

from apimachinery import authorization
from apimachinery.authorization import Policy
from apimachinery.identity import User
from apimachinery.request_info import RequestInfo, parse_request_info

ADMIN = User("admin", groups=("system:authenticated", "system:masters"))
EVE = User("eve", groups=("system:authenticated",))


def get(path: str) -> RequestInfo:
    return parse_request_info("GET", path, {})


@pytest.mark.parametrize(
    ("user", "path", "policy", "expected"),
    [
        pytest.param(ADMIN, "/apis/g/v1/foos", Policy(), True, id="privileged"),
        pytest.param(EVE, "/apis/g/v1/foos", Policy(), False, id="nobody"),
        pytest.param(EVE, "/healthz", Policy(), True, id="allowed path"),
        pytest.param(EVE, "/healthz/ping", Policy(), False, id="below an exact path"),
        pytest.param(EVE, "/healthz/", Policy(), False, id="another path"),
        pytest.param(EVE, "/healthz/ping", Policy(always_allow_paths=("/healthz/*",)), True, id="prefix"),
        pytest.param(EVE, "/healthz", Policy(always_allow_paths=("/healthz/*",)), False, id="prefix needs its slash"),
        pytest.param(EVE, "/api/v1/pods", Policy(always_allow_paths=("*",)), False, id="never a resource"),
        pytest.param(EVE, "/anything", Policy(always_allow_paths=("*",)), True, id="everything else"),
        pytest.param(ADMIN, "/x", Policy(privileged_groups=()), False, id="no privileged group"),
    ],
)
def test_allowed(user: User, path: str, policy: Policy, expected: bool) -> None:
    assert authorization.allowed(policy, user, get(path)) is expected


@pytest.mark.parametrize(
    ("user", "method", "path", "reason", "message"),
    [
        pytest.param(
            EVE,
            "GET",
            "/apis/g/v1/namespaces/ns/foos/x",
            "",
            'foos.g "x" is forbidden: User "eve" cannot get resource "foos" in API group "g" in the namespace "ns"',
            id="named",
        ),
        pytest.param(
            EVE,
            "GET",
            "/apis/g/v1/foos",
            "no rule",
            'foos.g is forbidden: User "eve" cannot list resource "foos" in API group "g" '
            "at the cluster scope: no rule",
            id="collection with a reason",
        ),
        pytest.param(
            EVE,
            "PUT",
            "/api/v1/nodes/n/status",
            "",
            'nodes "n" is forbidden: User "eve" cannot update resource "nodes/status" in API group "" '
            "at the cluster scope",
            id="core subresource",
        ),
        pytest.param(EVE, "POST", "/logs", "", 'forbidden: User "eve" cannot post path "/logs"', id="path"),
        pytest.param(
            User('<b>&"x"'),
            "GET",
            "/<script>",
            "<reason>",
            'forbidden: User "&lt;b&gt;&amp;\\"x\\"" cannot get path "/&lt;script&gt;": <reason>',
            id="escaped",
        ),
    ],
)
def test_forbidden(user: User, method: str, path: str, reason: str, message: str) -> None:
    error = authorization.forbidden(user, parse_request_info(method, path, {}), reason)
    assert (error.code, error.reason, error.message) == (403, "Forbidden", message)


def test_forbidden_details() -> None:
    error = authorization.forbidden(EVE, get("/apis/g/v1/foos/x"))
    assert error.status["details"] == {"name": "x", "group": "g", "kind": "foos"}
