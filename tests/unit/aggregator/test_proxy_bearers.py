"""Requests with bearer tokens: the short way and the way through the parser agree, whatever is remembered."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.proxy.bearers import Bearers
from aggregator.proxy.decide import REFUSED, Identity
from aggregator.proxy.routes import RouteTable
from aggregator.proxy.server import Proxy
from apimachinery.authorization import Policy
from apimachinery.identity import MASTERS, User
from apiserver.auth import static_tokens
from apiserver.auth.outcome import Accepted, AuthenticationFailed
from apiserver.auth.tokens import StaticTokenAuthenticator, Tokens
from apiserver.auth.ttl_cache import TTLCache
from apiserver.auth.watched import WatchedFile
from tests.unit.aggregator.h2_kit import Http2Client
from tests.unit.aggregator.proxy_kit import (
    PKI,
    CertificateNames,
    answer,
    apiservice,
    backend,
    client,
    externalname,
    lines_of,
    on_uvloop,
    read_head,
    request,
)

PATH = "/apis/test/v1/things"
ADMINS = f'good,ann,1,"{MASTERS}"\nother,bob,2,"{MASTERS}"\nplain,eve,3\n'


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    made = PKI.make(tmp_path_factory.mktemp("pki"))
    made.ca.issue(made.directory, "bad", cn="bad")
    return made


class Seconds:
    """A clock that stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Expiring:
    """Knows users by tokens, each until its time is over; forgets as the real ones do, by their own cache."""

    def __init__(self, clock: Seconds) -> None:
        self._clock = clock
        self.users: dict[str, tuple[User, float]] = {}
        self._known: TTLCache[Accepted] = TTLCache(100, clock)
        self.asked = 0

    def authenticate(self, token: str) -> Accepted | AuthenticationFailed | None:
        known = self._known.get(token)
        if known is not None:
            return known
        self.asked += 1
        if token not in self.users:
            return None
        user, ends = self.users[token]
        if self._clock() >= ends:
            return AuthenticationFailed("expired")
        accepted = Accepted(user, lambda: self._known.get(token) is accepted)
        self._known.put(token, accepted, ends - self._clock())
        return accepted


class World:
    """A file of tokens, and tokens that expire."""

    def __init__(self, file: Path, content: str = ADMINS) -> None:
        self.clock = Seconds()
        self._path = file
        self._states = 0
        self.expiring = Expiring(self.clock)
        self.write(content)
        self._file = WatchedFile(file, static_tokens.load, lambda _: self.tokens.changed())
        self.tokens = Tokens([StaticTokenAuthenticator(self._file), self.expiring])

    def write(self, content: str) -> None:
        # Another size each time: two changes may fall into one tick of the file system's clock.
        self._states += 1
        self._path.write_text(content + "#" * self._states + "\n")

    def change(self, content: str) -> None:
        self.write(content)
        assert self._file.reload()


class Stack(NamedTuple):
    proxy: Proxy
    world: World
    seen: list[list[str]]
    """Lines of the heads that the backend got, without the ids of requests."""

    def planned(self) -> list[str]:
        """Whose requests went the short way, which alone remembers plans."""
        return sorted(identity.user.name for identity, _ in self.proxy.plane.plans if identity.user is not None)


@asynccontextmanager
async def stack(pki: PKI, tmp_path: Path, content: str = ADMINS) -> AsyncIterator[Stack]:
    world = World(tmp_path / "tokens.csv", content)
    seen: list[list[str]] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(sorted(line for line in lines_of(await read_head(reader)) if not line.startswith("Audit-ID:")))
            writer.write(answer(b"ok"))

    async with backend(record, pki.server_context("backend")) as served:
        proxy = Proxy(
            ssl_context=pki.server_context("proxy", ["http/1.1", "h2"]),
            authenticator=CertificateNames(),
            authorizer=Policy(),
            tokens=world.tokens,
        )
        await proxy.start()
        proxy.plane.install(RouteTable.build([apiservice(served.port, pki.ca.pem)], [externalname()]))
        try:
            yield Stack(proxy, world, seen)
        finally:
            await proxy.stop()


GOOD = "Authorization: Bearer good"


