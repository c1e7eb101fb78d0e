"""The review APIs: what servers beneath this one, and users, ask about identity and access (aggregator.md 9.1).

The same authorizer and token authenticators answer here that decide at the front door.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from aggregator.api import review_kinds as kinds
from apimachinery.authorization import Verdict, privileged
from apimachinery.gvk import GroupVersion
from apimachinery.identity import User
from apimachinery.protobuf import reviews as messages
from apimachinery.protobuf.message import Message
from apimachinery.rbac import Rule
from apimachinery.request_info import RequestInfo
from apimachinery.types import Object
from apiserver.auth.authorizer import Authorizers
from apiserver.auth.later import decided, settled
from apiserver.auth.outcome import AuthenticationFailed
from apiserver.auth.tokens import Tokens
from apiserver.resource import CreateRequest, Resource
from apiserver.strategy import Strategy

GROUP_VERSIONS: Final = (
    GroupVersion(kinds.AUTHENTICATION, kinds.VERSION),
    GroupVersion(kinds.AUTHORIZATION, kinds.VERSION),
)


class Reviews:
    """Answers reviews."""

    def __init__(self, authorizer: Authorizers, tokens: Tokens) -> None:
        self._authorizer = authorizer
        self._tokens = tokens

    def resources(self) -> list[Resource]:
        """The declarations of all review kinds."""
        access, local, rules = kinds.ACCESS_SCHEMA, kinds.LOCAL_ACCESS_SCHEMA, kinds.RULES_SCHEMA
        subject, self_message = messages.SUBJECT_ACCESS_REVIEW, messages.SELF_SUBJECT_ACCESS_REVIEW
        return [
            _authentication(
                "TokenReview", kinds.TOKEN_SCHEMA, self.token, messages.TOKEN_REVIEW, kinds.TokenStrategy()
            ),
            _authentication(
                "SelfSubjectReview", kinds.SELF_SCHEMA, self.self, messages.SELF_SUBJECT_REVIEW, Strategy()
            ),
            _authorization("SubjectAccessReview", access, self.access, subject, kinds.SubjectAccessStrategy()),
            _authorization(
                "LocalSubjectAccessReview", local, self.access, subject, kinds.LocalAccessStrategy(), namespaced=True
            ),
            _authorization(
                "SelfSubjectAccessReview", kinds.SELF_ACCESS_SCHEMA, self.access, self_message, kinds.AccessStrategy()
            ),
            _authorization(
                "SelfSubjectRulesReview", rules, self.rules, messages.SELF_SUBJECT_RULES_REVIEW, kinds.RulesStrategy()
            ),
        ]

    async def access(self, request: CreateRequest) -> Object:
        """Whether somebody may do something: the caller, when the kind of the object does not say who."""
        spec = request.object["spec"]
        user = request.user if request.object["kind"] == "SelfSubjectAccessReview" else _subject(spec)
        info = _request_info(spec)
        if privileged(self._authorizer, user):
            return {**request.object, "status": {"allowed": True}}
        decision = await decided(self._authorizer, user, info)
        status: Object = {"allowed": decision.allowed}
        if decision.verdict is Verdict.DENY:
            status["denied"] = True
        if decision.reason:
            status["reason"] = decision.reason
        if decision.error:
            status["evaluationError"] = decision.error
        return {**request.object, "status": status}

    async def rules(self, request: CreateRequest) -> Object:
        """What the caller may do in a namespace."""
        rules = self._authorizer.rules_for(request.user, request.object["spec"]["namespace"])
        status: Object = {
            "resourceRules": [_resource_rule(rule) for rule in rules if rule.resources],
            "nonResourceRules": [_path_rule(rule) for rule in rules if rule.non_resource_urls],
            "incomplete": not self._authorizer.complete,
        }
        if not self._authorizer.complete:
            status["evaluationError"] = "webhook authorizer does not support user rule resolution"
        return {**request.object, "status": status}

    async def token(self, request: CreateRequest) -> Object:
        """Whom a bearer token stands for. It is not in the answer."""
        token = request.object["spec"]["token"]
        spec = {name: value for name, value in request.object["spec"].items() if name != "token"}
        while True:
            outcome = self._tokens.authenticate(token)
            if isinstance(outcome, User | AuthenticationFailed):
                break
            await settled(outcome)
        if isinstance(outcome, User):
            status: Object = {"authenticated": True, "user": _user_info(outcome)}
        else:
            status = {"authenticated": False, "error": outcome.reason}
        return {**request.object, "spec": spec, "status": status}

    async def self(self, request: CreateRequest) -> Object:
        """Who the caller is."""
        return {**request.object, "status": {"userInfo": _user_info(request.user)}}


_Answer = Callable[[CreateRequest], Awaitable[Object]]


def _authentication(kind: str, schema: Object, answer: _Answer, message: Message, strategy: Strategy) -> Resource:
    return _resource(kinds.AUTHENTICATION, kind, schema, answer, message, strategy)


def _authorization(
    kind: str, schema: Object, answer: _Answer, message: Message, strategy: Strategy, *, namespaced: bool = False
) -> Resource:
    return _resource(kinds.AUTHORIZATION, kind, schema, answer, message, strategy, namespaced=namespaced)


def _resource(
    group: str,
    kind: str,
    schema: Object,
    answer: _Answer,
    message: Message,
    strategy: Strategy,
    *,
    namespaced: bool = False,
) -> Resource:
    return Resource(
        group=group,
        version=kinds.VERSION,
        kind=kind,
        plural=f"{kind.lower()}s",
        singular=kind.lower(),
        namespaced=namespaced,
        schema=schema,
        strategy=strategy,
        verbs=("create",),
        virtual_create=answer,
        protobuf=message,
        description=schema["description"],
    )


def _subject(spec: Object) -> User:
    extra = {str(key): tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user") or "", spec.get("uid") or "", tuple(spec.get("groups") or ()), extra)


def _request_info(spec: Object) -> RequestInfo:
    attributes = spec.get("resourceAttributes")
    if attributes is None:
        path = spec["nonResourceAttributes"]
        return RequestInfo(verb=path.get("verb", ""), path=path.get("path", ""))
    names = ("verb", "group", "version", "namespace", "resource", "subresource", "name")
    return RequestInfo(path="", is_resource=True, **{name: attributes.get(name) or "" for name in names})


def _user_info(user: User) -> Object:
    info: Object = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


def _resource_rule(rule: Rule) -> Object:
    found = {"verbs": list(rule.verbs), "apiGroups": list(rule.api_groups), "resources": list(rule.resources)}
    return {**found, "resourceNames": list(rule.resource_names)} if rule.resource_names else found


def _path_rule(rule: Rule) -> Object:
    return {"verbs": list(rule.verbs), "nonResourceURLs": list(rule.non_resource_urls)}
