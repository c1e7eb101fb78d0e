"""Decisions about requests."""

import orjson
import pytest

from aggregator.proxy.decide import (
    NOBODY,
    REFUSED,
    Forward,
    Identity,
    Reply,
    decide,
    identity_of,
)
from aggregator.proxy.routes import RouteTable
from apimachinery.authorization import Policy
from apimachinery.identity import User
from apimachinery.types import Object

POLICY = Policy()
ADMIN = identity_of(User("admin", groups=("system:masters",)), POLICY)
BOB = identity_of(User("bob", groups=("system:authenticated",)), POLICY)


def _apiservice(name: str, available: str = "True", service: str = "svc") -> Object:
    version, _, group = name.partition(".")
    spec = {"group": group, "version": version, "service": {"namespace": "ns", "name": service}}
    return {
        "metadata": {"name": name},
        "spec": spec,
        "status": {"conditions": [{"type": "Available", "status": available}]},
    }


TABLE = RouteTable.build(
    [_apiservice("v1.g"), _apiservice("v1.down", "False"), _apiservice("v1.lost", service="missing")],
    [{"metadata": {"namespace": "ns", "name": "svc"}, "spec": {"host": "h"}}],
)


@pytest.mark.parametrize(
    ("identity", "method", "target", "outcome"),
    [
        (ADMIN, "GET", "/apis/g/v1/things", "v1.g"),
        (ADMIN, "DELETE", "/apis/g/v1/things/a", "v1.g"),
        (ADMIN, "GET", "/apis/g/v1", "v1.g"),
        (ADMIN, "GET", "/apis/g", "local"),
        (ADMIN, "GET", "/apis", "local"),
        (ADMIN, "GET", "/metrics", "local"),
        (ADMIN, "GET", "/apis/down/v1/things", 503),
        (ADMIN, "GET", "/apis/lost/v1/things", 503),
        (ADMIN, "GET", "/apis/g/v1/../v2", 400),
        (ADMIN, "GET", "/apis/g/v1/things?timeout=x", 400),
        (BOB, "GET", "/apis/g/v1/things", 403),
        (BOB, "GET", "/apis/g/v1", 403),
        (BOB, "GET", "/apis/down/v1/things", 403),
        (BOB, "GET", "/healthz", "local"),
        (BOB, "GET", "/readyz", "local"),
        (BOB, "GET", "/livez", "local"),
        (BOB, "GET", "/readyz?verbose", "local"),
        (BOB, "GET", "/healthz/ping", 403),
        (BOB, "GET", "/healthz/", 403),
        (BOB, "GET", "/", 403),
        (NOBODY, "GET", "/healthz", "local"),
        (NOBODY, "GET", "/healthz/../apis/g/v1", 400),
        (NOBODY, "GET", "/apis/g/v1/things", 401),
        (NOBODY, "GET", "/", 401),
        (NOBODY, "GET", "/version", 401),
        (REFUSED, "GET", "/apis/g/v1/things", 401),
        (REFUSED, "GET", "/healthz", 401),
    ],
)
def test_outcomes(identity: Identity, method: str, target: str, outcome: str | int) -> None:
    verdict = decide(TABLE, POLICY, identity, method.encode(), target.encode())
    if isinstance(outcome, str):
        assert isinstance(verdict, Forward)
        assert verdict.route.name == outcome
    else:
        assert isinstance(verdict, Reply)
        assert verdict.code == outcome


@pytest.mark.parametrize("target", ["/apis/down/v1/things", "/apis/lost/v1"])
def test_an_unavailable_service_says_no_more_than_that(target: str) -> None:
    verdict = decide(TABLE, POLICY, ADMIN, b"GET", target.encode())
    assert isinstance(verdict, Reply)
    assert (verdict.body, verdict.content_type) == (b"service unavailable\n", b"text/plain; charset=utf-8")
    assert verdict.terminated


def test_the_texts_of_refusals() -> None:
    refused = decide(TABLE, POLICY, BOB, b"GET", b"/apis/g/v1/namespaces/n/things/a")
    assert isinstance(refused, Reply)
    assert orjson.loads(refused.body)["message"] == (
        'things.g "a" is forbidden: User "bob" cannot get resource "things" in API group "g" in the namespace "n"'
    )
    unauthorized = decide(TABLE, POLICY, NOBODY, b"GET", b"/apis")
    assert isinstance(unauthorized, Reply)
    document = orjson.loads(unauthorized.body)
    assert (document["message"], document["reason"], document["code"]) == ("Unauthorized", "Unauthorized", 401)


@pytest.mark.parametrize(
    ("target", "code"), [("/apis/g/v1/things", 503), ("/apis/other/v1", 503), ("/apis/g", None), ("/healthz", None)]
)
def test_before_routes_are_known_a_group_version_may_be_anybodys(target: str, code: int | None) -> None:
    verdict = decide(RouteTable.unknown(), POLICY, ADMIN, b"GET", target.encode())
    if code is None:
        assert isinstance(verdict, Forward)
    else:
        assert isinstance(verdict, Reply)
        assert (verdict.code, verdict.retry_after) == (code, 5)
        assert orjson.loads(verdict.body)["reason"] == "ServiceUnavailable"


def test_the_lines_of_an_identity_travel() -> None:
    verdict = decide(TABLE, POLICY, ADMIN, b"GET", b"/apis/g/v1")
    assert isinstance(verdict, Forward)
    assert verdict.identity_lines == b"X-Remote-User: admin\r\nX-Remote-Group: system:masters\r\n"
    anonymous = decide(TABLE, POLICY, NOBODY, b"GET", b"/readyz")
    assert isinstance(anonymous, Forward)
    assert anonymous.identity_lines == b"X-Remote-User: system:anonymous\r\nX-Remote-Group: system:unauthenticated\r\n"


def test_an_identity_that_could_break_headers_is_refused() -> None:
    assert identity_of(User("a\r\nb"), POLICY).failed


@pytest.mark.parametrize(
    ("wanted", "outcome"),
    [
        pytest.param([("impersonate-user", "eve")], 403, id="as somebody who may not"),
        pytest.param([("impersonate-user", "eve"), ("impersonate-group", "system:masters")], "eve", id="as a master"),
        pytest.param([("impersonate-group", "system:masters")], 400, id="no user"),
        pytest.param([("impersonate-user", "")], 400, id="empty user"),
        pytest.param([("impersonate-user", "eve"), ("impersonate_user", "x")], 400, id="underscore twin"),
    ],
)
def test_impersonation_is_what_counts(wanted: list[tuple[str, str]], outcome: str | int) -> None:
    verdict = decide(TABLE, POLICY, ADMIN, b"GET", b"/apis/g/v1", wanted)
    if isinstance(outcome, str):
        assert isinstance(verdict, Forward)
        assert verdict.identity_lines.startswith(b"X-Remote-User: eve\r\n")
    else:
        assert isinstance(verdict, Reply)
        assert verdict.code == outcome
