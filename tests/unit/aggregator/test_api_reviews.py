"""The review APIs over HTTP, and the ConfigMap that tells other servers whom to believe."""

import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from aggregator.api.authentication_config import NAME, NAMESPACE, RESOURCE, ConfigPublisher, TrustFiles, read_trust
from aggregator.api.reviews import Reviews
from apimachinery.authorization import AlwaysAllow, Decision, Policy, Verdict
from apimachinery.identity import User
from apimachinery.rbac import BOOTSTRAP, RuleBook
from apimachinery.request_info import RequestInfo
from apiserver.app import AppConfig, build_app
from apiserver.auth import policy_file
from apiserver.auth.authorizer import Authorizers
from apiserver.auth.outcome import Accepted, AuthenticationFailed, never
from apiserver.auth.tokens import Tokens
from apiserver.auth.trusted import trusted_headers
from apiserver.client import LocalClient
from apiserver.discovery import LocalDiscovery
from apiserver.endpoints import Endpoints
from apiserver.health import HealthChecks
from apiserver.metrics import ServerMetrics
from apiserver.openapi import LocalOpenAPI, OpenAPIDocuments
from apiserver.registry import Registry
from apiserver.rest.context import Context
from apiserver.rest.dispatch import Verbs
from apiserver.storage.memory import MemoryStore
from tests.support.asgi import Client, Reply
from tests.unit.aggregator.proxy_kit import PKI

RULES = BOOTSTRAP.extended(
    policy_file.parse(
        """
roles:
- name: viewer
  rules: [{apiGroups: [g], resources: [things], resourceNames: [a], verbs: [get]}]
- name: scraper
  rules: [{nonResourceURLs: [/metrics], verbs: [get]}]
bindings:
- {role: viewer, users: [ann], namespaces: [n]}
- {role: scraper, groups: [monitors]}
""",
        "p.yaml",
    )
)


class _Tokens:
    def authenticate(self, token: str) -> Accepted | AuthenticationFailed:
        if token == "good":
            return Accepted(User("ann", "u1", ("staff",), {"k": ("v",)}), never)
        return AuthenticationFailed("unknown")


class _Denies:
    def authorize(self, user: User, info: RequestInfo) -> Decision:
        return Decision(Verdict.DENY, "never") if info.verb == "delete" else Decision(Verdict.NO_OPINION, error="gone")


class World:
    def __init__(self, rules: RuleBook = RULES, remote: _Denies | None = None) -> None:
        reviews = Reviews(Authorizers(Policy(), rules, remote), Tokens([_Tokens()]))
        registry = Registry([RESOURCE, *reviews.resources()])
        self.verbs = Verbs(Context(store=MemoryStore()))
        collectors, discovery = CollectorRegistry(), LocalDiscovery(registry)
        openapi = OpenAPIDocuments(LocalOpenAPI(registry, title="t", version="v"), time.time)
        self.app = build_app(
            AppConfig(
                registry=registry,
                verbs=self.verbs,
                authenticate=trusted_headers,
                authorizer=AlwaysAllow(),
                endpoints=Endpoints(health=HealthChecks(), collectors=collectors, version={}),
                metrics=ServerMetrics(collectors),
                documents=[discovery, openapi],
            )
        )
        self.client = LocalClient(registry, self.verbs, manager="test")

    async def ask(self, kind: str, spec: Any = None, *, user: str = "ann", namespace: str = "") -> Reply:
        group = "authentication" if kind in ("TokenReview", "SelfSubjectReview") else "authorization"
        where = f"namespaces/{namespace}/" if namespace else ""
        body = {"kind": kind, "apiVersion": f"{group}.k8s.io/v1", **({"spec": spec} if spec is not None else {})}
        call = Client(self.app, user, ("staff", "system:authenticated"))
        return await call("POST", f"/apis/{group}.k8s.io/v1/{where}{kind.lower()}s", body)

    async def status(self, kind: str, spec: Any = None, *, user: str = "ann", namespace: str = "") -> Any:
        reply = await self.ask(kind, spec, user=user, namespace=namespace)
        assert reply.code == 201, reply.text
        document = reply.json()
        assert (document["kind"], document["metadata"].get("namespace", "")) == (kind, namespace)
        return document["status"]