@pytest.mark.parametrize(
    ("name", "fields", "code", "short"),
    [
        pytest.param(None, [GOOD], 200, True, id="valid"),
        pytest.param(None, ["authorization: bearer good"], 200, True, id="lower case"),
        pytest.param(None, ["AUTHORIZATION: BEARER good"], 200, True, id="upper case"),
        pytest.param(None, ["Authorization:Bearer good"], 200, True, id="no space"),
        pytest.param(None, ["Authorization: \t Bearer good\t "], 200, True, id="white space around"),
        pytest.param(None, ["Authorization: Bearer good and more"], 200, True, id="words behind"),
        pytest.param(None, ["Authorization: Bearer  good"], 401, False, id="two spaces"),
        pytest.param(None, ["Authorization: Bearer\tgood"], 401, False, id="tab"),
        pytest.param(None, ["Authorization: Bearergood"], 401, False, id="one word"),
        pytest.param(None, ["Authorization: Bearer"], 401, False, id="no token"),
        pytest.param(None, ["Authorization:"], 401, False, id="empty"),
        pytest.param(None, ["Authorization: Basic good"], 401, False, id="another scheme"),
        pytest.param(None, ["Authorization: Bearer Good"], 401, False, id="another case of the token"),
        pytest.param(None, ["Authorization: Bearer goo"], 401, False, id="a part of it"),
        pytest.param(None, ["Authorization: Bearer good\xe9"], 401, False, id="foreign characters"),
        pytest.param(None, ["Authorization: Bearer good\x01"], 400, False, id="control characters"),
        pytest.param(None, ["Authorization : Bearer good"], 400, False, id="space before the colon"),
        pytest.param(None, ["Authorization_: Bearer good"], 401, False, id="another name"),
        pytest.param(None, ["Proxy-Authorization: Bearer good"], 401, False, id="for another proxy"),
        pytest.param(None, [], 401, False, id="none"),
        pytest.param(None, [GOOD, GOOD], 200, False, id="twice the same"),
        pytest.param(None, [GOOD, "Authorization: Bearer no"], 200, False, id="a bad one behind"),
        pytest.param(None, ["Authorization: Bearer no", GOOD], 401, False, id="a bad one before"),
        pytest.param(None, ["Authorization:", GOOD], 200, False, id="an empty one before"),
        pytest.param(None, ["Authorization: Bearer expiring"], 200, True, id="valid for a while"),
        pytest.param(None, ["Authorization: Bearer expired"], 401, False, id="expired"),
        pytest.param(None, ["Authorization: Bearer plain"], 403, False, id="known, but may nothing"),
        pytest.param(None, [GOOD, "X-Remote-User: mallory"], 200, True, id="claims to be another"),
        pytest.param(None, [GOOD, "Impersonate-User: bob"], 403, False, id="acts as somebody who may nothing"),
        pytest.param(
            None, [GOOD, "Impersonate-User: bob", f"Impersonate-Group: {MASTERS}"], 200, False, id="acts as another"
        ),
        pytest.param("client", [GOOD], 200, True, id="certificate"),
        pytest.param("client", ["Authorization: Bearer no"], 200, True, id="certificate and a bad token"),
        pytest.param("client", ["Authorization: Bearer good\x01"], 400, False, id="certificate, control characters"),
        pytest.param("client", [GOOD, GOOD], 200, False, id="certificate and two tokens"),
        pytest.param("bad", [GOOD], 200, True, id="a certificate that does not count"),
        pytest.param("bad", [], 401, False, id="nothing but a certificate that does not count"),
        pytest.param("front", [GOOD, "X-Remote-User: eve"], 403, False, id="front proxy with a user"),
        pytest.param("front", [GOOD], 200, False, id="front proxy without a user"),
    ],
)
@on_uvloop
async def test_both_ways_agree(
    pki: PKI, tmp_path: Path, name: str | None, fields: list[str], code: int, short: bool
) -> None:
    whole = request("GET", PATH, "Accept: */*", *fields)
    async with stack(pki, tmp_path) as made:
        forever = User("ann", groups=(MASTERS,))
        made.world.expiring.users = {"expiring": (forever, 200.0), "expired": (forever, 100.0)}
        async with client(pki, made.proxy, None) as caller:
            await caller.get(PATH, GOOD)
        made.seen.clear()
        answers = []
        for pieces in ([whole[:20], whole[20:]], [whole], [whole], [whole[:20], whole[20:]]):
            async with client(pki, made.proxy, name) as caller:
                for piece in pieces:
                    await caller.send(piece)
                    await asyncio.sleep(0.01 if len(pieces) > 1 else 0)
                found = await caller.response()
                answers.append((found.status, found.body))
        assert [status for status, _ in answers] == [code] * 4
        assert len(set(answers)) == 1
        assert len(made.seen) == (4 if code == 200 else 0)
        assert all(head == made.seen[0] for head in made.seen)
        assert not [line for head in made.seen for line in head if "authorization" in line.lower()]
        assert bool(made.planned()) is short


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param([("authorization", "Bearer good")], "200", id="valid"),
        pytest.param([("authorization", "bearer good")], "200", id="lower case"),
        pytest.param([("authorization", "Bearer no")], "401", id="unknown"),
        pytest.param([("authorization", "Bearer good"), ("authorization", "Bearer no")], "200", id="two"),
        pytest.param([("authorization", "Bearer no"), ("authorization", "Bearer good")], "401", id="two, bad first"),
        pytest.param([("authorization", "Bearer plain")], "403", id="known, but may nothing"),
        pytest.param([], "401", id="none"),
    ],
)
@on_uvloop
async def test_streams_agree_with_the_first_of_them(
    pki: PKI, tmp_path: Path, fields: list[tuple[str, str]], code: str
) -> None:
    async with stack(pki, tmp_path) as made, http2(pki, made.proxy) as caller:
        for _ in range(3):
            assert (await caller.head(caller.start("GET", PATH, *fields)))[":status"] == code
        assert all(head == made.seen[0] for head in made.seen)
        assert not [line for head in made.seen for line in head if "authorization" in line.lower()]
        assert bool(made.planned()) is (code == "200" and len(fields) == 1)


