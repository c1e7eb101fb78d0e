"""Access as the settings describe it."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from aggregator import access, reloads, settings
from aggregator.access import Access, AccessError
from apimachinery.authorization import Decision, Undecided
from apimachinery.identity import User
from apimachinery.request_info import RequestInfo
from apiserver.auth.outcome import AuthenticationFailed
from tests.unit.aggregator.custom_ini import load_text, problems

METRICS = RequestInfo(verb="get", path="/metrics")
ANN = User("ann", groups=("system:authenticated",))


pytestmark = pytest.mark.usefixtures("in_empty_directory")


def _policy(user: str) -> str:
    return (
        "roles:\n- {name: s, rules: [{verbs: [get], nonResourceURLs: [/metrics]}]}\n"
        f"bindings:\n- {{role: s, users: [{user}]}}\n"
    )


def _allowed(decision: Decision | Undecided) -> bool:
    assert isinstance(decision, Decision)
    return decision.allowed


def test_by_default_nobody_but_masters_may_do_things() -> None:
    made = Access(load_text("").settings)
    assert not made.tokens
    assert not _allowed(made.authorizer.authorize(ANN, METRICS))
    assert _allowed(made.authorizer.authorize(ANN, RequestInfo(verb="get", path="/apis")))
    assert _allowed(made.authorizer.authorize(User("eve"), RequestInfo(verb="get", path="/healthz")))
    assert [
        path for path in ("/healthz", "/livez", "/readyz", "/", "/version") if made.authorizer.anonymous_on(path)
    ] == [
        "/healthz",
        "/livez",
        "/readyz",
    ]


def test_paths_are_settings() -> None:
    text = "[authentication]\nanonymous_paths =\n[authorization]\nalways_allow_paths = /version, /open/*\n"
    made = Access(load_text(text).settings)
    assert not made.authorizer.anonymous_on("/healthz")
    assert _allowed(made.authorizer.authorize(User("eve"), RequestInfo(verb="get", path="/open/x")))
    assert not _allowed(made.authorizer.authorize(User("eve"), RequestInfo(verb="get", path="/healthz")))


async def test_files_are_taken_over_while_running() -> None:
    policy, tokens = Path("policy.yaml"), Path("tokens.csv")
    policy.write_text(_policy("ann"))
    tokens.write_text("t1,ann,1\n")
    text = "[authentication]\ntoken_file = tokens.csv\n[authorization]\npolicy_file = policy.yaml\n"
    made = Access(load_text(text).settings)
    changed = asyncio.Event()
    made.on_policy_change(changed.set)
    told: list[None] = []
    made.tokens.on_change(lambda: told.append(None))
    files = reloads.reloader(CollectorRegistry())
    made.follow(files)
    running = asyncio.create_task(files.run(0.01))
    assert _allowed(made.authorizer.authorize(ANN, METRICS))
    assert made.tokens.authenticate("t1") == User("ann", "1", ("system:authenticated",))

    policy.write_text(_policy("somebody-else"))
    await asyncio.wait_for(changed.wait(), 5)
    assert not _allowed(made.authorizer.authorize(ANN, METRICS))
    assert _allowed(made.authorizer.authorize(ANN, RequestInfo(verb="get", path="/apis")))

    changed.clear()
    policy.write_text("roles: 7")
    tokens.write_text("t2,bob,22\n")
    async with asyncio.timeout(5):
        while isinstance(made.tokens.authenticate("t2"), AuthenticationFailed):
            await asyncio.sleep(0.01)
    assert isinstance(made.tokens.authenticate("t1"), AuthenticationFailed)
    assert len(told) == 1
    assert not changed.is_set()
    assert _allowed(made.authorizer.authorize(User("somebody-else"), METRICS))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await made.stop()


WEBHOOK = """\
current-context: c
clusters: [{name: k, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: k}}]
"""


async def test_others_are_asked_when_the_settings_say_so() -> None:
    Path("w.yaml").write_text(WEBHOOK)
    text = (
        "[authentication]\nwebhook_config_file = w.yaml\n[authorization]\nwebhook_config_file = w.yaml\n"
        "[oidc]\nissuer_url = https://127.0.0.1:1\nclient_id = us\n"
    )
    made = Access(load_text(text).settings)
    assert not isinstance(made.tokens.authenticate("abc"), User | AuthenticationFailed)
    assert not isinstance(made.authorizer.authorize(ANN, METRICS), Decision)
    assert not made.authorizer.complete
    await made.stop()


@pytest.mark.parametrize(
    ("section", "key", "content", "fault"),
    [
        ("authorization", "policy_file", "roles: 7", "f:1: roles: must be a list"),
        (
            "authentication",
            "token_file",
            "secret",
            'f:1: at least token, user and uid are needed: token,user,uid,"group1,group2"',
        ),
        ("authentication", "webhook_config_file", "{}", "f:1: clusters: is missing"),
        ("authorization", "webhook_config_file", "clusters: []", "f:1: current-context: is missing"),
    ],
)
def test_check_config_looks_into_the_files(section: str, key: str, content: str, fault: str) -> None:
    Path("f").write_text(content)
    Path("custom.ini").write_text(f"[{section}]\n{key} = f\n")
    status, text = settings.check_config(Path("custom.ini"), {})
    assert (status, text) == (2, f"{Path.cwd()}/{fault}\n")
    with pytest.raises(AccessError):
        access.check(load_text(f"[{section}]\n{key} = f\n").settings)


def test_check_config_shows_the_names_of_secret_files() -> None:
    Path("tokens.csv").write_text("secret,ann,1\n")
    Path("custom.ini").write_text("[authentication]\ntoken_file = tokens.csv\n")
    status, text = settings.check_config(Path("custom.ini"), {})
    assert status == 0
    assert "token_file = tokens.csv" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("issuer_url = http://x", "issuer_url: not an https URL without query, such as https://id.example.com/realm"),
        ("issuer_url = https://x", "issuer_url: is set without client_id, so tokens of every audience would count"),
        ("issuer_url = https://x\nclient_id = a\nusername_claim =", "username_claim: must not be empty"),
        ("required_claims = a=b, c", "required_claims: must be a list of name=value"),
        (
            "signing_algs = HS256",
            "signing_algs: 'HS256' is not one of RS256, RS384, RS512, ES256, ES384, ES512, PS256, PS384, PS512",
        ),
    ],
)
def test_problems_with_the_provider(text: str, problem: str) -> None:
    (found,) = problems(f"[oidc]\n{text}\n")
    assert found.endswith(f"[oidc] {problem}")


def test_the_ca_of_the_provider_must_be_usable() -> None:
    Path("ca.crt").write_text("nothing")
    text = "[oidc]\nissuer_url = https://x\nclient_id = a\nca_file = ca.crt\n"
    with pytest.raises(AccessError, match=r"ca\.crt: no usable PEM certificates"):
        Access(load_text(text).settings)