def _things(**more: str) -> dict[str, Any]:
    return {
        "resourceAttributes": {"group": "g", "resource": "things", "verb": "get", "namespace": "n", "name": "a", **more}
    }


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        (_things(), True),
        (_things(verb="list"), False),
        (_things(namespace="m"), False),
        (_things(name=""), False),
        (_things(group="h"), False),
        (_things(subresource="status"), False),
        ({"nonResourceAttributes": {"path": "/apis", "verb": "get"}}, True),
        ({"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}, False),
        ({"resourceAttributes": {"verb": "*", "resource": "*", "group": "*"}}, False),
    ],
)
async def test_what_the_caller_may_do(spec: Any, allowed: bool) -> None:
    status = await World().status("SelfSubjectAccessReview", spec)
    assert status["allowed"] is allowed
    assert ("reason" in status) is allowed


@pytest.mark.parametrize(
    ("who", "spec", "allowed"),
    [
        ({"user": "ann"}, _things(), True),
        ({"user": "bob"}, _things(), False),
        ({"user": "bob", "groups": ["system:masters"]}, _things(verb="delete"), True),
        ({"groups": ["monitors"]}, {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}, True),
        ({"user": "x", "uid": "1", "extra": {"a": ["b"]}}, _things(), False),
    ],
)
async def test_what_somebody_may_do(who: Any, spec: Any, allowed: bool) -> None:
    reply = await World().ask("SubjectAccessReview", {**who, **spec})
    assert reply.json()["status"]["allowed"] is allowed
    assert reply.json()["spec"] == {**who, **spec}


async def test_a_denial_and_a_failure_of_another_server_are_told() -> None:
    world = World(remote=_Denies())
    assert await world.status("SelfSubjectAccessReview", _things(verb="delete")) == {
        "allowed": False,
        "denied": True,
        "reason": "never",
    }
    assert await world.status("SelfSubjectAccessReview", _things(verb="list")) == {
        "allowed": False,
        "evaluationError": "gone",
    }
    rules = await world.status("SelfSubjectRulesReview", {"namespace": "n"})
    assert rules["incomplete"] is True


async def test_questions_about_one_namespace() -> None:
    world = World()
    spec = {"user": "ann", **_things()}
    assert (await world.status("LocalSubjectAccessReview", spec, namespace="n"))["allowed"] is True
    assert (await world.ask("LocalSubjectAccessReview", spec, namespace="m")).code == 422
    assert (await world.ask("LocalSubjectAccessReview", spec)).code == 405


_PATH = {"nonResourceAttributes": {"path": "/", "verb": "get"}}


