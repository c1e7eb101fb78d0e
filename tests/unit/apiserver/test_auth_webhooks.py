"""Servers that are asked about tokens and access, with real sockets."""

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from apimachinery.authorization import Decision, Verdict
from apimachinery.identity import User
from apimachinery.request_info import RequestInfo
from apiserver.auth import remote_config, webhook
from apiserver.auth.access_webhook import AccessWebhook, decision_of, question
from apiserver.auth.later import Later, decided, settled
from apiserver.auth.outcome import Accepted, AuthenticationFailed
from apiserver.auth.token_webhook import TokenWebhook, user_of
from apiserver.auth.yaml_fields import FileError
from tests.unit.aggregator.proxy_kit import PKI

Answer = Callable[[Any], tuple[int, Any]]


class Reviewer:
    """Answers POSTs with a function; keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Any] = []
        self.heads: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
        self.heads.append(head)
        self.asked.append(json.loads(await reader.readexactly(int(fields["content-length"]))))
        code, document = self.answer(self.asked[-1])
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (code, len(body), body))
        await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def reviewer(answer: Answer, context: ssl.SSLContext | None = None) -> AsyncIterator[Reviewer]:
    made = Reviewer(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def _kubeconfig(server: str, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": server, **(cluster or {})}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    return yaml.safe_dump(document)


def _config(
    tmp_path: Path, server: str, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None
) -> Path:
    path = tmp_path / "webhook.yaml"
    path.write_text(_kubeconfig(server, cluster, user))
    return path


def _load(tmp_path: Path, port: int) -> remote_config.RemoteConfig:
    return remote_config.load(_config(tmp_path, f"http://127.0.0.1:{port}/review?x=1", user={"token": "t0"}))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return PKI.make(tmp_path_factory.mktemp("pki"))


ANN = User("ann", "u1", ("staff",), {"k": ("v",)})
STATUS = {
    "authenticated": True,
    "user": {"username": "ann", "uid": "u1", "groups": ["staff"], "extra": {"K": ["v"]}},
}


@pytest.mark.parametrize("inline", [False, True], ids=["files", "data"])
async def test_both_sides_prove_who_they_are(pki: PKI, tmp_path: Path, inline: bool) -> None:
    files = {"certificate-authority": "ca.crt", "client-certificate": "client.crt", "client-key": "client.key"}
    values = {
        f"{name}-data" if inline else name: base64.b64encode((pki.directory / file).read_bytes()).decode()
        if inline
        else str(pki.directory / file)
        for name, file in files.items()
    }
    cluster = {name: value for name, value in values.items() if name.startswith("certificate-authority")}
    user = {name: value for name, value in values.items() if name.startswith("client-")}
    context = pki.server_context("proxy")
    context.verify_mode = ssl.CERT_REQUIRED
    async with reviewer(lambda _: (201, {"status": {"ok": True}}), context) as served:
        server = f"https://127.0.0.1:{served.port}"
        path = _config(tmp_path, server, {**cluster, "tls-server-name": "localhost"}, user)
        assert await webhook.review(remote_config.load(path), {}) == {"ok": True}
        wrong = _config(tmp_path, server, {**cluster, "tls-server-name": "other"}, user)
        with pytest.raises(webhook.WebhookError, match="certificate verify failed"):
            await asyncio.wait_for(_once(remote_config.load(wrong)), 5)


async def _once(config: remote_config.RemoteConfig) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webhook, "_ATTEMPTS", 1)
        await webhook.review(config, {})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"current-context": "x"}, ": current-context: there is no context x"),
        ({"clusters": []}, ": contexts[0].context.cluster: there is no cluster k"),
        ({"users": []}, ": contexts[0].context.user: there is no user u"),
        ({"clusters": [{"name": "k", "cluster": {"server": "ftp://x"}}]}, "not an http or https URL"),
        ({"clusters": [{"name": "k", "cluster": {"server": "https://x:99999"}}]}, "not a URL"),
        ({"clusters": [{"name": "k", "cluster": {}}]}, "clusters[0].cluster.server: must be a string"),
        (
            {"clusters": [{"name": "k", "cluster": {"server": "https://x", "certificate-authority-data": "!"}}]},
            "clusters[0].cluster.certificate-authority-data: not valid base64",
        ),
        (
            {"clusters": [{"name": "k", "cluster": {"server": "https://x", "certificate-authority-data": "YQ=="}}]},
            "no usable PEM certificates",
        ),
        (
            {"clusters": [{"name": "k", "cluster": {"server": "https://x", "certificate-authority": "missing"}}]},
            "cannot read missing: No such file or directory",
        ),
        ({"users": [{"name": "u", "user": {"token": "a\nb"}}]}, "holds characters that cannot stand in a header"),
        ({"users": [{"name": "u", "user": {"tokenFile": "missing"}}]}, "No such file or directory"),
    ],
)
def test_faults_of_a_configuration(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(_kubeconfig("http://x")), **change}, sort_keys=False))
    with pytest.raises(FileError) as caught:
        remote_config.load(path)
    assert fault in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_pair_goes_together(tmp_path: Path, pki: PKI) -> None:
    user = {"client-certificate": str(pki.directory / "client.crt")}
    with pytest.raises(FileError, match="a certificate and its key go together"):
        remote_config.load(_config(tmp_path, "https://x", user=user))
    user["client-key"] = str(pki.directory / "proxy.key")
    with pytest.raises(FileError, match="no usable PEM certificate with its key"):
        remote_config.load(_config(tmp_path, "https://x", user=user))


async def test_tokens_are_asked_about_once(tmp_path: Path) -> None:
    async with reviewer(lambda _: (201, {"status": STATUS})) as served:
        now = 0.0
        subject = TokenWebhook(_load(tmp_path, served.port), cache_seconds=60, now=lambda: now)
        first, second = subject.authenticate("abc"), subject.authenticate("abc")
        assert isinstance(first, Later)
        assert first is second
        await settled(first)
        accepted = subject.authenticate("abc")
        assert isinstance(accepted, Accepted)
        assert accepted.user == ANN
        assert accepted is subject.authenticate("abc")
        assert served.heads[0].startswith("POST /review?x=1 HTTP/1.1\r\n")
        assert "authorization: Bearer t0\r\n" in served.heads[0]
        assert served.asked == [
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": "abc"}}
        ]
        now = 59.0
        assert accepted.counts()
        now = 60.0
        assert not accepted.counts()
        again = subject.authenticate("abc")
        assert isinstance(again, Later)
        await settled(again)
        assert len(served.asked) == 2
        assert not accepted.counts(), "that was the answer before"
        await subject.stop()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"authenticated": False}, "token webhook: not authenticated"),
        ({"authenticated": "true", "user": {"username": "a"}}, "token webhook: not authenticated"),
        ({"error": "expired"}, "token webhook: expired"),
    ],
)
def test_tokens_that_do_not_count(status: dict[str, Any], reason: str) -> None:
    assert user_of(status) == AuthenticationFailed(reason)


@pytest.mark.parametrize("user", [None, "ann", {}, {"username": ""}, {"username": 1}])
def test_an_answer_must_name_somebody(user: Any) -> None:
    with pytest.raises(webhook.WebhookError):
        user_of({"authenticated": True, "user": user})


def test_odd_parts_of_an_answer_are_left_out() -> None:
    found = user_of({"authenticated": True, "user": {"username": "a", "groups": ["g", 1], "extra": {"k": "v"}}})
    assert found == User("a", groups=("g",), extra={"k": ()})


@pytest.mark.parametrize(
    ("code", "document"), [(403, {}), (201, b"["), (201, {"status": 1}), (201, []), (200, {"kind": "Status"})]
)
async def test_a_failure_is_remembered_for_a_moment(tmp_path: Path, code: int, document: Any) -> None:
    async with reviewer(lambda _: (code, document)) as served:
        now = 0.0
        config = _load(tmp_path, served.port)
        tokens = TokenWebhook(config, cache_seconds=60, now=lambda: now)
        access = AccessWebhook(config, authorized_seconds=60, unauthorized_seconds=60, now=lambda: now)
        later = tokens.authenticate("abc")
        assert isinstance(later, Later)
        await settled(later)
        assert isinstance(tokens.authenticate("abc"), AuthenticationFailed)
        decision = await decided(_Only(access), ANN, THINGS)
        assert (decision.verdict, decision.lasting) == (Verdict.NO_OPINION, False)
        assert decision.error.startswith("access webhook: ")
        now = 1.5
        assert isinstance(tokens.authenticate("abc"), Later)
        assert isinstance(access.authorize(ANN, THINGS), Later)
        await tokens.stop()
        await access.stop()


async def test_what_may_pass_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_FIRST_DELAY_SECONDS", 0.01)
    answers = iter([(500, {}), (429, {}), (201, {"status": {"allowed": True}})])
    async with reviewer(lambda _: next(answers)) as served:
        assert await webhook.review(_load(tmp_path, served.port), {}) == {"allowed": True}
        assert len(served.asked) == 3


async def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_FIRST_DELAY_SECONDS", 0.01)
    async with reviewer(lambda _: (500, {})) as served:
        config = _load(tmp_path, served.port)
    with pytest.raises(webhook.WebhookError, match="connection refused"):
        await webhook.review(config, {})


async def test_an_answer_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.1)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    config = _load(tmp_path, silent.sockets[0].getsockname()[1])
    with pytest.raises(webhook.WebhookError, match=r"within 0\.1"):
        await webhook.review(config, {})
    silent.close()
    await asyncio.sleep(0.01)


THINGS = RequestInfo(
    verb="get", path="/x", is_resource=True, group="g", version="v1", namespace="n", resource="things", name="a"
)


class _Only:
    """An authorizer that is a webhook alone."""

    privileged_groups = ()

    def __init__(self, access: AccessWebhook) -> None:
        self._access = access

    def authorize(self, user: User, info: RequestInfo) -> Decision | Later:
        return self._access.authorize(user, info)

    def anonymous_on(self, path: str) -> bool:
        return False


async def test_access_is_remembered_as_long_as_it_counts(tmp_path: Path) -> None:
    async with reviewer(lambda _: (201, {"status": {"allowed": True, "reason": "because"}})) as served:
        now = 0.0
        subject = AccessWebhook(
            _load(tmp_path, served.port), authorized_seconds=300, unauthorized_seconds=30, now=lambda: now
        )
        only = _Only(subject)
        assert await decided(only, ANN, THINGS) == Decision(Verdict.ALLOW, "because", lasting=False)
        now = 299.0
        assert isinstance(subject.authorize(ANN, THINGS), Decision)
        served.answer = lambda _: (201, {"status": {"allowed": False}})
        now = 301.0
        assert not (await decided(only, ANN, THINGS)).allowed
        now = 331.5
        assert isinstance(subject.authorize(ANN, THINGS), Later)
        assert isinstance(subject.authorize(User("bob"), THINGS), Later)
        await subject.stop()


def test_the_question_about_access() -> None:
    asked = question(ANN, THINGS)
    assert asked["spec"] == {
        "user": "ann",
        "uid": "u1",
        "groups": ["staff"],
        "extra": {"k": ["v"]},
        "resourceAttributes": {
            "namespace": "n",
            "verb": "get",
            "group": "g",
            "version": "v1",
            "resource": "things",
            "name": "a",
        },
    }
    plain = question(User("a"), RequestInfo(verb="get", path="/x"))
    assert plain["spec"] == {"user": "a", "nonResourceAttributes": {"path": "/x", "verb": "get"}}


@pytest.mark.parametrize(
    ("status", "decision"),
    [
        ({"allowed": True}, Decision(Verdict.ALLOW, lasting=False)),
        ({"allowed": 1}, Decision(Verdict.NO_OPINION, lasting=False)),
        ({"allowed": False, "reason": "no"}, Decision(Verdict.NO_OPINION, "no", lasting=False)),
        ({"denied": True, "reason": "no"}, Decision(Verdict.DENY, "no", lasting=False)),
        ({}, Decision(Verdict.NO_OPINION, lasting=False)),
    ],
)
def test_answers_about_access(status: dict[str, Any], decision: Decision) -> None:
    assert decision_of(status) == decision


def test_a_contradiction_is_no_answer() -> None:
    with pytest.raises(webhook.WebhookError):
        decision_of({"allowed": True, "denied": True})
