"""Requests whose decision has to come from elsewhere, with real sockets: they wait, and nobody else does."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from aggregator.proxy.limits import Limits
from aggregator.proxy.routes import RouteTable
from aggregator.proxy.server import Proxy
from apimachinery.authorization import Decision, Policy, Verdict
from apimachinery.identity import User
from apimachinery.rbac import RuleBook
from apimachinery.request_info import RequestInfo
from apiserver.auth.authorizer import Authorizers
from apiserver.auth.later import Later
from apiserver.auth.outcome import Accepted, AuthenticationFailed, never
from apiserver.auth.tokens import Tokens
from tests.unit.aggregator.h2_kit import Http2Client
from tests.unit.aggregator.proxy_kit import (
    PKI,
    CertificateNames,
    Client,
    answer,
    apiservice,
    backend,
    client,
    externalname,
    fields_of,
    on_uvloop,
    read_head,
    request,
)

PATH = "/apis/test/v1/things"


class Elsewhere:
    """Judges tokens and access only when it is told to."""

    def __init__(self) -> None:
        self.tokens: dict[str, User | AuthenticationFailed] = {}
        self.decisions: dict[str, Decision] = {}
        self.laters: list[Later] = []

    def authenticate(self, token: str) -> Accepted | AuthenticationFailed | Later:
        found = self.tokens.get(token) or self._later()
        return Accepted(found, never) if isinstance(found, User) else found

    def authorize(self, user: User, info: RequestInfo) -> Decision | Later:
        return self.decisions.get(user.name) or self._later()

    def _later(self) -> Later:
        self.laters.append(Later())
        return self.laters[-1]

    async def asked(self, times: int = 1) -> None:
        """Until so many requests wait."""
        async with asyncio.timeout(5):
            while len(self.laters) < times:
                await asyncio.sleep(0.005)

    def knows(self) -> None:
        for later in self.laters:
            later.known()
        self.laters.clear()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    made = PKI.make(tmp_path_factory.mktemp("pki"))
    made.ca.issue(made.directory, "bob", cn="bob")
    return made


@asynccontextmanager
async def front(pki: PKI, port: int, elsewhere: Elsewhere, limits: Limits | None = None) -> AsyncIterator[Proxy]:
    running = Proxy(
        ssl_context=pki.server_context("proxy", ["http/1.1", "h2"]),
        authenticator=CertificateNames(),
        authorizer=Authorizers(Policy(), RuleBook(), elsewhere),
        tokens=Tokens([elsewhere]),
        limits=limits,
    )
    await running.start()
    running.plane.install(RouteTable.build([apiservice(port, pki.ca.pem)], [externalname()]))
    try:
        yield running
    finally:
        await running.stop()
        assert running.metrics.in_flight == 0


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with who asked and what was sent; switches protocols when asked to."""
    while True:
        head = await read_head(reader)
        user = ",".join(fields_of(head, "x-remote-user")).encode()
        if fields_of(head, "upgrade"):
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            protocols = ",".join(fields_of(head, "sec-websocket-protocol")).encode()
            writer.write(b"%b;%b;" % (user, protocols))
            while data := await reader.read(65536):
                writer.write(data)
            return
        length = int((fields_of(head, "content-length") or ["0"])[0])
        body = await reader.readexactly(length)
        assert not fields_of(head, "authorization")
        writer.write(answer(user + b":" + body))
        await writer.drain()


@asynccontextmanager
async def stack(
    pki: PKI, name: str | None = None, limits: Limits | None = None
) -> AsyncIterator[tuple[Elsewhere, Client, Proxy]]:
    elsewhere = Elsewhere()
    async with (
        backend(_echo, pki.server_context("backend")) as served,
        front(pki, served.port, elsewhere, limits) as running,
        client(pki, running, name) as caller,
    ):
        yield elsewhere, caller, running


ALLOW, DENY = Decision(Verdict.ALLOW, lasting=False), Decision(Verdict.DENY)


@on_uvloop
async def test_a_token_and_then_access_are_waited_for(pki: PKI) -> None:
    async with stack(pki) as (elsewhere, caller, _):
        await caller.send(request("GET", PATH, "Authorization: Bearer abc"))
        await elsewhere.asked()
        elsewhere.tokens["abc"] = User("ann")
        elsewhere.knows()
        await elsewhere.asked()
        elsewhere.decisions["ann"] = ALLOW
        elsewhere.knows()
        assert (await caller.response()).body == b"ann:"
        again = await caller.get(PATH, "Authorization: Bearer abc")
        assert again.body == b"ann:"


