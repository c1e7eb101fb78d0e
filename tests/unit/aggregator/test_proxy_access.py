"""Who gets what: identity x verb x path x policy, each row decided by the very function of the data plane."""

import orjson
import pytest

from aggregator.proxy.decide import NOBODY, REFUSED, Forward, Identity, Reply, decide, identity_of
from aggregator.proxy.headers import HeaderRules
from aggregator.proxy.routes import RouteTable
from apimachinery.authorization import Decision, Policy, Undecided, Verdict
from apimachinery.identity import User
from apimachinery.rbac import BOOTSTRAP
from apimachinery.request_info import RequestInfo
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

ROWS = """
master      GET     /apis/g/v1/things                                   v1.g
master      DELETE  /apis/g/v1/things                                   v1.g
master      POST    /apis/g/v1/namespaces/a/things                      v1.g
master      GET     /apis/down/v1/things                                503
master      GET     /anything                                           local
master      GET     /apis/g/v1/../../metrics                            400
viewer      GET     /apis/g/v1/things                                   v1.g
viewer      GET     /apis/g/v1/things/x                                 v1.g
viewer      HEAD    /apis/g/v1/things/x                                 v1.g
viewer      GET     /apis/g/v1/things?watch=true                        v1.g
viewer      GET     /apis/g/v1/things?watch=1                           v1.g
viewer      GET     /apis/g/v1/watch/things                             v1.g
viewer      GET     /apis/g/v1/namespaces/a/things                      v1.g
viewer      GET     /apis/g/v1/namespaces/a/things/x/sub                v1.g
viewer      GET     /apis/g/v1/namespaces/a/things/x/other              403
viewer      GET     /apis/g/v1/namespaces/a/things/x/status             403
viewer      GET     /apis/g/v1/proxy/things/x                           403
viewer      POST    /apis/g/v1/things                                   403
viewer      PUT     /apis/g/v1/things/x                                 403
viewer      PATCH   /apis/g/v1/things/x                                 403
viewer      DELETE  /apis/g/v1/things/x                                 403
viewer      DELETE  /apis/g/v1/things                                   403
viewer      OPTIONS /apis/g/v1/things                                   403
viewer      GET     /apis/g/v1/others                                   403
viewer      GET     /apis/g/v2/things                                   local
viewer      GET     /apis/h/v1/things                                   403
viewer      GET     /api/v1/things                                      403
viewer      GET     /apis/down/v1/things                                403
viewer      GET     /apis/G/v1/things                                   403
viewer      GET     /apis/g/v1/Things                                   403
viewer      GET     /apis/g/v1/thing%73                                 v1.g
viewer      GET     /apis/g/v1/things%2Fx                               400
viewer      GET     /apis/g%2Fv1/things                                 400
viewer      GET     /apis/g/v1/things/..%2fothers                       400
viewer      GET     /apis/g/v1/things/../others                         400
viewer      GET     /apis/g/v1/things/./x                               400
viewer      GET     /apis/g/v1//things                                  400
viewer      GET     //apis/g/v1/things                                  400
viewer      GET     /apis/g/v1/things/%2e%2e/others                     400
viewer      GET     /apis/g/v1/things/..;/others                        400
viewer      GET     /apis/g/v1/things%00                                400
viewer      GET     /apis/g/v1/things%0a                                400
viewer      GET     /apis/g/v1/things%25                                400
viewer      GET     /apis/g/v1/things\\x                                400
viewer      GET     /apis/g/v1/things%5cx                               400
viewer      GET     /apis/g/v1/things#x                                 400
viewer      GET     /apis/g/v1/things%3fwatch                           400
viewer      GET     http://h/apis/g/v1/things                           400
viewer      GET     *                                                   400
viewer      GET     /apis/g/v1/things?timeout=x                         400
viewer      GET     /apis/g/v1/things%zz                                400
viewer      GET     /apis/g/v1/things%ff                                400
viewer      GET     /apis/g/v1/watch                                    400
Viewer      GET     /apis/g/v1/things                                   403
in-readers  GET     /apis/g/v1/things                                   v1.g
in-readers  GET     /apis/g/v1/namespaces/b/things/x                    v1.g
in-readers  POST    /apis/g/v1/namespaces/b/things                      403
editor      GET     /apis/g/v1/namespaces/a/things                      v1.g
editor      GET     /apis/g/v1/namespaces/a/others/x/any                v1.g
editor      POST    /apis/g/v1/namespaces/a/things                      v1.g
editor      PUT     /apis/g/v1/namespaces/a/things/x                    v1.g
editor      PATCH   /apis/g/v1/namespaces/a/things/x/status             v1.g
editor      DELETE  /apis/g/v1/namespaces/a/things                      v1.g
editor      GET     /apis/g/v1/namespaces/a                             v1.g
editor      GET     /apis/g/v1/namespaces/b/things                      403
editor      GET     /apis/g/v1/namespaces/b                             403
editor      GET     /apis/g/v1/namespaces                               403
editor      GET     /apis/g/v1/things                                   403
editor      DELETE  /apis/g/v1/namespaces/b/things/x                    403
editor      GET     /apis/g/v1/namespaces/a/../b/things                 400
editor      GET     /apis/g/v1/namespaces/a%2f..%2fb/things             400
editor      GET     /apis/h/v1/namespaces/a/things                      403
editor      GET     /metrics                                            403
owner       GET     /apis/g/v1/things/mine                              v1.g
owner       PUT     /apis/g/v1/things/mine                              v1.g
owner       PATCH   /apis/g/v1/namespaces/a/things/mine                 v1.g
owner       DELETE  /apis/g/v1/things/mine                              v1.g
owner       GET     /apis/g/v1/things/mine2                             403
owner       GET     /apis/g/v1/things/Mine                              403
owner       GET     /apis/g/v1/things/min%65                            v1.g
owner       GET     /apis/g/v1/things                                   403
owner       DELETE  /apis/g/v1/things                                   403
owner       POST    /apis/g/v1/things                                   403
owner       GET     /apis/g/v1/things/mine/sub                          403
owner       GET     /apis/g/v1/things?watch=true&fieldSelector=metadata.name%3Dmine   v1.g
owner       GET     /apis/g/v1/things?watch=true&fieldSelector=metadata.name%3Dother  403
owner       GET     /apis/g/v1/things?watch=true&fieldSelector=metadata.name%21%3Dx   403
owner       GET     /apis/g/v1/things?watch=true                        403
writer      PUT     /apis/g/v1/things/x/status                          v1.g
writer      PATCH   /apis/g/v1/namespaces/a/others/x/status             v1.g
writer      PATCH   /apis/other/v1/namespaces/a/others/x/status         local
writer      GET     /apis/g/v1/things/x/status                          403
writer      PUT     /apis/g/v1/things/x                                 403
writer      PUT     /apis/g/v1/things/status                            403
reader      GET     /api/v1/namespaces/kube-system/configmaps/c         local
reader      GET     /api/v1/namespaces/default/configmaps/c             403
reader      GET     /api/v1/namespaces/kube-system/configmaps           403
reader      GET     /api/v1/configmaps/c                                403
reader      GET     /api/v1/namespaces/kube-system/secrets/c            403
reader      GET     /apis/core/v1/namespaces/kube-system/configmaps/c   403
scraper     GET     /metrics                                            local
scraper     HEAD    /metrics                                            403
scraper     POST    /metrics                                            403
scraper     GET     /metrics/                                           403
scraper     GET     /metrics/x                                          403
scraper     GET     /debug/pprof                                        local
scraper     GET     /debug/a/b                                          local
scraper     GET     /debug                                              403
scraper     GET     /debug/../apis/g/v1/things                          400
scraper     GET     /apis/g/v1/things                                   403
bound       GET     /metrics                                            403
eve         GET     /apis/g/v1/things                                   403
eve         GET     /apis/down/v1/things                                403
eve         GET     /apis                                               local
eve         GET     /apis/                                              local
eve         GET     /apis/g                                             local
eve         GET     /apis/g/v1                                          v1.g
eve         GET     /apis/down/v1                                       503
eve         POST    /apis/g/v1                                          403
eve         GET     /api                                                local
eve         GET     /api/v1                                             local
eve         GET     /openapi/v2                                         local
eve         GET     /openapi/v3/apis/g/v1                               local
eve         GET     /version                                            local
eve         GET     /versions                                           403
eve         GET     /                                                   403
eve         GET     /metrics                                            403
eve         GET     /healthz                                            local
eve         GET     /healthz/ping                                       403
eve         GET     /livez                                              local
eve         GET     /readyz?verbose                                     local
eve         GET     /readyz/                                            403
eve         POST    /apis/authorization.k8s.io/v1/selfsubjectaccessreviews            local
eve         POST    /apis/authorization.k8s.io/v1/selfsubjectrulesreviews             local
eve         POST    /apis/authentication.k8s.io/v1/selfsubjectreviews                 local
eve         POST    /apis/authorization.k8s.io/v1/subjectaccessreviews                403
eve         POST    /apis/authentication.k8s.io/v1/tokenreviews                       403
eve         GET     /apis/authorization.k8s.io/v1/selfsubjectaccessreviews            403
eve         GET     /api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication  403
nobody      GET     /healthz                                            local
nobody      HEAD    /healthz                                            local
nobody      POST    /healthz                                            local
nobody      GET     /healthz?verbose                                    local
nobody      GET     /livez                                              local
nobody      GET     /readyz                                             local
nobody      GET     /healthz/                                           401
nobody      GET     /healthz/ping                                       401
nobody      GET     /HEALTHZ                                            401
nobody      GET     /health%7A                                          local
nobody      GET     /healthz/../metrics                                 400
nobody      GET     /healthz%2f..%2fmetrics                             400
nobody      GET     /healthz;x                                          401
nobody      GET     /                                                   401
nobody      GET     /version                                            401
nobody      GET     /apis                                               401
nobody      GET     /apis/g/v1                                          401
nobody      GET     /apis/g/v1/things                                   401
nobody      GET     /apis/down/v1/things                                401
nobody      POST    /apis/authentication.k8s.io/v1/selfsubjectreviews   401
refused     GET     /healthz                                            401
refused     GET     /version                                            401
refused     GET     /apis/g/v1/things                                   401
refused     GET     /apis/g/v1/../x                                     400
"""


