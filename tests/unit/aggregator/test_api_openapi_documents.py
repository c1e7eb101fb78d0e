"""OpenAPI of aggregated servers: fetching over real TLS connections, merging and answering."""

import time
from collections.abc import Mapping

import orjson
import pytest

from aggregator.api import openapi_answer, openapi_snapshot
from aggregator.api.openapi_answer import RemoteOpenAPI, UnusableDocumentError, V2Document
from aggregator.api.openapi_fetch import OpenAPIFetcher, OpenAPILimits
from aggregator.api.openapi_worker import OpenAPIWorker
from aggregator.upstream.tls import UpstreamTLS
from apimachinery import discovery
from apimachinery.gvk import GroupVersion
from apimachinery.types import Object
from tests.unit.aggregator.api_kit import (
    ENDLESS,
    GARBAGE,
    HANG,
    Certificates,
    Handler,
    Reply,
    Request,
    Server,
    backend,
    fetch_with,
    json_reply,
    make_certificates,
    routes,
    serving,
    source_of,
)

LIMITS = OpenAPILimits(timeout=0.4, max_body=256 * 1024)
KEY = "apis/one.example/v1"
ONE = GroupVersion("one.example", "v1")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), "svc.default.svc")


async def poll(
    handler: Handler,
    certificates: Certificates,
    known: RemoteOpenAPI | None = None,
    groups: tuple[str, ...] = ("one.example",),
) -> tuple[RemoteOpenAPI, str, Server]:
    async with serving(handler, certificates) as server:
        fetcher = OpenAPIFetcher(fetch_with(UpstreamTLS()), LIMITS)
        found, fault = await fetcher.poll(backend(server, certificates), source_of(*groups), known or RemoteOpenAPI())
    return found, fault, server


def v3(title: str = "one") -> Object:
    return {"openapi": "3.0.0", "info": {"title": title, "version": "1"}, "paths": {}}


def v2(*paths: str, title: str = "remote", definitions: Mapping[str, Object] | None = None) -> Object:
    reference = {"schema": {"$ref": "#/definitions/Thing"}}
    operation = {"responses": {"200": {"description": "OK", **reference}}}
    return {
        "swagger": "2.0",
        "info": {"title": title, "version": "1"},
        "paths": {path: {"get": operation} for path in paths},
        "definitions": definitions or {"Thing": {"type": "object"}},
    }


def root(url: str, key: str = KEY) -> Object:
    return {"paths": {key: {"serverRelativeURL": url}, "version": {"serverRelativeURL": "/openapi/v3/version?hash=1"}}}


def good(**replaced: Reply) -> dict[str, Reply]:
    table = {
        "/openapi/v2": json_reply(v2("/apis/one.example/v1/things", "/apis/two.example/v1/things"), etag='"2"'),
        "/openapi/v3": json_reply(root(f"/openapi/v3/{KEY}?hash=AB")),
        f"/openapi/v3/{KEY}?hash=AB": json_reply(v3()),
    }
    return {**table, **replaced}


async def test_everything_is_fetched_once_and_then_by_change(certificates: Certificates) -> None:
    found, fault, first = await poll(routes(good()), certificates)
    assert fault == ""
    assert orjson.loads(found.v3[KEY].body) == v3()
    assert found.v2 is not None
    assert list(orjson.loads(found.v2.body)["paths"]) == ["/apis/one.example/v1/things"]
    assert [request.path for request in first.requests] == [
        "/openapi/v2",
        "/openapi/v3",
        f"/openapi/v3/{KEY}?hash=AB",
    ]
    assert {request.headers["x-remote-user"] for request in first.requests} == {"system:aggregator"}

    table = good(**{"/openapi/v2": Reply(304)})
    again, fault, second = await poll(routes(table), certificates, found)
    assert (again, fault) == (found, "")
    assert again.v2 is found.v2
    assert [request.path for request in second.requests] == ["/openapi/v2", "/openapi/v3"]
    assert second.requests[0].headers["if-none-match"] == '"2"'

    path = f"/openapi/v3/{KEY}?hash=CD"
    table = good(**{"/openapi/v3": json_reply(root(path)), path: json_reply(v3("new"))})
    changed, _, _ = await poll(routes(table), certificates, found)
    assert orjson.loads(changed.v3[KEY].body) == v3("new")
    assert changed.v3[KEY].hash != found.v3[KEY].hash


async def test_the_hash_is_our_own(certificates: Certificates) -> None:
    found, _, _ = await poll(routes(good()), certificates)
    document = found.v3[KEY]
    assert document.hash == discovery.etag(document.body).strip('"')


@pytest.mark.parametrize(
    "url",
    [
        "/openapi/v3/apis/other.example/v1?hash=1",
        "https://elsewhere.example/openapi/v3/apis/one.example/v1",
        "//elsewhere.example/x",
        "/../secret",
        "",
    ],
)
async def test_only_the_own_document_is_asked_for(url: str, certificates: Certificates) -> None:
    table = good(**{"/openapi/v3": json_reply(root(url)), f"/openapi/v3/{KEY}": json_reply(v3())})
    found, fault, server = await poll(routes(table), certificates)
    assert fault == ""
    assert list(found.v3) == [KEY]
    asked = {request.path.partition("?")[0] for request in server.requests}
    assert asked == {"/openapi/v2", "/openapi/v3", f"/openapi/v3/{KEY}"}


