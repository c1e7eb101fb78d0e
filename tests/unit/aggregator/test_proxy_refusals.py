"""What the proxy refuses, with real sockets: smuggling, spoofing, large heads, and backends out of reach."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aggregator.proxy.limits import Limits
from aggregator.proxy.routes import RouteTable
from aggregator.proxy.server import Proxy
from aggregator.upstream.tls import UpstreamTLS
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Backend,
    Client,
    answer,
    answering,
    apiservice,
    authority,
    backend,
    client,
    externalname,
    fields_of,
    on_uvloop,
    proxy,
    read_head,
    request,
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    made = PKI.make(tmp_path_factory.mktemp("pki"))
    made.ca.issue(made.directory, "bob", cn="bob")
    made.ca.issue(made.directory, "bad", cn="bad")
    return made


@asynccontextmanager
async def recording(pki: PKI, name: str | None = "client") -> AsyncIterator[tuple[list[bytes], Client]]:
    """A backend that records the heads it gets, and a client of the proxy in front of it."""
    seen: list[bytes] = []
    async with (
        backend(answering(answer(), seen), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front, name) as caller,
    ):
        yield seen, caller


_HEAD = "POST /apis/test/v1/things HTTP/1.1\r\nHost: a\r\n"
_GET = "GET /apis/test/v1/things HTTP/1.1\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(_HEAD + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="CL.TE"),
        pytest.param(_HEAD + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", id="TE.CL"),
        pytest.param(_HEAD + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", id="CL twice, equal"),
        pytest.param(_HEAD + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", id="CL twice"),
        pytest.param(_HEAD + "Content-Length: 3, 3\r\n\r\nabc", id="CL list"),
        pytest.param(_HEAD + "Content-Length: +3\r\n\r\nabc", id="CL plus"),
        pytest.param(_HEAD + "Content-Length: -3\r\n\r\nabc", id="CL minus"),
        pytest.param(_HEAD + "Content-Length: 0x3\r\n\r\nabc", id="CL hexadecimal"),
        pytest.param(_HEAD + "Content-Length: 99999999999999999999999\r\n\r\nabc", id="CL overflow"),
        pytest.param(_HEAD + "Content-Length : 3\r\n\r\nabc", id="CL space before colon"),
        pytest.param(_HEAD + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", id="TE space before colon"),
        pytest.param(_HEAD + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="TE xchunked"),
        pytest.param(_HEAD + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", id="TE vertical tab"),
        pytest.param(_HEAD + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="TE identity last"),
        pytest.param(_HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="TE gzip"),
        pytest.param(
            _HEAD + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="TE twice"
        ),
        pytest.param("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="TE in 1.0"),
        pytest.param(_GET + "Host: a\nX-A: 1\r\n\r\n", id="bare LF"),
        pytest.param(_GET.replace("\r", "") + "Host: a\n\n", id="only LF"),
        pytest.param(_GET + "Host: a\r\nX-A: 1\rX-B: 2\r\n\r\n", id="bare CR"),
        pytest.param(_GET + "Host: a\r\nX-A: 1\r\n 2\r\n\r\n", id="obs-fold"),
        pytest.param(_GET + "Host: a\r\nX-A: 1\r\n\t2\r\n\r\n", id="obs-fold tab"),
        pytest.param(_GET + " Host: a\r\n\r\n", id="space before the first field"),
        pytest.param(_GET + "Host: a\r\nX-A: 1\x002\r\n\r\n", id="NUL in value"),
        pytest.param(_GET + "Host: a\r\nX\x00A: 1\r\n\r\n", id="NUL in name"),
        pytest.param(_GET + "Host: a\r\nX A: 1\r\n\r\n", id="space in name"),
        pytest.param(_GET + "Host: a\r\nXA\r\n\r\n", id="no colon"),
        pytest.param(_GET + "Host: a\r\n: 1\r\n\r\n", id="empty name"),
        pytest.param(_GET + "\r\n", id="no Host"),
        pytest.param(_GET + "Host: a\r\nHost: b\r\n\r\n", id="two Hosts"),
        pytest.param("GET http://x/apis/test/v1/things HTTP/1.1\r\nHost: a\r\n\r\n", id="absolute form"),
        pytest.param("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", id="asterisk form"),
        pytest.param("GET /apis/test/v1/a#b HTTP/1.1\r\nHost: a\r\n\r\n", id="fragment"),
        pytest.param("GET /apis/test/v1/\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", id="raw byte in target"),
        pytest.param("GET /apis/test/v1/a\tb HTTP/1.1\r\nHost: a\r\n\r\n", id="tab in target"),
        pytest.param("GET /apis/test/v1/%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n", id="encoded dots"),
        pytest.param("GET /apis/test%2Fv1/x HTTP/1.1\r\nHost: a\r\n\r\n", id="encoded slash"),
        pytest.param("GET /apis/test//v1 HTTP/1.1\r\nHost: a\r\n\r\n", id="empty segment"),
        pytest.param("GET /apis/test/v1 HTTP/1.2\r\nHost: a\r\n\r\n", id="version 1.2"),
        pytest.param("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="h2 preface"),
        pytest.param("get /apis/test/v1 HTTP/1.1\r\nHost: a\r\n\r\n", id="lower-case method"),
        pytest.param("FOO /apis/test/v1 HTTP/1.1\r\nHost: a\r\n\r\n", id="unknown method"),
        pytest.param("\x16\x03\x01\x02\x00", id="TLS in TLS"),
        pytest.param(
            _HEAD + "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 40\r\n\r\nGET /apis/x HTTP/1.1\r\n\r\n",
            id="upgrade with body",
        ),
    ],
)
@on_uvloop
async def test_ambiguous_requests_are_400_and_the_end_of_the_connection(pki: PKI, raw: str) -> None:
    async with recording(pki) as (seen, caller):
        await caller.send(raw.encode("latin-1"))
        found = await caller.response()
        assert (found.status, found.all("connection")) == (400, ["close"])
        assert found.body.startswith(b"400 Bad Request: ")
        assert await caller.closed()
        assert seen == []


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "DESCRIBE"])
@on_uvloop
async def test_methods_that_no_api_has(pki: PKI, method: str) -> None:
    async with recording(pki) as (seen, caller):
        await caller.send(request(method, "/apis/test/v1/things"))
        assert (await caller.response()).status in (400, 405)
        assert await caller.closed()
        assert seen == []


@on_uvloop
async def test_connect_is_refused(pki: PKI) -> None:
    async with recording(pki) as (seen, caller):
        await caller.send(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\nGET /apis/test/v1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await caller.response()).status in (400, 405)
        assert await caller.closed()
        assert seen == []


@pytest.mark.parametrize("length", [None, "3"])
@pytest.mark.parametrize(
    "name",
    ["X-Remote-User", "x-remote-user", "X_Remote_User", "X-REMOTE_GROUP", "X-Remote-Extra-Scopes", "X-Remote-Uid"],
)
@on_uvloop
async def test_a_client_cannot_claim_an_identity(pki: PKI, name: str, length: str | None) -> None:
    """Both with a plain request and with one that goes through the full parser."""
    async with recording(pki) as (seen, caller):
        more = [f"Content-Length: {length}"] if length else []
        await caller.send(
            request("DELETE", "/apis/test/v1/things/a", f"{name}: evil", *more, body=b"abc" if length else b"")
        )
        assert (await caller.response()).status == 200
        assert b"evil" not in seen[0]
        assert fields_of(seen[0], "x-remote-user") == ["admin"]
        assert fields_of(seen[0], "x-remote-group") == ["system:masters", "system:authenticated"]


@on_uvloop
async def test_a_front_proxy_speaks_for_each_request(pki: PKI) -> None:
    async with recording(pki, "front") as (seen, caller):
        for user, code in (("jo", 200), ("kim", 200)):
            headers = [f"X-Remote-User: {user}", "X-Remote-Group: system:masters", "X-Remote-Extra-K: 1"]
            assert (await caller.get("/apis/test/v1/things", *headers)).status == code
        assert (await caller.get("/apis/test/v1/things", "X-Remote-User: low")).status == 403
        assert (await caller.get("/apis/test/v1/things")).status == 401
        assert [fields_of(head, "x-remote-user") for head in seen] == [["jo"], ["kim"]]
        assert fields_of(seen[0], "x-remote-extra-k") == ["1"]


@pytest.mark.parametrize(("name", "code"), [(None, 401), ("bob", 403), ("bad", 401)])
@on_uvloop
async def test_who_may_not(pki: PKI, name: str | None, code: int) -> None:
    async with recording(pki, name) as (seen, caller):
        for _ in range(2):
            found = await caller.get()
            assert (found.status, found.all("content-type")) == (code, ["application/json"])
        assert seen == []


@on_uvloop
async def test_impersonation_does_not_act_as_somebody_else_silently(pki: PKI) -> None:
    async with recording(pki) as (seen, caller):
        found = await caller.get("/apis/test/v1/things", "Impersonate-User: bob")
        assert found.status == 403
        assert seen == []


@on_uvloop
async def test_the_audit_id_is_the_same_everywhere(pki: PKI) -> None:
    async with recording(pki) as (seen, caller):
        found = await caller.get("/apis/test/v1/things", "Audit-ID: my-id")
        assert found.all("audit-id") == fields_of(seen[0], "audit-id") == ["my-id"]
        found = await caller.get()
        assert found.all("audit-id") == fields_of(seen[1], "audit-id")
        found = await caller.get("/apis/test/v1/things", 'Audit-ID: a"b')
        assert fields_of(seen[2], "audit-id") == found.all("audit-id")
        assert found.all("audit-id") != ['a"b']


@on_uvloop
async def test_a_head_beyond_the_limit_is_431(pki: PKI) -> None:
    async with proxy(pki, limits=Limits(head_bytes=20000)) as front:
        async with client(pki, front) as caller:
            await caller.send(request("GET", "/healthz", "X-Large: " + "x" * 30000))
            assert (await caller.response()).status == 431
            assert await caller.closed()
        async with client(pki, front) as caller:
            await caller.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
            for _ in range(7):
                await caller.send(b"X-A: " + b"x" * 3000 + b"\r\n")
                await asyncio.sleep(0.01)
            assert (await caller.response()).status == 431


async def _get(pki: PKI, apiservice_port: int, ca: bytes | None, **options: object) -> tuple[int, bytes]:
    insecure = bool(options.get("insecure"))
    async with (
        proxy(pki, [apiservice(apiservice_port, ca, insecure=insecure)], limits=Limits(handshake_seconds=1)) as front,
        client(pki, front) as caller,
    ):
        found = await caller.get()
        assert (await caller.get("/healthz")).status == 503
        return found.status, found.body


@on_uvloop
async def test_a_refused_connection_is_a_503_with_its_cause(pki: PKI) -> None:
    async with backend(answering(answer())) as served:
        port = served.port
    code, body = await _get(pki, port, pki.ca.pem)
    assert code == 503
    assert body == f"error trying to reach service: dial tcp 127.0.0.1:{port}: connect: connection refused\n".encode()


@on_uvloop
async def test_an_untrusted_backend_is_a_503_and_never_asked(pki: PKI) -> None:
    seen: list[bytes] = []
    async with backend(answering(answer(), seen), pki.server_context("backend")) as served:
        code, body = await _get(pki, served.port, authority("other").pem)
        assert (code, seen) == (503, [])
        assert body.startswith(b"error trying to reach service: tls: failed to verify certificate: ")


@on_uvloop
async def test_a_backend_with_another_name_is_refused_unless_insecure(pki: PKI) -> None:
    seen: list[bytes] = []
    async with backend(answering(answer(), seen), pki.server_context("proxy")) as served:
        code, body = await _get(pki, served.port, pki.ca.pem)
        assert (code, seen) == (503, [])
        assert b"tls: failed to verify certificate" in body
        assert (await _get(pki, served.port, None, insecure=True))[0] == 200


@on_uvloop
async def test_a_plain_backend_is_a_503(pki: PKI) -> None:
    async with backend(answering(answer())) as served:
        code, body = await _get(pki, served.port, pki.ca.pem)
        assert code == 503
        assert body.startswith(b"error trying to reach service: ")


@pytest.mark.parametrize(
    ("bundle", "insecure", "text"),
    [
        (b"no pem", False, "unable to load root certificates: unable to parse bytes as PEM block"),
        (b"-----BEGIN X-----\n", False, "unable to load root certificates: no valid certificate authority data seen"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            False,
            "unable to load root certificates: failed to parse certificate: ",
        ),
        (b"x", True, "specifying a root certificates file with the insecure flag is not allowed"),
    ],
)
@on_uvloop
async def test_a_bundle_that_cannot_be_used_is_a_500(pki: PKI, bundle: bytes, insecure: bool, text: str) -> None:
    code, body = await _get(pki, 1, bundle, insecure=insecure)
    assert code == 500
    assert body.decode().startswith(text)


@on_uvloop
async def test_an_unavailable_service_is_counted_as_terminated(pki: PKI) -> None:
    async with proxy(pki, [apiservice(1, None, available=False)]) as front, client(pki, front) as caller:
        found = await caller.get("/apis/test/v1/namespaces/n/things")
        assert (found.status, found.body) == (503, b"service unavailable\n")
        assert found.all("content-type") == ["text/plain; charset=utf-8"]
        assert found.all("x-content-type-options") == ["nosniff"]
        samples = {
            tuple(sample.labels.values()): sample.value
            for family in front.metrics.collect()
            if family.name == "apiserver_request_terminations"
            for sample in family.samples
        }
        assert samples == {("list", "test", "v1", "things", "", "namespace", "aggregator", "503"): 1}


@on_uvloop
async def test_terminations_are_forgotten_with_their_service_and_bounded_while_it_is_there(pki: PKI) -> None:
    def series(front: Proxy) -> list[tuple[str, ...]]:
        return [
            tuple(sample.labels.values())
            for family in front.metrics.collect()
            if family.name == "apiserver_request_terminations"
            for sample in family.samples
        ]

    async with proxy(pki, [apiservice(1, None, available=False)]) as front, client(pki, front) as caller:
        for number in range(600):
            assert (await caller.get(f"/apis/test/v1/made-up-{number}")).status == 503
        assert (await caller.get("/apis/test/v1")).status == 503
        assert len(series(front)) == 502
        assert ("list", "", "", "", "", "", "aggregator", "503") in series(front)
        front.plane.install(RouteTable.build([], [externalname()]))
        assert {labels[1] for labels in series(front)} == {""}
        assert len(series(front)) == 2


@on_uvloop
async def test_the_backend_sees_the_proxys_certificate_and_its_successor(pki: PKI) -> None:
    served: Backend
    cert, key = pki.ca.issue(pki.directory, "rotating", cn="one")
    tls = UpstreamTLS(cert, key)
    async with backend(answering(answer()), pki.server_context("backend")) as served:
        async with (
            proxy(pki, [apiservice(served.port, pki.ca.pem)], upstream_tls=tls) as front,
            client(pki, front) as caller,
        ):
            assert (await caller.get()).status == 200
            pki.ca.issue(pki.directory, "rotating", cn="two")
            assert tls.reload()
            front.plane.certificates_changed()
            assert (await caller.get()).status == 200
        assert [certificate is not None for certificate in served.peer_certificates] == [True, True]
        assert b"one" in (served.peer_certificates[0] or b"")
        assert b"two" in (served.peer_certificates[1] or b"")


@on_uvloop
async def test_everything_else_goes_to_the_local_server(pki: PKI) -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_head(reader))
            writer.write(answer(b"local", "Location: /elsewhere", status="301 Moved Permanently"))

    async with backend(handle) as served, proxy(pki, [], local_port=served.port) as front, client(pki, front) as caller:
        found = await caller.get("/openapi/v3")
        assert (found.status, found.body) == (301, b"local")
        assert fields_of(seen[0], "host") == fields_of(seen[0], "x-forwarded-host") == ["localhost"]
        assert fields_of(seen[0], "x-remote-user") == ["admin"]
