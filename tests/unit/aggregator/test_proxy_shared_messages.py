"""What goes through a shared connection is what goes through one of HTTP/1.1, both ways.

The same backend is asked by two proxies, one of which shares from the first request on, and either tells the other off.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from tests.unit.aggregator.fault_callers import PROTOCOLS, Caller, Outcome, calling
from tests.unit.aggregator.proxy_kit import PKI, fields_of, lines_of, on_uvloop, proxy, read_head
from tests.unit.aggregator.proxy_kit import Handler as Http1Handler
from tests.unit.aggregator.shared_kit import SHARING, THINGS, Behind, behind, service
from tests.unit.aggregator.shared_peer import Asked, Fields, Handler
from tests.unit.aggregator.streams_kit import read_chunked

OWN = replace(SHARING, own_connections=32)
over_both = pytest.mark.parametrize("protocol", PROTOCOLS)


@dataclass(frozen=True, kw_only=True)
class Said:
    """A response, whatever it is written in. AUTHORITY in a value stands for the backend's name."""

    status: int = 200
    fields: Fields = ()
    body: bytes = b""
    declared: bool = True
    """It has a Content-Length."""
    trailers: Fields = ()
    before: tuple[tuple[int, Fields], ...] = ()
    """Informational ones."""

    def at(self, authority: str) -> list[tuple[str, str]]:
        made = [(name, value.replace("AUTHORITY", authority)) for name, value in self.fields]
        return [*made, ("content-length", str(len(self.body)))] if self.declared else made

    def bodyless(self, method: str) -> bool:
        return method == "HEAD" or self.status in (204, 304)


@dataclass
class Seen:
    """A request, whatever it was written in."""

    method: str
    target: str
    authority: str
    fields: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]] = field(default_factory=list)


def over_http2(said: Said, seen: list[Seen]) -> Handler:
    async def handle(asked: Asked) -> None:
        await asked.body()
        authority = asked.value(":authority")
        seen.append(
            Seen(
                asked.method,
                asked.path,
                authority,
                _comparable([item for item in asked.fields if not item[0].startswith(":")]),
                asked.received,
                list(asked.trailers),
            )
        )
        assert asked.value(":scheme") == "https"
        for code, fields in said.before:
            asked.head(str(code), *fields)
        bare = said.bodyless(asked.method) or not (said.body or said.trailers)
        asked.head(str(said.status), *said.at(authority), end=bare)
        if not bare:
            await asked.data(said.body, end=not said.trailers)
            if said.trailers:
                asked.end(*said.trailers)

    return handle


def over_http1(said: Said, seen: list[Seen]) -> Http1Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            length = fields_of(head, "content-length")
            body, trailers = await reader.readexactly(int(length[0])) if length else b"", b""
            if fields_of(head, "transfer-encoding"):
                body, trailers = await read_chunked(reader)
            method, target, _ = lines_of(head)[0].split(" ")
            (authority,) = fields_of(head, "host")
            fields = [_pair(line) for line in lines_of(head)[1:]]
            seen.append(
                Seen(
                    method,
                    target,
                    authority,
                    _comparable([item for item in fields if item[0] not in ("host", "transfer-encoding")]),
                    body,
                    [_pair(line) for line in trailers.decode().splitlines()],
                )
            )
            writer.write(b"".join(_written(said, authority, said.bodyless(method))))

    return handle


def _written(said: Said, authority: str, bodyless: bool) -> list[bytes]:
    def block(first: str, fields: Fields) -> bytes:
        return "".join(f"{line}\r\n" for line in (first, *(f"{name}: {value}" for name, value in fields), "")).encode()

    out = [block(f"HTTP/1.1 {code} Soon", fields) for code, fields in said.before]
    if bodyless or said.declared:
        return [*out, block(f"HTTP/1.1 {said.status} So", said.at(authority)), b"" if bodyless else said.body]
    chunk = b"%x\r\n%b\r\n" % (len(said.body), said.body) if said.body else b""
    fields = [*said.at(authority), ("transfer-encoding", "chunked")]
    end = "".join(f"{name}: {value}\r\n" for name, value in said.trailers).encode()
    return [*out, block(f"HTTP/1.1 {said.status} So", fields), chunk, b"0\r\n", end, b"\r\n"]


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name.lower(), value