def _rows(text: str) -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in text.strip().splitlines()]


def _outcome(verdict: Forward | Reply | Undecided) -> str:
    if isinstance(verdict, Forward):
        return verdict.route.name
    assert isinstance(verdict, Reply)
    return str(verdict.code)


@pytest.mark.parametrize(
    ("who", "method", "target", "outcome"), [pytest.param(*row, id=" ".join(row)) for row in _rows(ROWS)]
)
def test_who_gets_what(who: str, method: str, target: str, outcome: str) -> None:
    verdict = decide(TABLE, POLICY, IDENTITIES[who], method.encode(), target.encode())
    assert _outcome(verdict) == outcome


OPEN_ROWS = """
nobody   GET   /                     403
nobody   GET   /public/a             local
nobody   GET   /public               403
nobody   GET   /healthz              local
nobody   GET   /livez                403
nobody   GET   /apis/g/v1/things     403
nobody   GET   /version              403
refused  GET   /public/a             401
refused  GET   /healthz              401
eve      GET   /public/a             local
"""


@pytest.mark.parametrize(
    ("who", "method", "target", "outcome"), [pytest.param(*row, id=" ".join(row)) for row in _rows(OPEN_ROWS)]
)
def test_where_everybody_may_ask(who: str, method: str, target: str, outcome: str) -> None:
    verdict = decide(TABLE, ANYBODY, IDENTITIES[who], method.encode(), target.encode())
    assert _outcome(verdict) == outcome