@asynccontextmanager
async def http2(pki: PKI, served: Proxy) -> AsyncIterator[Http2Client]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", served.port, ssl=pki.client_context(None, ["h2"]), server_hostname="localhost"
    )
    try:
        yield Http2Client(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("token", "end"),
    [
        pytest.param("good", lambda world: world.change("other,bob,2\n"), id="revoked"),
        pytest.param("expiring", lambda world: setattr(world.clock, "now", 200.0), id="expired"),
    ],
)
@on_uvloop
async def test_a_token_that_ends_counts_no_more(
    pki: PKI, tmp_path: Path, token: str, end: Callable[[World], None]
) -> None:
    field = f"Bearer {token}"
    async with stack(pki, tmp_path) as made, client(pki, made.proxy, None) as caller, http2(pki, made.proxy) as streams:
        made.world.expiring.users = {"expiring": (User("ann", groups=(MASTERS,)), 200.0)}
        for _ in range(2):
            assert (await caller.get(PATH, f"Authorization: {field}")).status == 200
            assert (await streams.head(streams.start("GET", PATH, ("authorization", field))))[":status"] == "200"
        assert made.planned() == ["ann"]
        end(made.world)
        assert (await caller.get(PATH, f"Authorization: {field}")).status == 401
        assert (await streams.head(streams.start("GET", PATH, ("authorization", field))))[":status"] == "401"
        assert len(made.seen) == 4


@on_uvloop
async def test_a_token_that_becomes_another_users(pki: PKI, tmp_path: Path) -> None:
    async with stack(pki, tmp_path, "x,nobody,1\n") as made, client(pki, made.proxy, None) as caller:
        made.world.expiring.users = {"good": (User("eve", groups=(MASTERS,)), 200.0)}
        for _ in range(2):
            assert (await caller.get(PATH, GOOD)).status == 200
        made.world.change(ADMINS)
        for _ in range(2):
            assert (await caller.get(PATH, GOOD)).status == 200
    names = [line for head in made.seen for line in head if line.startswith("X-Remote-User")]
    assert names == ["X-Remote-User: eve"] * 2 + ["X-Remote-User: ann"] * 2


@on_uvloop
async def test_clients_on_one_connection_are_told_apart(pki: PKI, tmp_path: Path) -> None:
    async with stack(pki, tmp_path) as made, client(pki, made.proxy, None) as caller:
        for token in ("good", "other", "good", "other"):
            assert (await caller.get(PATH, f"Authorization: Bearer {token}")).status == 200
        assert (await caller.get(PATH)).status == 401
    names = [line for head in made.seen for line in head if line.startswith("X-Remote-User")]
    assert names == ["X-Remote-User: ann", "X-Remote-User: bob"] * 2


# What is remembered