async def test_documents_of_foreign_groups_are_not_asked_for(certificates: Certificates) -> None:
    table = good(**{"/openapi/v3": json_reply(root("/openapi/v3/apis/apps/v1?hash=1", "apis/apps/v1"))})
    found, fault, server = await poll(routes(table), certificates)
    assert (dict(found.v3), fault) == ({}, "")
    assert len(server.requests) == 2


async def test_a_server_with_v2_only_is_converted(certificates: Certificates) -> None:
    table = {"/openapi/v2": good()["/openapi/v2"]}
    found, fault, _ = await poll(routes(table), certificates, None, ("one.example", "two.example", "three.example"))
    assert fault == ""
    assert sorted(found.v3) == ["apis/one.example/v1", "apis/two.example/v1"]
    document = orjson.loads(found.v3[KEY].body)
    assert document["openapi"] == "3.0.0"
    assert list(document["paths"]) == ["/apis/one.example/v1/things"]
    assert "Thing" in document["components"]["schemas"]


async def test_a_server_with_v3_only_has_no_fault(certificates: Certificates) -> None:
    found, fault, _ = await poll(routes(good(**{"/openapi/v2": Reply(404)})), certificates)
    assert fault == ""
    assert found.v2 is None
    assert list(found.v3) == [KEY]


async def test_a_server_without_openapi_has_no_fault(certificates: Certificates) -> None:
    found, fault, _ = await poll(routes({}), certificates)
    assert (found, fault) == (RemoteOpenAPI(), "")


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(500), id="500"),
        pytest.param(Reply(301, b"", {"location": "/x"}), id="redirect"),
        pytest.param(HANG, id="hangs"),
        pytest.param(GARBAGE, id="garbage"),
        pytest.param(ENDLESS, id="endless"),
        pytest.param(Reply(200, b"{"), id="broken JSON"),
        pytest.param(Reply(200, b"[]"), id="no object"),
        pytest.param(json_reply({"swagger": "2.0", "openapi": 3, "paths": 7}), id="malformed"),
    ],
)
async def test_failures_keep_the_latest_good_documents(reply: Reply, certificates: Certificates) -> None:
    known, fault, _ = await poll(routes(good()), certificates)
    assert fault == ""
    started = time.monotonic()
    found, fault, _ = await poll(lambda request: reply, certificates, known)
    assert time.monotonic() - started < 2
    assert "GET /openapi/v2" in fault
    assert "GET /openapi/v3" in fault
    assert found == known


async def test_a_failing_group_version_keeps_its_document_and_the_others(certificates: Certificates) -> None:
    known, _, _ = await poll(routes(good()), certificates)
    paths = root(f"/openapi/v3/{KEY}?hash=NEW")["paths"]
    paths["apis/two.example/v1"] = {"serverRelativeURL": "/openapi/v3/apis/two.example/v1?hash=2"}
    table = good(
        **{
            "/openapi/v3": json_reply({"paths": paths}),
            "/openapi/v3/apis/two.example/v1?hash=2": json_reply(v3("two")),
        }
    )
    found, fault, _ = await poll(routes(table), certificates, known, ("one.example", "two.example"))
    assert fault == f"GET /openapi/v3/{KEY}?hash=NEW: bad status 404"
    assert found.v3[KEY] == known.v3[KEY]
    assert orjson.loads(found.v3["apis/two.example/v1"].body) == v3("two")


async def test_a_server_without_etags_is_not_parsed_again(certificates: Certificates) -> None:
    def handler(request: Request) -> Reply:
        return json_reply(v2("/apis/one.example/v1/things")) if request.path == "/openapi/v2" else Reply(404)

    known, _, _ = await poll(handler, certificates)
    found, _, server = await poll(handler, certificates, known)
    assert found.v2 is known.v2
    assert "if-none-match" not in server.requests[0].headers


@pytest.mark.parametrize(
    "spec",
    [
        {"swagger": "2.0", "paths": {"/apis/one.example/v1/": 7}},
        {"swagger": "2.0", "paths": {"/apis/one.example/v1/": {"get": []}}},
        {"swagger": "2.0", "info": 7, "paths": {"/apis/one.example/v1/": {}}},
        {"swagger": "2.0", "definitions": ["x"], "paths": {"/apis/one.example/v1/": {}}},
        {"openapi": "3.0.0"},
    ],
)
def test_v2_documents_that_cannot_be_used(spec: Object) -> None:
    with pytest.raises(UnusableDocumentError):
        openapi_answer.reduced_v2(orjson.dumps(spec), [ONE])


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    nested = b'{"items":' * 900 + b"{}" + b"}" * 900
    plain = orjson.dumps(v2("/apis/one.example/v1/things", definitions={"Thing": {"type": "marker"}}))
    body = plain.replace(b'{"type":"marker"}', nested)
    with pytest.raises(UnusableDocumentError):
        openapi_answer.reduced_v2(body, [ONE])