IMPERSONATION_ROWS = """
boss    viewer                          -                     v1.g
boss    eve                             -                     403
boss    Viewer                          -                     403
boss    viewer                          readers               v1.g
boss    viewer                          system:masters        403
boss    viewer                          readers,other         403
boss    system:anonymous                -                     403
boss    system:serviceaccount:a:robot   -                     v1.g
boss    system:serviceaccount:b:robot   -                     403
boss    system:serviceaccount:a:b:c     -                     403
eve     viewer                          -                     403
eve     eve                             -                     403
master  viewer                          -                     v1.g
master  eve                             -                     403
master  eve                             system:masters        v1.g
master  eve                             readers               v1.g
master  system:serviceaccount:a:robot   other                 403
master  system:anonymous                readers               v1.g
nobody  viewer                          -                     401
refused viewer                          -                     401
"""


@pytest.mark.parametrize(
    ("who", "user", "groups", "outcome"), [pytest.param(*row, id=" ".join(row)) for row in _rows(IMPERSONATION_ROWS)]
)
def test_acting_as_somebody_else(who: str, user: str, groups: str, outcome: str) -> None:
    wanted = [("impersonate-user", user)]
    wanted += [("impersonate-group", group) for group in groups.split(",") if group != "-"]
    verdict = decide(TABLE, POLICY, IDENTITIES[who], b"GET", b"/apis/g/v1/namespaces/b/things", wanted)
    assert _outcome(verdict) == outcome


@pytest.mark.parametrize(
    ("header", "value", "outcome"),
    [
        ("impersonate-uid", "7", "v1.g"),
        ("impersonate-uid", "8", "403"),
        ("impersonate-extra-scopes", "view", "v1.g"),
        ("impersonate-extra-Scopes", "view", "v1.g"),
        ("impersonate-extra-scopes", "edit", "403"),
        ("impersonate-extra-other", "view", "403"),
        ("impersonate-extra-", "view", "400"),
        ("impersonate-foo", "view", "400"),
        ("impersonate_uid", "7", "400"),
        ("impersonate-", "7", "400"),
    ],
)
def test_acting_with_attributes_of_somebody_else(header: str, value: str, outcome: str) -> None:
    wanted = [("impersonate-user", "viewer"), (header.lower(), value)]
    verdict = decide(TABLE, POLICY, IDENTITIES["boss"], b"GET", b"/apis/g/v1/things", wanted)
    assert _outcome(verdict) == outcome