def _comparable(fields: Fields) -> list[tuple[str, str]]:
    """Names in lower case, in order of the names; the cookies of HTTP/2 in one field, as RFC 9113 8.2.3 has it."""
    made = [(name.lower(), value) for name, value in fields]
    cookies = [value for name, value in made if name == "cookie"]
    if cookies:
        made = [item for item in made if item[0] != "cookie"] + [("cookie", "; ".join(cookies))]
    hidden = {"audit-id", "date"}
    return sorted(((name, "..." if name in hidden else value) for name, value in made), key=lambda item: item[0])


@contextlib.asynccontextmanager
async def both_ways(
    pki: PKI, protocol: str, said: Said, seen: list[Seen]
) -> AsyncIterator[tuple[Behind, Caller, Caller]]:
    async with (
        behind(pki, over_http2(said, seen), http1=over_http1(said, seen)) as served,
        proxy(pki, [service(pki, served)], limits=OWN) as own,
        proxy(pki, [service(pki, served)], limits=SHARING) as sharing,
        calling(pki, own, protocol) as one,
        calling(pki, sharing, protocol) as other,
    ):
        yield served, one, other


def _told(found: Outcome) -> tuple[object, ...]:
    fields = [item for item in found.fields if item[0].lower() not in ("transfer-encoding", "connection")]
    trailers = sorted((name.lower(), value) for name, value in found.trailers)
    return found.status, found.whole, found.body, _comparable(fields), trailers, found.informational


RESPONSES = {
    "plain": Said(fields=[("content-type", "application/json"), ("x-a", "1")], body=b'{"a":1}'),
    "undeclared": Said(body=b"abc", declared=False),
    "empty": Said(),
    "large": Said(body=bytes(range(256)) * 4000),
    "large-undeclared": Said(body=bytes(range(256)) * 1000, declared=False),
    "created": Said(status=201, fields=[("location", "https://AUTHORITY/apis/test/v1/things/a")], body=b"x"),
    "location-elsewhere": Said(status=201, fields=[("location", "https://other/x")], body=b"x"),
    "no-content": Said(status=204, declared=False),
    "not-modified": Said(status=304, fields=[("etag", '"x"')], body=b"x" * 99),
    "redirect": Said(status=302, fields=[("location", "https://other/")], body=b"x"),
    "not-found": Said(status=404, body=b"no"),
    "conflict": Said(status=409, body=b"no", declared=False),
    "broken": Said(status=500, body=b"no"),
    "unavailable": Said(status=503, fields=[("retry-after", "1")], body=b"no"),
    "uncommon-status": Said(status=299, body=b"x"),
    "last-status": Said(status=599, body=b"x"),
    "early-hints": Said(before=((103, [("link", "</x>")]), (103, [("link", "</y>")])), body=b"x"),
    "continue": Said(before=((100, ()),), body=b"x"),
    "repeated": Said(fields=[("set-cookie", "a=b"), ("warning", "299 - x"), ("set-cookie", "c=d")], body=b"x"),
    "cache-control": Said(fields=[("cache-control", "max-age=3")], body=b"x"),
    "not-to-travel": Said(
        fields=[("audit-id", "theirs"), ("access-control-allow-origin", "*"), ("proxy-authenticate", "x")], body=b"x"
    ),
    "empty-value": Said(fields=[("x-empty", ""), ("x-b", "2")], body=b"x"),
    "beyond-ascii": Said(fields=[("x-name", "Zoë")], body=b"x"),
    "many-fields": Said(fields=[(f"x-{number}", "y" * 100) for number in range(150)], body=b"x"),
    "long-field": Said(fields=[("x-long", "y" * 20_000)], body=b"x"),
    "trailers": Said(body=b"abc", declared=False, trailers=[("x-sum", "1"), ("x-b", "2")]),
    "trailers-without-body": Said(declared=False, trailers=[("x-sum", "1")]),
    "trailers-not-to-travel": Said(body=b"x", declared=False, trailers=[("x-sum", "1"), ("audit-id", "1")]),
}


@over_both
@pytest.mark.parametrize("said", RESPONSES.values(), ids=RESPONSES.keys())
@on_uvloop
async def test_a_response_is_what_it_would_be_over_http1(pki: PKI, said: Said, protocol: str) -> None:
    async with both_ways(pki, protocol, said, []) as (served, one, other):
        for method in ("GET", "GET", "HEAD"):
            expected = await one.ask(method, THINGS)
            found = await other.ask(method, THINGS)
            assert expected.whole
            assert _told(found) == _told(expected)
        assert (served.http1, len(served.peers)) == (1, 1) or said.status == 302
        assert len(served.asked) == 3


@dataclass(frozen=True, kw_only=True)
class Put:
    """A request of a client."""

    method: str = "GET"
    path: str = THINGS
    fields: Fields = ()
    body: bytes = b""