@pytest.mark.parametrize(
    ("token", "decision", "code"),
    [
        pytest.param(AuthenticationFailed("no"), ALLOW, 401, id="bad token"),
        pytest.param(User("ann"), DENY, 403, id="denied"),
        pytest.param(User("ann"), Decision(Verdict.NO_OPINION, error="gone"), 500, id="not to be found out"),
    ],
)
@on_uvloop
async def test_refusals_leave_the_connection_usable(
    pki: PKI, token: User | AuthenticationFailed, decision: Decision, code: int
) -> None:
    async with stack(pki) as (elsewhere, caller, _):
        await caller.send(request("GET", PATH, "Authorization: Bearer abc"))
        await elsewhere.asked()
        elsewhere.tokens["abc"], elsewhere.decisions["ann"] = token, decision
        elsewhere.knows()
        assert (await caller.response()).status == code
        assert (await caller.get(PATH)).status == 401


@on_uvloop
async def test_others_are_served_meanwhile(pki: PKI) -> None:
    async with stack(pki) as (elsewhere, caller, running), client(pki, running, "client") as other:
        await caller.send(request("GET", PATH, "Authorization: Bearer abc"))
        await elsewhere.asked()
        for _ in range(3):
            assert (await other.get(PATH)).body == b"admin:"
        elsewhere.tokens["abc"], elsewhere.decisions["ann"] = User("ann"), ALLOW
        elsewhere.knows()
        assert (await caller.response()).body == b"ann:"


@on_uvloop
async def test_a_body_that_comes_before_and_after_the_decision(pki: PKI) -> None:
    async with stack(pki, "bob") as (elsewhere, caller, _):
        await caller.send(request("POST", PATH, "Content-Length: 9", body=b"abc"))
        await elsewhere.asked()
        await caller.send(b"def")
        await asyncio.sleep(0.02)
        elsewhere.decisions["bob"] = ALLOW
        elsewhere.knows()
        await asyncio.sleep(0.02)
        await caller.send(b"ghi")
        assert (await caller.response("POST")).body == b"bob:abcdefghi"


@on_uvloop
async def test_pipelined_requests_keep_their_order(pki: PKI) -> None:
    async with stack(pki, "bob") as (elsewhere, caller, _):
        first = request("POST", PATH, "Content-Length: 1", body=b"1")
        second = request("POST", PATH, "Content-Length: 1", body=b"2")
        await caller.send(first + second + request("GET", "/apis/test/v1/../x"))
        await elsewhere.asked()
        elsewhere.decisions["bob"] = ALLOW
        elsewhere.knows()
        assert [(await caller.response("POST")).body for _ in range(2)] == [b"bob:1", b"bob:2"]
        assert (await caller.response()).status == 400


@on_uvloop
async def test_a_client_that_leaves_while_it_waits(pki: PKI) -> None:
    async with stack(pki, "bob") as (elsewhere, caller, running):
        await caller.send(request("GET", PATH))
        await elsewhere.asked()
        caller.close()
        async with asyncio.timeout(5):
            while running.plane.connections:
                await asyncio.sleep(0.005)
        elsewhere.decisions["bob"] = ALLOW
        elsewhere.knows()
        await asyncio.sleep(0.02)
        assert running.metrics.in_flight == 0


@pytest.mark.parametrize("body", [b"", b"ab"], ids=["complete", "half a body"])
@on_uvloop
async def test_waiting_has_an_end(pki: PKI, body: bytes) -> None:
    async with stack(pki, "bob", Limits(sweep_seconds=0.05)) as (elsewhere, caller, running):
        await caller.send(request("POST", PATH, f"Content-Length: {len(body) * 2}", body=body))
        await elsewhere.asked()
        (waiting,) = running.plane.connections
        waiting.deadline = 0.0
        assert (await caller.response("POST")).status == 504
        elsewhere.decisions["bob"] = ALLOW
        elsewhere.knows()
        if not body:
            assert (await caller.get(PATH)).body == b"bob:"


def _protocol(token: str) -> str:
    return "base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


_UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


