"""Which names of a request become labels: those of what is served, never those that a client makes up."""

import re

import pytest

from tests.unit.apiserver.rest.conftest import Server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
KNOWN = {"group": "test.example.com", "version": "v1", "resource": "widgets"}
NONE = {"group": "", "version": "", "resource": "", "subresource": "", "scope": ""}
_SERIES = re.compile(r"^apiserver_request_total\{(.*)\} 1\.0$", re.M)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (WIDGETS, {**KNOWN, "verb": "list", "subresource": "", "scope": "namespace", "code": "200"}),
        (f"{WIDGETS}/gone", {**KNOWN, "verb": "get", "subresource": "", "scope": "resource", "code": "404"}),
        (f"{WIDGETS}/gone/status", {**KNOWN, "subresource": "status", "code": "404"}),
        (f"{WIDGETS}/gone/echo", {**KNOWN, "subresource": "echo", "code": "404"}),
        (f"{WIDGETS}?limit=x", {**KNOWN, "verb": "list", "code": "400"}),
        (f"{WIDGETS}/gone/made-up", {**NONE, "verb": "get", "code": "404"}),
        ("/apis/test.example.com/v1/made-ups", {**NONE, "verb": "list", "code": "404"}),
        ("/apis/test.example.com/v9/widgets", {**NONE, "verb": "list", "code": "404"}),
        ("/apis/made.up/v1/widgets/a", {**NONE, "verb": "get", "code": "404"}),
        ("/apis/test.example.com/v1/namespaces/default/zones", {**NONE, "verb": "list", "code": "404"}),
        ("/made/up", {**NONE, "verb": "get", "code": "404"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_labels(server: Server, target: str, expected: dict[str, str]) -> None:
    answer = await server.call("GET", target)
    (labels,) = [dict(_LABEL.findall(found)) for found in _SERIES.findall((await server.call("GET", "/metrics")).text)]
    assert str(answer.code) == labels["code"]
    assert labels == labels | expected


async def test_names_of_a_refused_user_are_those_of_what_is_served(server: Server) -> None:
    await server.nobody("GET", WIDGETS)
    await server.nobody("GET", "/apis/made.up/v1/secrets")
    found = [dict(_LABEL.findall(item)) for item in _SERIES.findall((await server.call("GET", "/metrics")).text)]
    assert sorted((labels["code"], labels["resource"]) for labels in found) == [("403", ""), ("403", "widgets")]
