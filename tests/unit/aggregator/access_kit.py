"""A policy, identities and routes, and how tables of rows ask about them."""

import orjson

from aggregator.proxy.decide import NOBODY, REFUSED, Forward, Identity, Reply, identity_of
from aggregator.proxy.routes import RouteTable
from apimachinery.authorization import Policy, Undecided
from apimachinery.identity import User
from apimachinery.rbac import BOOTSTRAP
from apimachinery.types import Object
from apiserver.auth import policy_file
from apiserver.auth.authorizer import Authorizers

POLICY_FILE = """
roles:
- name: viewer
  rules:
  - {apiGroups: [g], resources: [things, things/sub], verbs: [get, list, watch]}
- name: editor
  rules:
  - {apiGroups: [g], resources: ["*"], verbs: ["*"]}
- name: one-thing
  rules:
  - {apiGroups: [g], resources: [things], resourceNames: [mine], verbs: [get, update, patch, delete, watch]}
- name: status-writer
  rules:
  - {apiGroups: ["*"], resources: ["*/status"], verbs: [update, patch]}
- name: core-reader
  rules:
  - {apiGroups: [""], resources: [configmaps], verbs: [get]}
- name: scraper
  rules:
  - {nonResourceURLs: [/metrics, "/debug/*"], verbs: [get]}
- name: impersonator
  rules:
  - {apiGroups: [""], resources: [users], resourceNames: [viewer], verbs: [impersonate]}
  - {apiGroups: [""], resources: [groups], resourceNames: [readers], verbs: [impersonate]}
  - {apiGroups: [""], resources: [serviceaccounts], verbs: [impersonate]}
  - {apiGroups: [authentication.k8s.io], resources: [userextras/scopes], resourceNames: [view], verbs: [impersonate]}
  - {apiGroups: [authentication.k8s.io], resources: [uids], resourceNames: ["7"], verbs: [impersonate]}
bindings:
- {role: viewer, users: [viewer], groups: [readers]}
- {role: editor, users: [editor], namespaces: [a]}
- {role: one-thing, users: [owner]}
- {role: status-writer, users: [writer]}
- {role: core-reader, users: [reader], namespaces: [kube-system]}
- {role: scraper, users: [scraper]}
- {role: scraper, users: [bound], namespaces: [a]}
- {role: impersonator, users: [boss]}
- {role: viewer, groups: ["system:serviceaccounts:a"]}
"""
STRICT = Policy()
OPEN = Policy(anonymous_paths=("*",), always_allow_paths=("/healthz", "/public/*"))
POLICY = Authorizers(STRICT, BOOTSTRAP.extended(policy_file.parse(POLICY_FILE, "policy.yaml")))
ANYBODY = Authorizers(OPEN, POLICY.rules)


def _user(name: str, *groups: str) -> Identity:
    return identity_of(User(name, groups=(*groups, "system:authenticated")), POLICY)


IDENTITIES = {
    "master": _user("root", "system:masters"),
    "in-readers": _user("somebody", "readers"),
    "nobody": NOBODY,
    "refused": REFUSED,
}


for _name in ("viewer", "editor", "owner", "writer", "reader", "scraper", "bound", "boss", "eve", "Viewer"):
    IDENTITIES[_name] = _user(_name)


def _apiservice(name: str, available: str = "True", service: str = "svc") -> Object:
    version, _, group = name.partition(".")
    spec = {"group": group, "version": version, "service": {"namespace": "ns", "name": service}}
    conditions = [{"type": "Available", "status": available}]
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions}}


TABLE = RouteTable.build(
    [_apiservice("v1.g"), _apiservice("v1.down", "False")],
    [{"metadata": {"namespace": "ns", "name": "svc"}, "spec": {"host": "h"}}],
)


def rows(text: str) -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in text.strip().splitlines()]


def outcome_of(verdict: Forward | Reply | Undecided) -> str:
    if isinstance(verdict, Forward):
        return verdict.route.name
    assert isinstance(verdict, Reply)
    return str(verdict.code)


def message_of(verdict: Forward | Reply | Undecided) -> str:
    assert isinstance(verdict, Reply)
    message: str = orjson.loads(verdict.body)["message"]
    return message
