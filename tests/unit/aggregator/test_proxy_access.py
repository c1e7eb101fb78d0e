"""Who gets what: identity x verb x path x policy, each row decided by the very function of the data plane."""

import pytest

from aggregator.proxy.decide import Forward, decide
from aggregator.proxy.headers import HeaderRules
from apimachinery.authorization import Decision, Undecided, Verdict
from apimachinery.identity import User
from apimachinery.request_info import RequestInfo
from apiserver.auth.authorizer import Authorizers
from tests.unit.aggregator.access_kit import ANYBODY, IDENTITIES, POLICY, STRICT, TABLE, message_of, outcome_of, rows

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


@pytest.mark.parametrize(
    ("who", "method", "target", "outcome"), [pytest.param(*row, id=" ".join(row)) for row in rows(ROWS)]
)
def test_who_gets_what(who: str, method: str, target: str, outcome: str) -> None:
    verdict = decide(TABLE, POLICY, IDENTITIES[who], method.encode(), target.encode())
    assert outcome_of(verdict) == outcome


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
    ("who", "method", "target", "outcome"), [pytest.param(*row, id=" ".join(row)) for row in rows(OPEN_ROWS)]
)
def test_where_everybody_may_ask(who: str, method: str, target: str, outcome: str) -> None:
    verdict = decide(TABLE, ANYBODY, IDENTITIES[who], method.encode(), target.encode())
    assert outcome_of(verdict) == outcome


SPOOFED = """
X-Remote-User x-remote-user X-REMOTE-USER X_Remote_User X-Remote_User x_remote_user X-Remote-Uid X-Remote-Group
x-remote-group X_REMOTE_GROUP X-Remote-Extra-scopes x-remote-extra- X_Remote_Extra_Scopes X-Remote-Extra-%41
X-Remote-Anything X-Remote- Authorization AUTHORIZATION Proxy-Authorization Audit-ID Audit_Id X-Forwarded-Host
X_Forwarded_Proto X-Forwarded-Uri Impersonate-User impersonate_group Impersonate-Extra-x
"""


@pytest.mark.parametrize("name", [name for row in rows(SPOOFED) for name in row])
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
    assert ("later" if verdict is elsewhere else outcome_of(verdict)) == outcome
    if isinstance(verdict, Forward):
        assert not verdict.lasting
    if resource == "denied":
        assert message_of(verdict).endswith("at the cluster scope: not today")
    asked = decide(TABLE, union, IDENTITIES["viewer"], b"GET", b"/apis/g/v1/things")
    assert isinstance(asked, Forward)
    assert asked.lasting
