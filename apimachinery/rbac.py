"""Roles and bindings, compiled for quick decisions: the rules mean what those of Kubernetes RBAC mean.

Rules only ever allow. A binding without namespaces counts everywhere, cluster-scoped resources and plain paths
included; one with namespaces counts for resources in these namespaces alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from apimachinery.authorization import NO_OPINION, Decision, Verdict
from apimachinery.field_errors import quote
from apimachinery.identity import AUTHENTICATED, User
from apimachinery.request_info import RequestInfo

ALL: Final = "*"
_REMEMBERED_SUBJECTS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a role allows: verbs on resources, or verbs on plain paths. `*` stands for all of a kind."""

    verbs: tuple[str, ...]
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    """`things`, `things/sub`, `*/sub`, or `*` for everything, subresources included."""
    resource_names: tuple[str, ...] = ()
    """Empty: all names, and requests without one."""
    non_resource_urls: tuple[str, ...] = ()
    """Exact paths, or with `*` at the end all paths that begin so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    name: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Gives a role to users and groups."""

    role: str
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    """Empty: everywhere."""


@dataclass(frozen=True, slots=True)
class _Grant:
    """One rule for one user; None stands for everything."""

    verbs: frozenset[str] | None
    names: frozenset[str] | None
    namespaces: frozenset[str] | None
    decision: Decision

    def covers(self, info: RequestInfo) -> bool:
        return (
            (self.verbs is None or info.verb in self.verbs)
            and (self.namespaces is None or info.namespace in self.namespaces)
            and (self.names is None or info.name in self.names)
        )


@dataclass(slots=True)
class _Subject:
    """Everything that one user's bindings amount to, indexed by what a request looks up."""

    rules: list[tuple[Rule, frozenset[str] | None]] = field(default_factory=list)
    resources: dict[tuple[str, str], list[_Grant]] = field(default_factory=dict)
    paths: dict[str, list[_Grant]] = field(default_factory=dict)
    prefixes: list[tuple[str, _Grant]] = field(default_factory=list)

    def add(self, rule: Rule, namespaces: frozenset[str] | None, decision: Decision) -> None:
        self.rules.append((rule, namespaces))
        grant = _Grant(_set(rule.verbs), frozenset(rule.resource_names) or None, namespaces, decision)
        for group in rule.api_groups:
            for resource in rule.resources:
                self.resources.setdefault((group, resource), []).append(grant)
        if namespaces is not None:
            return
        for url in rule.non_resource_urls:
            if url.endswith(ALL):
                self.prefixes.append((url[:-1], grant))
            else:
                self.paths.setdefault(url, []).append(grant)

    def resource_decision(self, info: RequestInfo) -> Decision | None:
        group, resource = info.group, info.resource
        keys = [(group, resource), (group, ALL), (ALL, resource), (ALL, ALL)]
        if info.subresource:
            resource = f"{info.resource}/{info.subresource}"
            any_parent = f"{ALL}/{info.subresource}"
            keys = [(group, resource), (group, ALL), (ALL, resource), (ALL, ALL)]
            keys += [(group, any_parent), (ALL, any_parent)]
        for key in keys:
            for grant in self.resources.get(key, ()):
                if grant.covers(info):
                    return grant.decision
        return None

    def path_decision(self, info: RequestInfo) -> Decision | None:
        verb = info.verb
        for grant in self.paths.get(info.path, ()):
            if grant.verbs is None or verb in grant.verbs:
                return grant.decision
        for prefix, grant in self.prefixes:
            if info.path.startswith(prefix) and (grant.verbs is None or verb in grant.verbs):
                return grant.decision
        return None


