"""Discovery of aggregated servers over real TLS connections."""

import asyncio
import time

import orjson
import pytest

from aggregator.api.discovery_fetch import DiscoveryFetcher, FetchLimits
from aggregator.api.discovery_sources import Known, Source
from aggregator.upstream.tls import UpstreamTLS
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

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
LIMITS = FetchLimits(timeout=0.4, max_body=256 * 1024)
ONE, TWO = GroupVersion("one.example", "v1"), GroupVersion("two.example", "v1")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), "svc.default.svc")


def resource(name: str) -> Object:
    kind = {"group": "", "version": "", "kind": name.title()}
    return {"resource": name, "responseKind": kind, "scope": "Cluster", "singularResource": "", "verbs": ["get"]}


def version(*names: str) -> Object:
    return {"version": "v1", "freshness": "Current", "resources": [resource(name) for name in names]}


def document(**groups: Object) -> Object:
    items = [{"metadata": {"name": f"{name}.example"}, "versions": [found]} for name, found in groups.items()]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items}


async def discover(
    handler: Handler, certificates: Certificates, source: Source, known: Known | None = None
) -> tuple[Known, str, Server]:
    async with serving(handler, certificates) as server:
        fetcher = DiscoveryFetcher(fetch_with(UpstreamTLS()), LIMITS)
        found, fault = await fetcher.discover(backend(server, certificates), source, known or Known())
    return found, fault, server


async def test_aggregated_answer_for_several_groups(certificates: Certificates) -> None:
    reply = json_reply(document(one=version("a"), foreign=version("x"), two=version("b")), V2, etag='"7"')
    found, fault, server = await discover(
        routes({"/apis": reply}), certificates, source_of("one.example", "two.example")
    )
    assert fault == ""
    assert found == Known(documents={ONE: version("a"), TWO: version("b")}, etag='"7"')
    assert len(server.requests) == 1
    headers = server.requests[0].headers
    assert headers["accept"] == V2
    assert headers["x-remote-user"] == "system:kube-aggregator"
    assert "if-none-match" not in headers


async def test_a_group_that_the_server_does_not_list_is_empty(certificates: Certificates) -> None:
    reply = json_reply(document(one=version("a")), V2)
    found, fault, _ = await discover(routes({"/apis": reply}), certificates, source_of("one.example", "two.example"))
    assert fault == ""
    assert found.documents == {ONE: version("a"), TWO: version()}


async def test_not_modified_keeps_what_is_known(certificates: Certificates) -> None:
    known = Known(documents={ONE: version("a")}, etag='"7"', failed=frozenset({ONE}))
    found, fault, server = await discover(lambda request: Reply(304), certificates, source_of("one.example"), known)
    assert (found, fault) == (Known(documents=known.documents, etag='"7"'), "")
    assert server.requests[0].headers["if-none-match"] == '"7"'


async def test_the_etag_is_not_sent_while_a_version_is_unknown(certificates: Certificates) -> None:
    known = Known(documents={ONE: version("a")}, etag='"7"')
    reply = json_reply(document(one=version("a"), two=version("b")), V2, etag='"7"')
    _, _, server = await discover(
        routes({"/apis": reply}), certificates, source_of("one.example", "two.example"), known
    )
    assert "if-none-match" not in server.requests[0].headers