def _ask(bearers: Bearers, token: str) -> Identity:
    """As the proxy does."""
    digest = bearers.digest(f"Bearer {token}".encode())
    found = bearers.known(digest) or bearers.judge(token, digest)
    assert isinstance(found, Identity)
    return found


def test_the_same_user_stays_the_same_object(tmp_path: Path) -> None:
    world = World(tmp_path / "t")
    world.expiring.users = {"t": (User("ann"), 200.0)}
    bearers = Bearers(world.tokens, Policy())
    before = _ask(bearers, "t")
    world.clock.now, world.expiring.users["t"] = 200.0, (User("ann"), 300.0)
    assert bearers.known(bearers.digest(b"Bearer t")) is None
    assert _ask(bearers, "t") is before
    world.clock.now, world.expiring.users["t"] = 300.0, (User("ann", groups=("new",)), 400.0)
    assert _ask(bearers, "t") is not before


def test_nothing_is_asked_while_an_answer_counts(tmp_path: Path) -> None:
    world = World(tmp_path / "t")
    world.expiring.users = {"t": (User("ann"), 200.0)}
    bearers = Bearers(world.tokens, Policy())
    for world.clock.now in (100.0, 150.0, 199.9):
        assert _ask(bearers, "t").user == User("ann", groups=("system:authenticated",))
    assert world.expiring.asked == 1


def test_an_answer_against_the_word_of_another_is_not_remembered() -> None:
    class Refuses:
        def authenticate(self, token: str) -> AuthenticationFailed:
            return AuthenticationFailed("keys are missing")

    expiring = Expiring(Seconds())
    expiring.users = {"t": (User("ann"), 200.0)}
    bearers = Bearers(Tokens([Refuses(), expiring]), Policy())
    assert _ask(bearers, "t").user is not None
    assert bearers.known(bearers.digest(b"Bearer t")) is None


def test_neither_bad_tokens_nor_many_fill_memory(tmp_path: Path) -> None:
    world = World(tmp_path / "t")
    bearers = Bearers(world.tokens, Policy())
    for number in range(5000):
        assert _ask(bearers, f"bad-{number}") is REFUSED
    assert not bearers._known
    world.expiring.users = {f"good-{number}": (User("ann"), 200.0) for number in range(5000)}
    for token in world.expiring.users:
        _ask(bearers, token)
        assert len(bearers._known) <= 4096


def test_a_user_that_cannot_travel_is_refused_each_time(tmp_path: Path) -> None:
    world = World(tmp_path / "t")
    world.expiring.users = {"t": (User("a\nb"), 200.0)}
    bearers = Bearers(world.tokens, Policy())
    assert [_ask(bearers, "t") for _ in range(2)] == [REFUSED, REFUSED]


def test_tokens_are_not_kept(tmp_path: Path) -> None:
    world = World(tmp_path / "t", "very-secret,ann,1\n")
    bearers = Bearers(world.tokens, Policy())
    assert _ask(bearers, "very-secret").user is not None
    assert b"very-secret" not in b"".join(bearers._known)
    assert "very-secret" not in repr(vars(bearers))


_TOKENS = st.sampled_from(["a", "b", "c"])
_FILES = st.dictionaries(_TOKENS, st.sampled_from(["ann", "bob"]))
_USERS = st.dictionaries(_TOKENS, st.tuples(st.sampled_from(["eve", "joe"]), st.integers(1, 9)))
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), _TOKENS),
        st.tuples(st.just("wait"), st.integers(1, 5)),
        st.tuples(st.just("file"), _FILES),
        st.tuples(st.just("issue"), _USERS),
    ),
    max_size=20,
)


@given(steps=_STEPS)
def test_what_is_remembered_is_what_would_be_answered(tmp_path_factory: pytest.TempPathFactory, steps: list) -> None:  # type: ignore[type-arg]
    world = World(tmp_path_factory.mktemp("h") / "t", "")
    bearers = Bearers(world.tokens, Policy())
    for kind, value in steps:
        if kind == "wait":
            world.clock.now += value
        elif kind == "file":
            world.change("".join(f"{token},{name},1\n" for token, name in value.items()))
        elif kind == "issue":
            world.expiring.users = {
                token: (User(name), world.clock.now + seconds) for token, (name, seconds) in value.items()
            }
        else:
            _ask(bearers, value)
        for token in "abc":
            known = bearers.known(bearers.digest(b"Bearer " + token.encode()))
            assert known is None or known.user == world.tokens.authenticate(token)
