"""Discovery documents through the application: forms, entity tags, indentation."""

import gzip

import pytest
import yaml

from apiserver import zipped
from tests.unit.apiserver.rest.conftest import Server

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
LIST = "/apis/test.example.com/v1"


@pytest.mark.parametrize(
    ("path", "accept", "kind"),
    [
        ("/apis", V2, "APIGroupDiscoveryList"),
        ("/apis?timeout=32s", "application/json", "APIGroupList"),
        ("/apis/", "application/json", "APIGroupList"),
        ("/api", "application/json", "APIVersions"),
        ("/apis/test.example.com", "application/json", "APIGroup"),
        ("/apis/test.example.com/", "application/json", "APIGroup"),
        (LIST, "application/json", "APIResourceList"),
        (LIST + "/", "application/json", "APIResourceList"),
    ],
)
async def test_every_document_has_all_forms(server: Server, path: str, accept: str, kind: str) -> None:
    plain = await server.call("GET", path, headers={"accept": accept})
    text = await server.call("GET", path, headers={"accept": accept.replace("json", "yaml")})
    assert (plain.code, text.code) == (200, 200)
    assert plain.json()["kind"] == kind
    assert yaml.safe_load(text.body) == plain.json()
    assert (plain.header("content-type"), text.header("content-type")) == (accept, accept.replace("json", "yaml"))
    assert (plain.header("vary"), plain.header("etag")) == ("Accept", text.header("etag"))
    headers = {"accept": accept, "if-none-match": plain.header("etag")}
    again = await server.call("GET", path, headers=headers)
    assert (again.code, again.body, again.header("etag")) == (304, b"", plain.header("etag"))


@pytest.mark.parametrize(
    ("path", "headers", "indented"),
    [
        ("/apis", {"user-agent": "curl/8"}, True),
        ("/apis?pretty=true", {}, True),
        ("/apis?pretty=false", {"user-agent": "curl/8"}, False),
        ("/apis", {"user-agent": "kubectl/v1.32"}, False),
        (LIST, {"user-agent": "Wget/1"}, True),
        ("/apis", {"user-agent": "curl/8", "accept": V2}, True),
    ],
)
async def test_people_get_indented_documents(
    server: Server, path: str, headers: dict[str, str], indented: bool
) -> None:
    plain = await server.call("GET", path.partition("?")[0], headers={"accept": headers.get("accept", "")})
    reply = await server.call("GET", path, headers=headers)
    assert reply.body.startswith(b'{\n  "') == indented
    assert (reply.json(), reply.header("etag")) == (plain.json(), plain.header("etag"))


@pytest.mark.parametrize("path", ["/openapi/v2", "/openapi/v3/apis/test.example.com/v1", "/apis"])
async def test_large_documents_are_compressed(server: Server, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipped, "OVER_BYTES", 100)
    plain = await server.call("GET", path)
    packed = await server.call("GET", path, headers={"accept-encoding": "gzip"})
    assert (plain.header("content-encoding"), packed.header("content-encoding")) == ("", "gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert packed.header("etag") == plain.header("etag")
    headers = {"accept-encoding": "gzip", "if-none-match": packed.header("etag")}
    assert (await server.call("GET", path, headers=headers)).code == 304


@pytest.mark.parametrize("accept", ["text/html", V2.replace("v2;", "v3;")])
async def test_nothing_acceptable(server: Server, accept: str) -> None:
    reply = await server.call("GET", "/apis", headers={"accept": accept})
    assert reply.code == 406
    assert reply.json()["message"].startswith("only the following media types are accepted: application/json")