class RuleBook:
    """Decides by roles and bindings. Immutable, but for a bounded memo of what each user may do.

    ValueError when a binding names a role that does not exist.
    """

    def __init__(self, roles: Iterable[Role] = (), bindings: Iterable[Binding] = ()) -> None:
        self.roles = {role.name: role for role in roles}
        self.bindings = tuple(bindings)
        for binding in self.bindings:
            if binding.role not in self.roles:
                raise ValueError(f"there is no role {quote(binding.role)}")
        self._by_user: dict[str, list[tuple[int, Binding]]] = {}
        self._by_group: dict[str, list[tuple[int, Binding]]] = {}
        for number, binding in enumerate(self.bindings):
            for user in binding.users:
                self._by_user.setdefault(user, []).append((number, binding))
            for group in binding.groups:
                self._by_group.setdefault(group, []).append((number, binding))
        self._subjects: dict[tuple[str, tuple[str, ...]], _Subject] = {}

    def extended(self, other: "RuleBook") -> "RuleBook":
        """Both together; of two roles with one name, that of `other` counts for the bindings of both."""
        return RuleBook((*self.roles.values(), *other.roles.values()), (*self.bindings, *other.bindings))

    def authorize(self, user: User, info: RequestInfo) -> Decision:
        """ALLOW with the binding that allows it as the reason, or no opinion."""
        subject = self._subject(user)
        found = subject.resource_decision(info) if info.is_resource else subject.path_decision(info)
        return found or NO_OPINION

    def rules(self, user: User, namespace: str) -> list[Rule]:
        """The rules that count for a user in a namespace, those that count everywhere included."""
        return [rule for rule, namespaces in self._subject(user).rules if namespaces is None or namespace in namespaces]

    def _subject(self, user: User) -> _Subject:
        key = (user.name, user.groups)
        found = self._subjects.get(key)
        if found is None:
            if len(self._subjects) >= _REMEMBERED_SUBJECTS:
                self._subjects.clear()
            found = self._subjects[key] = self._compile(user)
        return found

    def _compile(self, user: User) -> _Subject:
        subject = _Subject()
        for binding, through in self._bindings_of(user):
            decision = Decision(Verdict.ALLOW, f"allowed by role {quote(binding.role)} of {through}")
            for rule in self.roles[binding.role].rules:
                subject.add(rule, frozenset(binding.namespaces) or None, decision)
        return subject

    def _bindings_of(self, user: User) -> Sequence[tuple[Binding, str]]:
        found: dict[int, tuple[Binding, str]] = {}
        for number, binding in self._by_user.get(user.name, ()):
            found.setdefault(number, (binding, f"user {quote(user.name)}"))
        for group in user.groups:
            for number, binding in self._by_group.get(group, ()):
                found.setdefault(number, (binding, f"group {quote(group)}"))
        return [found[number] for number in sorted(found)]


def _set(values: Sequence[str]) -> frozenset[str] | None:
    return None if ALL in values else frozenset(values)


_DISCOVERY: Final = Role(
    name="system:discovery",
    rules=(
        Rule(
            verbs=("get",),
            non_resource_urls=(
                *("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez"),
                *("/openapi", "/openapi/*", "/readyz", "/version", "/version/"),
            ),
        ),
    ),
)
_BASIC_USER: Final = Role(
    name="system:basic-user",
    rules=(
        Rule(
            verbs=("create",),
            api_groups=("authorization.k8s.io",),
            resources=("selfsubjectaccessreviews", "selfsubjectrulesreviews"),
        ),
        Rule(verbs=("create",), api_groups=("authentication.k8s.io",), resources=("selfsubjectreviews",)),
    ),
)
_AUTHENTICATION_READER: Final = Role(
    name="extension-apiserver-authentication-reader",
    rules=(
        Rule(
            verbs=("get", "list", "watch"),
            api_groups=("",),
            resources=("configmaps",),
            resource_names=("extension-apiserver-authentication",),
        ),
    ),
)
_AUTH_DELEGATOR: Final = Role(
    name="system:auth-delegator",
    rules=(
        Rule(verbs=("create",), api_groups=("authentication.k8s.io",), resources=("tokenreviews",)),
        Rule(verbs=("create",), api_groups=("authorization.k8s.io",), resources=("subjectaccessreviews",)),
    ),
)

BOOTSTRAP: Final = RuleBook(
    (_DISCOVERY, _BASIC_USER, _AUTHENTICATION_READER, _AUTH_DELEGATOR),
    (
        Binding(role=_DISCOVERY.name, groups=(AUTHENTICATED,)),
        Binding(role=_BASIC_USER.name, groups=(AUTHENTICATED,)),
    ),
)
"""What every server gives its users: those with an identity may find out what there is and what they may do.

The other roles are there to be bound: servers beneath this one need them (aggregator.md 9.1).
"""