@pytest.mark.parametrize(
    "root",
    [
        pytest.param(Reply(406), id="406"),
        pytest.param(Reply(404), id="404"),
        pytest.param(Reply(403), id="403"),
        pytest.param(Reply(302, b"", {"location": "/elsewhere"}), id="redirect"),
        pytest.param(json_reply({"kind": "APIGroupList", "groups": []}), id="plain"),
        pytest.param(Reply(200, b"<html>", {"content-type": "text/html"}), id="wrong content type"),
        pytest.param(json_reply(document(one=version("a")), V2.replace("v2;", "v2beta1;")), id="beta"),
    ],
)
async def test_legacy_fallback(root: Reply, certificates: Certificates) -> None:
    resources = [{"name": "as", "singularName": "a", "namespaced": True, "kind": "A", "verbs": ["get"]}]
    legacy = json_reply({"kind": "APIResourceList", "groupVersion": "one.example/v1", "resources": resources})
    found, fault, server = await discover(
        routes({"/apis": root, "/apis/one.example/v1": legacy}), certificates, source_of("one.example", "two.example")
    )
    assert fault == "GET /apis/two.example/v1: bad status 404"
    assert list(found.documents) == [ONE]
    assert [entry["resource"] for entry in found.documents[ONE]["resources"]] == ["as"]
    assert found.failed == {TWO}
    assert server.requests[1].headers["accept"] == "application/json"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        pytest.param(Reply(503), "GET /apis: bad status 503", id="503"),
        pytest.param(HANG, "GET /apis: no complete response", id="hangs"),
        pytest.param(GARBAGE, "GET /apis: ", id="garbage"),
        pytest.param(ENDLESS, "GET /apis: response body exceeds 262144 bytes", id="endless"),
        pytest.param(Reply(200, b"{", {"content-type": V2}), "GET /apis: the document is no JSON", id="broken JSON"),
        pytest.param(
            json_reply(document(one=version(*["a"] * 10_001)), V2), "GET /apis: response body exceeds", id="too large"
        ),
        pytest.param(
            Reply(200, orjson.dumps(document(one={"version": "v1", "resources": [{}] * 10_001})), {"content-type": V2}),
            "GET /apis: a group version lists 10001 resources",
            id="too many resources",
        ),
    ],
)
async def test_a_failure_keeps_what_is_known(reply: Reply, text: str, certificates: Certificates) -> None:
    known = Known(documents={ONE: version("a")}, etag='"7"')
    started = time.monotonic()
    found, fault, _ = await discover(lambda request: reply, certificates, source_of("one.example"), known)
    assert time.monotonic() - started < 2
    assert fault.startswith(text)
    assert found == Known(documents=known.documents, etag='"7"', failed=frozenset({ONE}))


async def test_a_partial_legacy_failure_keeps_the_rest(certificates: Certificates) -> None:
    def handler(request: Request) -> Reply:
        return Reply(500) if request.path.startswith("/apis/one") else Reply(404)

    known = Known(documents={ONE: version("a")}, etag='"7"')
    found, fault, _ = await discover(handler, certificates, source_of("one.example", "two.example"), known)
    assert found.documents == {ONE: version("a")}
    assert found.failed == {ONE, TWO}
    assert fault == "GET /apis/one.example/v1: bad status 500; GET /apis/two.example/v1: bad status 404"


async def test_a_hundred_thousand_resources_are_too_many_bytes(certificates: Certificates) -> None:
    body = orjson.dumps(document(one=version(*(f"r{number}" for number in range(100_000)))))
    reply = Reply(200, body, {"content-type": V2})
    async with serving(lambda request: reply, certificates) as server:
        fetcher = DiscoveryFetcher(fetch_with(UpstreamTLS()), FetchLimits(timeout=5))
        found, fault = await fetcher.discover(backend(server, certificates), source_of("one.example"), Known())
    assert fault == "GET /apis: response body exceeds 2097152 bytes"
    assert (found.documents, found.failed) == ({}, frozenset({ONE}))


async def test_slow_bytes_end_with_the_deadline(certificates: Certificates) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {V2}\r\ncontent-length: 100000\r\n\r\n".encode())
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    listener = await asyncio.start_server(drip, "127.0.0.1", 0, ssl=certificates.server_context())
    try:
        fetcher = DiscoveryFetcher(fetch_with(UpstreamTLS()), LIMITS)
        server = Server(lambda request: Reply(), listener.sockets[0].getsockname()[1])
        started = time.monotonic()
        _, fault = await fetcher.discover(backend(server, certificates), source_of("one.example"), Known())
        assert time.monotonic() - started < 2
    finally:
        listener.close()
    assert fault.startswith("GET /apis: no complete response")