@pytest.mark.parametrize(
    ("kind", "spec", "code", "text"),
    [
        (
            "SelfSubjectAccessReview",
            {},
            422,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        ("SelfSubjectAccessReview", None, 422, "exactly one of nonResourceAttributes or resourceAttributes"),
        (
            "SelfSubjectAccessReview",
            {**_things(), **_PATH},
            422,
            "cannot be specified in combination with resourceAttributes",
        ),
        ("SubjectAccessReview", _things(), 422, "at least one of user or group must be specified"),
        ("SubjectAccessReview", {"user": 7, **_things()}, 400, "cannot unmarshal number"),
        ("TokenReview", {}, 422, "spec.token: Required value"),
        ("SelfSubjectRulesReview", {}, 422, "spec.namespace: Required value"),
        ("SelfSubjectAccessReview", 7, 400, "cannot unmarshal number"),
    ],
)
async def test_questions_that_are_none(kind: str, spec: Any, code: int, text: str) -> None:
    reply = await World().ask(kind, spec)
    assert (reply.code, text in reply.json()["message"]) == (code, True), reply.text


async def test_rules() -> None:
    status = await World().status("SelfSubjectRulesReview", {"namespace": "n"})
    viewer = {"verbs": ["get"], "apiGroups": ["g"], "resources": ["things"], "resourceNames": ["a"]}
    assert viewer in status["resourceRules"]
    assert status["incomplete"] is False
    assert {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez", "/readyz"]} in status["nonResourceRules"]
    elsewhere = await World().status("SelfSubjectRulesReview", {"namespace": "m"})
    assert viewer not in elsewhere["resourceRules"]


async def test_who_the_caller_is() -> None:
    status = await World().status("SelfSubjectReview")
    assert status == {"userInfo": {"username": "ann", "groups": ["staff", "system:authenticated"]}}


async def test_tokens() -> None:
    world = World()
    reply = await world.ask("TokenReview", {"token": "good", "audiences": ["x"]})
    user = {"username": "ann", "uid": "u1", "groups": ["staff", "system:authenticated"], "extra": {"k": ["v"]}}
    assert reply.json()["status"] == {"authenticated": True, "user": user}
    assert "good" not in reply.text
    assert await world.status("TokenReview", {"token": "bad"}) == {
        "authenticated": False,
        "error": "invalid bearer token; unknown",
    }


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_reviews_are_asked_and_not_kept(method: str) -> None:
    call = Client(World().app)
    for path in ("subjectaccessreviews", "subjectaccessreviews/a"):
        reply = await call(method, f"/apis/authorization.k8s.io/v1/{path}", {})
        assert reply.code == 405


async def test_yaml_warnings_and_documents() -> None:
    world = World()
    call = Client(world.app, "ann", ())
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    body = b"spec: {resourceAttributes: {verb: get, resource: x, nonsense: 1}}"
    headers = {"content-type": "application/yaml", "accept": "application/yaml"}
    reply = await call("POST", f"{path}?fieldValidation=Warn", body, headers)
    assert reply.code == 201
    assert reply.header("content-type") == "application/yaml"
    assert reply.all("warning") == ['299 - "unknown field \\"spec.resourceAttributes.nonsense\\""']
    strict = await call("POST", f"{path}?fieldValidation=Strict", body, headers)
    assert strict.code == 400
    spec = (await call("GET", "/openapi/v3/apis/authorization.k8s.io/v1")).json()
    assert set(spec["paths"][path]) >= {"post"}
    assert "get" not in spec["paths"][path]


async def test_the_config_map_says_whom_to_believe(pki: PKI, tmp_path: Path) -> None:
    world, client_ca = World(), tmp_path / "client-ca.crt"
    client_ca.write_text("users\n")
    files = TrustFiles(
        client_ca=client_ca, proxy_ca=pki.directory / "ca.crt", proxy_certificate=pki.directory / "front.crt"
    )
    publisher = ConfigPublisher(world.client, files, read_trust)
    await publisher.publish()
    call = Client(world.app)
    found = (await call("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}")).json()
    assert found["data"] == {
        "client-ca-file": "users\n",
        "requestheader-client-ca-file": pki.ca.pem.decode(),
        "requestheader-allowed-names": '["front-proxy"]',
        "requestheader-username-headers": '["X-Remote-User"]',
        "requestheader-uid-headers": '["X-Remote-Uid"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    }
    selector = f"fieldSelector=metadata.name%3D{NAME}"
    listed = (await call("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps?{selector}")).json()
    assert [item["metadata"]["name"] for item in listed["items"]] == [NAME]
    version = listed["metadata"]["resourceVersion"]
    await publisher.publish()
    target = f"/api/v1/namespaces/{NAMESPACE}/configmaps?watch=true&{selector}&resourceVersion={version}"
    async with call.watch(target) as stream:
        client_ca.write_text("other users\n")
        await publisher.publish()
        event = await stream.event()
        assert (event["type"], event["object"]["data"]["client-ca-file"]) == ("MODIFIED", "other users\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_clients_cannot_write_config_maps(method: str) -> None:
    call = Client(World().app)
    name = "" if method == "POST" else "/a"
    assert (await call(method, f"/api/v1/namespaces/{NAMESPACE}/configmaps{name}", {})).code == 405


def test_what_is_not_there_is_left_out(pki: PKI) -> None:
    assert read_trust(TrustFiles(client_ca=None, proxy_ca=None, proxy_certificate=None)) == {}
    without = TrustFiles(client_ca=None, proxy_ca=None, proxy_certificate=pki.directory / "front.crt")
    assert read_trust(without) == {}
