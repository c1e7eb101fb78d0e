"""Requests that two parsers could read differently, over sockets; and that both ways through the proxy agree."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.proxy.downstream import DownstreamConnection
from aggregator.proxy.server import Proxy
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Client,
    answer,
    answering,
    apiservice,
    backend,
    client,
    fields_of,
    lines_of,
    on_uvloop,
    proxy,
    read_head,
    request,
)

THINGS = "/apis/test/v1/things"
_POST = f"POST {THINGS} HTTP/1.1\r\nHost: a\r\n"
_CHUNKED = _POST + "Transfer-Encoding: chunked\r\n"
_SECOND = f"GET {THINGS}/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(_POST + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", id="TE chunked, chunked"),
        pytest.param(_CHUNKED + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="TE twice, equal"),
        pytest.param(_POST + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", id="TE folded"),
        pytest.param(_POST + 'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', id="TE quoted"),
        pytest.param(_POST + "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", id="TE parameter"),
        pytest.param(_POST + "Transfer-Encoding: identity\r\n\r\n" + _SECOND, id="TE identity"),
        pytest.param(_POST + "Transfer-Encoding: \r\n\r\n" + _SECOND, id="TE empty"),
        pytest.param(_POST + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", id="TE tab before colon"),
        pytest.param(_POST + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="CL 0 and TE"),
        pytest.param(_POST + "Content-Length: \r\n\r\n" + _SECOND, id="CL empty"),
        pytest.param(_POST + "Content-Length: 3 3\r\n\r\nabc", id="CL with a space"),
        pytest.param(_POST + "Content-Length: 3\x0b\r\n\r\nabc", id="CL vertical tab"),
        pytest.param(_POST + "Content-Length: 1_0\r\n\r\n" + "x" * 10, id="CL underscore"),
        pytest.param(f"GET {THINGS} a HTTP/1.1\r\nHost: a\r\n\r\n", id="space in target"),
        pytest.param(f"GET {THINGS}\r\nHost: a\r\n\r\n", id="HTTP/0.9"),
        pytest.param(f"GET {THINGS} HTTP/1.1\rHost: a\r\n\r\n", id="bare CR after the request line"),
        pytest.param(f"GET {THINGS} HTTP/1.1\r\nHost: a\rX-A: 1\r\n\r\n", id="bare CR in Host"),
        pytest.param(f"GET {THINGS} HTTP/1.1\r\nHost: a\r\n X-Remote-User: evil\r\n\r\n", id="identity folded"),
        pytest.param(f"GET {THINGS} HTTP/1.1\r\nHost: a\r\nX-Remote-User : evil\r\n\r\n", id="identity, space"),
        pytest.param(f"GET {THINGS} HTTP/1.1\r\nHost: a\r\nX-Remote-User\t: evil\r\n\r\n", id="identity, tab"),
        pytest.param(f"GET {THINGS} HTTP/1.1\r\nHost: a\r\nX-Remote-User\x00: evil\r\n\r\n", id="identity, NUL"),
        pytest.param(f"GET {THINGS} HTTP/1.1\r\nHost: a\r\nX(Remote)User: evil\r\n\r\n", id="name with brackets"),
        pytest.param(f"GET {THINGS} HTTP/1.1\r\nHost: a\r\nX-\xe9: 1\r\n\r\n", id="name with a raw byte"),
        pytest.param(f"GET https://a{THINGS} HTTP/1.1\r\nHost: a\r\n\r\n", id="absolute form, same host"),
        pytest.param("GET a:443 HTTP/1.1\r\nHost: a\r\n\r\n", id="authority form"),
        pytest.param(f"GET {THINGS[1:]} HTTP/1.1\r\nHost: a\r\n\r\n", id="no leading slash"),
        pytest.param(f"GET /{THINGS} HTTP/1.1\r\nHost: a\r\n\r\n", id="two leading slashes"),
        pytest.param("GET /healthz/..%2fapis HTTP/1.1\r\nHost: a\r\n\r\n", id="dots and encoded slash"),
        pytest.param("GET /healthz/../apis HTTP/1.1\r\nHost: a\r\n\r\n", id="dots"),
        pytest.param("GET /healthz/..;/apis HTTP/1.1\r\nHost: a\r\n\r\n", id="dots with a parameter"),
        pytest.param("GET /healthz/./apis HTTP/1.1\r\nHost: a\r\n\r\n", id="one dot"),
        pytest.param("GET /healthz%00 HTTP/1.1\r\nHost: a\r\n\r\n", id="encoded NUL"),
        pytest.param("GET /healthz%0d%0aX:1 HTTP/1.1\r\nHost: a\r\n\r\n", id="encoded line end"),
        pytest.param("GET /healthz%252e HTTP/1.1\r\nHost: a\r\n\r\n", id="encoded twice"),
        pytest.param("GET /healthz%zz HTTP/1.1\r\nHost: a\r\n\r\n", id="bad escape"),
        pytest.param("GET /healthz\\..\\apis HTTP/1.1\r\nHost: a\r\n\r\n", id="backslash"),
        pytest.param("GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", id="not UTF-8"),
    ],
)
@on_uvloop
async def test_forms_that_are_refused_before_anybody_is_asked(pki: PKI, raw: str) -> None:
    seen: list[bytes] = []
    async with (
        backend(answering(answer(), seen), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        await caller.send(raw.encode("latin-1"))
        found = await caller.response()
        assert (found.status, found.all("connection")) == (400, ["close"])
        assert await caller.closed()
        assert seen == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("-1\r\nx\r\n0\r\n\r\n", id="negative"),
        pytest.param("+1\r\nx\r\n0\r\n\r\n", id="plus"),
        pytest.param("0x1\r\nx\r\n0\r\n\r\n", id="prefix"),
        pytest.param("1 \r\nx\r\n0\r\n\r\n", id="space behind"),
        pytest.param(" 1\r\nx\r\n0\r\n\r\n", id="space before"),
        pytest.param("g\r\nx\r\n0\r\n\r\n", id="no digit"),
        pytest.param("\r\nx\r\n0\r\n\r\n", id="nothing"),
        pytest.param("1" + "0" * 16 + "1\r\nx\r\n0\r\n\r\n", id="overflow"),
        pytest.param("1\nx\r\n0\r\n\r\n", id="bare LF behind the size"),
        pytest.param("1\rx\r\n0\r\n\r\n", id="bare CR behind the size"),
        pytest.param("1\r\nxy\r\n0\r\n\r\n", id="longer than said"),
        pytest.param("1\r\nx0\r\n\r\n", id="no line end behind the data"),
        pytest.param("1\r\nx\n0\r\n\r\n", id="bare LF behind the data"),
        pytest.param("1;a\nb\r\nx\r\n0\r\n\r\n", id="LF in an extension"),
        pytest.param("0\r\nContent-Length: 999\r\n\r\n", id="trailer Content-Length"),
        pytest.param("0\r\nTransfer-Encoding: evil\r\n\r\n", id="trailer Transfer-Encoding"),
        pytest.param("0\r\nX-A : 1\r\n\r\n", id="trailer with a space in its name"),
        pytest.param("0\r\nX-A: 1\n\r\n", id="bare LF in a trailer"),
        pytest.param("0\r\nX-A: 1\r\n b\r\n\r\n", id="trailer folded"),
    ],
)
@on_uvloop
async def test_malformed_chunks_end_the_connection_and_nothing_follows(pki: PKI, body: str) -> None:
    """The head may have been sent on by then; the request must not be completed, nor another one made of its rest."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            seen.append(data)

    async with (
        backend(handle, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        await caller.send((_CHUNKED + "\r\n" + body + _SECOND).encode())
        assert (await caller.response("POST")).status == 400
        assert await caller.closed()
        sent = b"".join(seen)
        assert b"smuggled" not in sent
        assert not sent.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("trailer", "kept"),
    [
        ("X-Remote-User: evil", False),
        ("x_remote_user: evil", False),
        ("X-Remote-Extra-A: evil", False),
        ("Host: evil", False),
        ("Authorization: evil", False),
        ("Impersonate-User: evil", False),
        ("X-Checksum: evil", True),
    ],
)
@on_uvloop
async def test_trailers_carry_no_identity_and_no_framing(pki: PKI, trailer: str, kept: bool) -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        seen.append(await reader.readuntil(b"\r\n0\r\n"))
        seen.append(await reader.readuntil(b"\r\n"))
        writer.write(answer())

    async with (
        backend(handle, pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        await caller.send((_CHUNKED + f"\r\n1\r\nx\r\n0\r\n{trailer}\r\n\r\n").encode())
        assert (await caller.response("POST")).status == 200
        assert seen[1] == (f"{trailer}\r\n".encode() if kept else b"\r\n")


@pytest.mark.parametrize("option", ["X-Remote-User", "x-remote-user, close", "X-Remote-Group", "Host, Audit-ID"])
@on_uvloop
async def test_a_client_cannot_have_our_fields_removed(pki: PKI, option: str) -> None:
    """What Connection names is dropped, but only from the client's own fields."""
    seen: list[bytes] = []
    async with (
        backend(answering(answer(), seen), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        assert (await caller.get(THINGS, f"Connection: {option}")).status == 200
        assert fields_of(seen[0], "x-remote-user") == ["admin"]
        assert fields_of(seen[0], "x-remote-group") == ["system:masters", "system:authenticated"]
        assert len(fields_of(seen[0], "host")) == len(fields_of(seen[0], "audit-id")) == 1


@on_uvloop
async def test_spaces_before_the_target_are_not_passed_on(pki: PKI) -> None:
    """RFC 9112 3 lets a server be lenient here; what the backend reads has one form only."""
    seen: list[bytes] = []
    async with (
        backend(answering(answer(), seen), pki.server_context("backend")) as served,
        proxy(pki, [apiservice(served.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        await caller.send(f"GET  {THINGS} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (await caller.response()).status == 200
        assert lines_of(seen[0])[0] == f"GET {THINGS} HTTP/1.1"


@dataclass
class Both:
    """One proxy asked in two ways."""

    runner: asyncio.Runner
    front: Proxy
    pki: PKI
    seen: list[bytes]

    def ask(self, raw: bytes, *, plain: bool) -> tuple[int, object]:
        return self.runner.run(self._ask(raw, plain))

    async def _ask(self, raw: bytes, plain: bool) -> tuple[int, object]:
        self.seen.clear()
        async with asyncio.timeout(10), client(self.pki, self.front) as caller:
            if plain:
                await caller.send(raw)
            else:
                await self._in_two(caller, raw)
            code = (await caller.response(raw.split(b" ")[0].decode("latin-1"))).status
        return code, sorted(self._comparable(line) for head in self.seen for line in lines_of(head))

    async def _in_two(self, caller: Client, raw: bytes) -> None:
        """The first byte alone first: what does not arrive whole goes through the parser."""
        await caller.send(raw[:1])
        while all(item._between for item in self.front.plane.connections if isinstance(item, DownstreamConnection)):
            await asyncio.sleep(0)
        await caller.send(raw[1:])

    @staticmethod
    def _comparable(line: str) -> str:
        name, colon, value = line.partition(":")
        return "audit-id" if name.lower() == "audit-id" else name + colon + value.strip(" \t")


@pytest.fixture(scope="module")
def both(pki: PKI) -> Iterator[Both]:
    seen: list[bytes] = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        served = backend(answering(answer(b""), seen), pki.server_context("backend"))
        port = runner.run(served.__aenter__()).port
        running = proxy(pki, [apiservice(port, pki.ca.pem)])
        front = runner.run(running.__aenter__())
        yield Both(runner, front, pki, seen)
        runner.run(running.__aexit__(None, None, None))
        runner.run(served.__aexit__(None, None, None))


_KNOWN = """Accept X-A x-a X_Remote_User X-Remote-User X-REMOTE-GROUP Connection Keep-Alive TE Trailer Expect Cookie
Upgrade Authorization Host Content-Length Transfer-Encoding Transfer_Encoding X-Forwarded-For X-Forwarded-Host Audit-ID
Impersonate-User Proxy-Connection HTTP2-Settings Sec-WebSocket-Protocol User-Agent X(a)"""
_NAMES = st.sampled_from([*_KNOWN.split(), "X\x00"]) | st.text("aZ-_ \t.\xe9", min_size=1, max_size=6)
_VALUES = st.sampled_from(
    ["", "1", " 1 ", "\t1\t", "close", "keep-alive", "Keep-Alive, X-A", "X-A", "trailers", "chunked", "0", "admin"]
) | st.text("a,; \t\"'\x00\x0b\x7f\xe9\r\n", max_size=6)
_FIELDS = st.lists(st.builds("{}{}{}".format, _NAMES, st.sampled_from([":", ": ", " :", ""]), _VALUES), max_size=5)
_TARGETS = st.sampled_from([THINGS, THINGS + "/a%20b", THINGS + "?a=%2F", THINGS + "/..", "//a", THINGS + "#a", "/*"])
_METHODS = st.sampled_from(["GET", "HEAD", "DELETE", "OPTIONS", "get"])


@settings(max_examples=150, deadline=None)
@given(method=_METHODS, target=_TARGETS, fields=_FIELDS, host=st.sampled_from([["Host: a"], ["host:a"], []]))
def test_both_ways_through_the_proxy_agree(
    both: Both, method: str, target: str, fields: list[str], host: list[str]
) -> None:
    raw = "\r\n".join([f"{method} {target} HTTP/1.1", *host, *fields, "", ""]).encode("latin-1")
    assert both.ask(raw, plain=True) == both.ask(raw, plain=False)


@pytest.mark.parametrize("field", ["X-A: 1", "X-Remote-User: evil", "Keep-Alive: 1", "Cookie: a", "X-A:  1 "])
def test_the_two_ways_are_two(both: Both, field: str) -> None:
    """The comparison means something: plain requests do take the short way, and arrive the same."""
    raw = request("GET", THINGS, field)
    both.front.plane.plans.clear()
    split = both.ask(raw, plain=False)
    assert not both.front.plane.plans
    assert both.ask(raw, plain=True) == split
    assert both.front.plane.plans
