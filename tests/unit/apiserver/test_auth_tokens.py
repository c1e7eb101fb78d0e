"""Where tokens come from, in which order they are looked at, and how answers are waited for."""

import asyncio
import base64

import pytest

from apimachinery.identity import User
from apiserver.auth import bearer, later
from apiserver.auth.later import Later, Questions
from apiserver.auth.outcome import Accepted, AuthenticationFailed
from apiserver.auth.tokens import Tokens
from apiserver.auth.ttl_cache import TTLCache


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER abc ", "abc"),
        ("  Bearer abc", "abc"),
        ("Bearer abc def", "abc"),
        ("Bearer  abc", ""),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("Basic abc", ""),
        ("abc", ""),
        ("", ""),
    ],
)
def test_tokens_in_headers(header: str, token: str) -> None:
    assert bearer.from_header(header) == token


def _protocol(token: bytes) -> str:
    return bearer.PROTOCOL_PREFIX + base64.urlsafe_b64encode(token).decode().rstrip("=")


@pytest.mark.parametrize(
    ("offered", "token"),
    [
        ("", ""),
        ("a, b", ""),
        (f"{_protocol(b'abc')}, a", "abc"),
        (f"a,{_protocol(b'a?>')}", "a?>"),
        (f"a,{_protocol('ä'.encode())}", "ä"),
    ],
)
def test_tokens_among_subprotocols(offered: str, token: str) -> None:
    assert bearer.from_protocols(offered) == token


@pytest.mark.parametrize(
    "offered",
    [
        _protocol(b"abc"),
        f"{_protocol(b'abc')},",
        f"{_protocol(b'a')},{_protocol(b'b')},x",
        f"{bearer.PROTOCOL_PREFIX},x",
        f"{bearer.PROTOCOL_PREFIX}YWI=,x",
        f"{bearer.PROTOCOL_PREFIX}Y!WI,x",
        f"{bearer.PROTOCOL_PREFIX}Y,x",
        f"{_protocol(bytes([255]))},x",
    ],
)
def test_subprotocols_that_do_not_count(offered: str) -> None:
    with pytest.raises(bearer.BadToken):
        bearer.from_protocols(offered)


class _Fixed:
    def __init__(self, outcome: Accepted | AuthenticationFailed | Later | None) -> None:
        self._outcome = outcome

    def authenticate(self, token: str) -> Accepted | AuthenticationFailed | Later | None:
        return self._outcome


ANN, NO, UNKNOWN = _Fixed(Accepted(User("ann"), lambda: True)), _Fixed(AuthenticationFailed("no")), _Fixed(None)
LATER = _Fixed(Later())


@pytest.mark.parametrize(
    ("authenticators", "name"),
    [([ANN], "ann"), ([NO, ANN], "ann"), ([UNKNOWN, ANN], "ann"), ([ANN, LATER], "ann")],
)
def test_the_first_that_knows_the_user_counts(authenticators: list[_Fixed], name: str) -> None:
    outcome = Tokens(authenticators).authenticate("t")
    assert outcome == User(name, groups=("system:authenticated",))


@pytest.mark.parametrize(
    ("authenticators", "reason"),
    [([UNKNOWN], "invalid bearer token"), ([NO, UNKNOWN], "invalid bearer token; no")],
)
def test_a_token_that_nobody_knows_is_refused(authenticators: list[_Fixed], reason: str) -> None:
    assert Tokens(authenticators).authenticate("t") == AuthenticationFailed(reason)


def test_an_answer_under_way_is_waited_for() -> None:
    assert isinstance(Tokens([NO, LATER, ANN]).authenticate("t"), Later)


def test_without_any_way_tokens_are_not_read() -> None:
    assert not Tokens()
    assert Tokens([UNKNOWN])


async def test_a_question_is_asked_once_for_all_who_wait() -> None:
    questions, asked, go_on = Questions("test"), [], asyncio.Event()

    async def work() -> None:
        asked.append(1)
        await go_on.wait()

    waiting = [questions.ask("k", work) for _ in range(3)]
    other = questions.ask("other", work)
    assert len({id(item) for item in waiting}) == 1
    assert other is not waiting[0]
    tasks = [asyncio.create_task(later.settled(item)) for item in (*waiting, other)]
    await asyncio.sleep(0.01)
    assert len(asked) == 2
    go_on.set()
    await asyncio.gather(*tasks)
    await later.settled(waiting[0])
    assert questions.ask("k", work) is not waiting[0]
    await questions.stop()


async def test_those_who_wait_are_let_go_when_nothing_is_asked_any_more() -> None:
    questions = Questions("test")
    waiting = asyncio.create_task(later.settled(questions.ask("k", lambda: asyncio.sleep(60))))
    await asyncio.sleep(0)
    await questions.stop()
    await asyncio.wait_for(waiting, 1)


async def test_a_defect_is_logged_and_nobody_waits_for_ever(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later, "_REST_SECONDS", 0.0)
    questions = Questions("test")

    async def work() -> None:
        raise RuntimeError("broken")

    await asyncio.wait_for(later.settled(questions.ask("k", work)), 1)
    assert "question failed" in caplog.text
    await questions.stop()


async def test_only_so_many_questions_are_under_way() -> None:
    questions, running, most = Questions("test"), 0, 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    waiting = [questions.ask(number, work) for number in range(200)]
    await asyncio.gather(*map(later.settled, waiting))
    assert (running, most) == (0, 64)
    await questions.stop()


def test_answers_count_for_a_while() -> None:
    now = 0.0
    cache: TTLCache[str] = TTLCache(2, lambda: now)
    cache.put("a", "1", 10)
    cache.put("b", "2", 5)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("1", "2", None)
    now = 5.0
    assert (cache.get("a"), cache.get("b")) == ("1", None)
    cache.put("b", "2", 5)
    cache.get("a")
    cache.put("c", "3", 5)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("1", None, "3")
    cache.clear()
    assert cache.get("a") is None