class Local:
    """The documents of this server."""

    documents: Mapping[str, bytes] = {"apis/local.example/v1": b'{"openapi":"3.0.0"}'}
    hashes: Mapping[str, str] = {"apis/local.example/v1": "LOCAL"}
    v2_json = orjson.dumps(v2("/apis/local.example/v1/things", title="local"))


async def snapshot(*remotes: RemoteOpenAPI) -> openapi_snapshot.OpenAPISnapshot:
    specs = [(str(position), remote.v2.body) for position, remote in enumerate(remotes) if remote.v2 is not None]
    merged = await openapi_snapshot.merge_v2(OpenAPIWorker(), Local.v2_json, specs)
    return openapi_snapshot.build(Local(), list(remotes), merged)


def remote(spec: Object, **documents: bytes) -> RemoteOpenAPI:
    return RemoteOpenAPI(
        v2=V2Document(
            body=openapi_answer.reduced_v2(orjson.dumps(spec), [ONE]), etag='"1"', from_server=True, owned=(ONE,)
        ),
        v3={f"apis/{group}.example/v1": openapi_answer.v3_document(body) for group, body in documents.items()},
    )


async def test_root_lists_local_and_remote_documents() -> None:
    subject = await snapshot(remote(v2("/apis/one.example/v1/things"), one=orjson.dumps(v3())))
    answer = subject.respond("/openapi/v3?timeout=32s", "application/json", "", now=0)
    assert answer is not None
    assert answer.headers["content-type"] == "application/json"
    own = subject.v3[KEY].hash
    assert orjson.loads(answer.body)["paths"] == {
        "apis/local.example/v1": {"serverRelativeURL": "/openapi/v3/apis/local.example/v1?hash=LOCAL"},
        KEY: {"serverRelativeURL": f"/openapi/v3/{KEY}?hash={own}"},
    }
    again = subject.respond("/openapi/v3", "", answer.headers["etag"], now=0)
    assert again is not None
    assert again.code == 304


async def test_documents_by_hash() -> None:
    subject = await snapshot(remote(v2("/apis/one.example/v1/things"), one=orjson.dumps(v3())))
    own = subject.v3[KEY].hash
    right = subject.respond(f"/openapi/v3/{KEY}?hash={own}", "application/json", "", now=0)
    wrong = subject.respond(f"/openapi/v3/{KEY}?hash=0", "application/json", "", now=0)
    plain = subject.respond(f"/openapi/v3/{KEY}", "application/json", "", now=0)
    assert right is not None
    assert wrong is not None
    assert plain is not None
    assert (right.code, orjson.loads(right.body)) == (200, v3())
    assert right.headers["cache-control"] == "public, immutable"
    assert right.headers["expires"] == "Fri, 01 Jan 1971 00:00:00 GMT"
    assert (wrong.code, wrong.headers["location"]) == (301, f"/openapi/v3/{KEY}?hash={own}")
    assert plain.code == 200
    assert "cache-control" not in plain.headers
    assert plain.headers["etag"] == f'"{own}"'


@pytest.mark.parametrize("path", ["/openapi/v3/apis/none/v1", "/openapi", "/openapi/v1", "/openapi/v3x"])
async def test_unknown_documents_are_not_ours(path: str) -> None:
    assert (await snapshot()).respond(path, "application/json", "", now=0) is None


async def test_v2_is_merged_and_served_in_both_forms() -> None:
    subject = await snapshot(remote(v2("/apis/one.example/v1/things", definitions={"Thing": {"type": "string"}})))
    answer = subject.respond("/openapi/v2", "application/json", "", now=0)
    assert answer is not None
    document = orjson.loads(answer.body)
    assert document["info"]["title"] == "local"
    assert list(document["paths"]) == ["/apis/local.example/v1/things", "/apis/one.example/v1/things"]
    assert document["definitions"] == {"Thing": {"type": "object"}, "Thing_v2": {"type": "string"}}
    protobuf = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    binary = subject.respond("/openapi/v2", protobuf.replace(".v1.0", "@v1.0"), "", now=0)
    assert binary is not None
    assert binary.headers["content-type"] == protobuf
    assert binary.headers["etag"] == answer.headers["etag"] == discovery.etag(answer.body)
    assert b"Thing_v2" in binary.body
    assert binary.body != answer.body
    cached = subject.respond("/openapi/v2", protobuf, answer.headers["etag"], now=0)
    assert cached is not None
    assert (cached.code, cached.body) == (304, b"")
    refused = subject.respond("/openapi/v2", "text/html", "", now=0)
    assert refused is not None
    assert (refused.code, refused.body) == (406, b"")


async def test_what_cannot_be_merged_is_left_out() -> None:
    good_one = v2("/apis/one.example/v1/things", definitions={"Thing": {"type": "object"}})
    inputs = [("bad", b'{"paths":7}'), ("good", orjson.dumps(good_one))]
    merged = await openapi_snapshot.merge_v2(OpenAPIWorker(), Local.v2_json, inputs)
    assert merged.skipped == ("bad",)
    assert "/apis/one.example/v1/things" in orjson.loads(merged.json)["paths"]