@on_uvloop
async def test_a_websocket_with_its_token_among_the_subprotocols(pki: PKI) -> None:
    async with stack(pki) as (elsewhere, caller, _):
        offered = f"Sec-WebSocket-Protocol: {_protocol('abc')}, v5.channel.k8s.io"
        await caller.send(request("GET", PATH, *_UPGRADE, offered) + b"early")
        await elsewhere.asked()
        await caller.send(b" bird")
        await asyncio.sleep(0.02)
        elsewhere.tokens["abc"], elsewhere.decisions["ann"] = User("ann"), ALLOW
        elsewhere.knows()
        assert (await read_head(caller.reader)).startswith(b"HTTP/1.1 101 ")
        expected = b"ann;v5.channel.k8s.io;early bird"
        assert await caller.reader.readexactly(len(expected)) == expected
        await caller.send(b"!")
        assert await caller.reader.readexactly(1) == b"!"


@pytest.mark.parametrize(
    "offered",
    [
        pytest.param(_protocol("abc"), id="nothing else offered"),
        pytest.param(f"{_protocol('abc')}, {_protocol('abc')}, a", id="two tokens"),
        pytest.param("base64url.bearer.authorization.k8s.io.=, a", id="not base64url"),
        pytest.param("base64url.bearer.authorization.k8s.io., a", id="empty"),
        pytest.param(f"{_protocol('bad')}, a", id="bad token"),
    ],
)
@on_uvloop
async def test_a_websocket_with_a_token_that_does_not_count(pki: PKI, offered: str) -> None:
    async with stack(pki) as (elsewhere, caller, _):
        elsewhere.tokens["abc"], elsewhere.decisions["ann"] = User("ann"), ALLOW
        elsewhere.tokens["bad"] = AuthenticationFailed("no")
        found = await caller.get(PATH, *_UPGRADE, f"Sec-WebSocket-Protocol: {offered}")
        assert found.status == 401


@on_uvloop
async def test_an_upgrade_that_is_none_goes_on_with_the_next_request(pki: PKI) -> None:
    async with stack(pki, "bob") as (elsewhere, caller, _):
        await caller.send(request("GET", PATH, "Connection: Upgrade", "Upgrade: h2c") + request("GET", PATH))
        await elsewhere.asked()
        elsewhere.decisions["bob"] = ALLOW
        elsewhere.knows()
        assert [(await caller.response()).body for _ in range(2)] == [b"bob:", b"bob:"]


@on_uvloop
async def test_a_certificate_comes_before_a_token(pki: PKI) -> None:
    async with stack(pki, "client") as (_, caller, _):
        assert (await caller.get(PATH, "Authorization: Bearer abc")).body == b"admin:"


@on_uvloop
async def test_a_permission_that_does_not_last_is_asked_for_again(pki: PKI) -> None:
    async with stack(pki, "bob") as (elsewhere, caller, _):
        elsewhere.decisions["bob"] = ALLOW
        assert (await caller.get(PATH)).status == 200
        elsewhere.decisions["bob"] = DENY
        assert (await caller.get(PATH)).status == 403


@on_uvloop
async def test_a_change_of_policy_counts_at_once(pki: PKI) -> None:
    async with stack(pki, "bob") as (elsewhere, caller, running):
        elsewhere.decisions["bob"] = replace(ALLOW, lasting=True)
        assert (await caller.get(PATH)).status == 200
        elsewhere.decisions["bob"] = DENY
        assert (await caller.get(PATH)).status == 200
        running.plane.policy_changed()
        assert (await caller.get(PATH)).status == 403


@on_uvloop
async def test_streams_of_http2_wait_too(pki: PKI) -> None:
    async with stack(pki) as (elsewhere, _, running):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", running.port, ssl=pki.client_context(None, ["h2"]), server_hostname="localhost"
        )
        caller = Http2Client(reader, writer)
        stream = caller.start("GET", PATH, ("authorization", "Bearer abc"))
        await elsewhere.asked()
        elsewhere.tokens["abc"] = User("ann")
        elsewhere.knows()
        await elsewhere.asked()
        elsewhere.decisions["ann"] = ALLOW
        elsewhere.knows()
        assert await caller.body(stream) == b"ann:"
        stream = caller.start("GET", PATH)
        assert (await caller.head(stream))[":status"] == "401"
        writer.transport.abort()
        while running.metrics.in_flight:
            await asyncio.sleep(0.005)