REQUESTS = {
    "plain": Put(),
    "query": Put(path=f"{THINGS}/a%20b?limit=5&labelSelector=a%3Db&x=%00"),
    "head": Put(method="HEAD"),
    "options": Put(method="OPTIONS"),
    "post": Put(method="POST", fields=[("Content-Type", "application/json")], body=b'{"a":1}'),
    "post-empty": Put(method="POST", fields=[("Content-Length", "0")]),
    "put": Put(method="PUT", body=b"x" * 50_000),
    "patch": Put(method="PATCH", fields=[("Content-Type", "application/merge-patch+json")], body=b"{}"),
    "delete": Put(method="DELETE", path=f"{THINGS}/a"),
    "delete-with-body": Put(method="DELETE", path=f"{THINGS}/a", body=b'{"kind":"DeleteOptions"}'),
    "agent": Put(fields=[("User-Agent", "kubectl/v1.32.0"), ("Accept", "a/b"), ("Accept-Encoding", "gzip")]),
    "repeated": Put(fields=[("X-A", "1"), ("Accept", "a/b"), ("X-A", "2"), ("Accept", "c/d")]),
    "cookie": Put(fields=[("Cookie", "a=b; c=d")]),
    "spoofed": Put(fields=[("X-Remote-User", "root"), ("X-Remote-Group", "system:masters"), ("X_Remote_User", "root")]),
    "forwarded": Put(fields=[("X-Forwarded-For", "9.9.9.9"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "a")]),
    "credentials": Put(fields=[("Authorization", "Basic eA==")]),
    "audit-id": Put(fields=[("Audit-ID", "0123-abc")]),
    "te": Put(fields=[("TE", "trailers")]),
    "trace": Put(fields=[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]),
    "empty-value": Put(fields=[("X-Empty", "")]),
    "beyond-ascii": Put(fields=[("X-Name", "Zo\xeb")]),
    "long-field": Put(fields=[("X-Long", "y" * 3_900)]),
    "many-fields": Put(fields=[(f"X-{number}", "y" * 20) for number in range(200)]),
    "watch": Put(path=f"{THINGS}?watch=1"),
    "if-match": Put(method="PUT", fields=[("If-Match", '"1"'), ("Content-Type", "a/b")], body=b"x"),
}


@over_both
@pytest.mark.parametrize("put", REQUESTS.values(), ids=REQUESTS.keys())
@on_uvloop
async def test_a_request_is_what_it_would_be_over_http1(pki: PKI, put: Put, protocol: str) -> None:
    seen: list[Seen] = []
    async with both_ways(pki, protocol, Said(body=b"x"), seen) as (served, one, other):
        for _ in range(2):
            for caller in (one, other):
                found = await caller.ask(put.method, put.path, put.body, put.fields)
                assert (found.status, found.whole) == (200, True)
        assert len(served.asked) == 2
    assert seen[1] == seen[0]
    assert seen[3] == seen[2] == seen[0]
    assert ("x-remote-user", "admin") in seen[0].fields
    assert seen[0].body == put.body


@on_uvloop
async def test_names_are_written_as_http1_writes_them(pki: PKI) -> None:
    names = ["content-type", "x-content-type-options", "x-kubernetes-pf-flowschema-uid", "warning", "x--odd-", "etag"]
    said = Said(fields=[(name, "1") for name in names], body=b"x")
    async with both_ways(pki, "http/1.1", said, []) as (_, _, other):
        found = await other.ask("GET", THINGS)
    written = [name for name, _ in found.fields]
    wanted = {"Content-Type", "X-Content-Type-Options", "X-Kubernetes-Pf-Flowschema-Uid", "Warning", "Content-Length"}
    assert wanted <= set(written)
    assert "Audit-Id" in written
    assert [name for name in written if re.fullmatch(r"[A-Z0-9].*", name) is None] == []


@pytest.mark.parametrize("body", [b"abc", b""], ids=["body", "empty"])
@on_uvloop
async def test_without_a_length_http1_clients_get_chunks(pki: PKI, body: bytes) -> None:
    async with both_ways(pki, "http/1.1", Said(body=body, declared=False), []) as (_, _, other):
        found = await other.ask("GET", THINGS)
    assert found.body == body
    framing = [(name.lower(), value) for name, value in found.fields if name.lower() in ("transfer-encoding",)]
    assert framing == [("transfer-encoding", "chunked")] or (not body and found.all("content-length") == ["0"])