def _message(verdict: Forward | Reply | Undecided) -> str:
    assert isinstance(verdict, Reply)
    message: str = orjson.loads(verdict.body)["message"]
    return message


def test_what_a_refused_impersonation_says() -> None:
    boss = IDENTITIES["boss"]
    path = b"/apis/g/v1/things"
    as_user = decide(TABLE, POLICY, boss, b"GET", path, [("impersonate-user", "eve")])
    assert _message(as_user) == (
        'users "eve" is forbidden: User "boss" cannot impersonate resource "users" in API group "" at the cluster scope'
    )
    account = decide(
        TABLE, POLICY, IDENTITIES["eve"], b"GET", path, [("impersonate-user", "system:serviceaccount:a:r")]
    )
    assert _message(account) == (
        'serviceaccounts "r" is forbidden: User "eve" cannot impersonate resource "serviceaccounts" '
        'in API group "" in the namespace "a"'
    )
    wanted = [("impersonate-user", "viewer"), ("impersonate-extra-scopes", "edit")]
    assert _message(decide(TABLE, POLICY, boss, b"GET", path, wanted)) == (
        'userextras.authentication.k8s.io "edit" is forbidden: User "boss" cannot impersonate resource '
        '"userextras/scopes" in API group "authentication.k8s.io" at the cluster scope'
    )


def test_the_backend_hears_of_the_impersonated_user_alone() -> None:
    wanted = [("impersonate-user", "viewer"), ("impersonate-uid", "7"), ("impersonate-extra-scopes", "view")]
    verdict = decide(TABLE, POLICY, IDENTITIES["boss"], b"GET", b"/apis/g/v1/things", wanted)
    assert isinstance(verdict, Forward)
    assert verdict.identity_lines == (
        b"X-Remote-User: viewer\r\nX-Remote-Uid: 7\r\nX-Remote-Group: system:authenticated\r\n"
        b"X-Remote-Extra-scopes: view\r\n"
    )


SPOOFED = """
X-Remote-User x-remote-user X-REMOTE-USER X_Remote_User X-Remote_User x_remote_user X-Remote-Uid X-Remote-Group
x-remote-group X_REMOTE_GROUP X-Remote-Extra-scopes x-remote-extra- X_Remote_Extra_Scopes X-Remote-Extra-%41
X-Remote-Anything X-Remote- Authorization AUTHORIZATION Proxy-Authorization Audit-ID Audit_Id X-Forwarded-Host
X_Forwarded_Proto X-Forwarded-Uri Impersonate-User impersonate_group Impersonate-Extra-x
"""


@pytest.mark.parametrize("name", [name for row in _rows(SPOOFED) for name in row])
def test_nothing_that_tells_who_asks_travels_on(name: str) -> None:
    head = HeaderRules().request([(b"Host", b"h"), (name.encode(), b"root"), (b"X-Kept", b"1")])
    assert head.lines == [b"X-Kept: 1\r\n"]


class _Elsewhere:
    """Another server's word: an error, a refusal, a permission that does not last, or not known yet."""

    def when_known(self, callback: object) -> None:
        raise AssertionError("decide does not wait")

    def authorize(self, user: User, info: RequestInfo) -> Decision | Undecided:
        if info.resource == "failing":
            return Decision(Verdict.NO_OPINION, error="no answer from policy", lasting=False)
        if info.resource == "denied":
            return Decision(Verdict.DENY, "not today", lasting=False)
        if info.resource == "allowed":
            return Decision(Verdict.ALLOW, lasting=False)
        return self


@pytest.mark.parametrize(
    ("resource", "outcome"), [("failing", "500"), ("denied", "403"), ("allowed", "v1.g"), ("unknown", "later")]
)
def test_what_another_server_decides(resource: str, outcome: str) -> None:
    elsewhere = _Elsewhere()
    union = Authorizers(STRICT, POLICY.rules, elsewhere)
    path = f"/apis/g/v1/{resource}".encode()
    verdict = decide(TABLE, union, IDENTITIES["eve"], b"GET", path)
    assert ("later" if verdict is elsewhere else _outcome(verdict)) == outcome
    if isinstance(verdict, Forward):
        assert not verdict.lasting
    if resource == "denied":
        assert _message(verdict).endswith("at the cluster scope: not today")
    asked = decide(TABLE, union, IDENTITIES["viewer"], b"GET", b"/apis/g/v1/things")
    assert isinstance(asked, Forward)
    assert asked.lasting
