"""Authorizers put together: what is always allowed, then roles and bindings, then another server's word."""

from collections.abc import Sequence
from typing import Protocol

from apimachinery.authorization import NO_OPINION, Decision, Policy, Undecided
from apimachinery.identity import User
from apimachinery.rbac import Rule, RuleBook
from apimachinery.request_info import RequestInfo


class RemoteAuthorizer(Protocol):
    """An authorizer that answers from its cache or later."""

    def authorize(self, user: User, info: RequestInfo) -> Decision | Undecided: ...


class Authorizers:
    """The first that allows or denies decides (aggregator.md 8.4). `rules` may be replaced at any time."""

    def __init__(self, policy: Policy, rules: RuleBook, remote: RemoteAuthorizer | None = None) -> None:
        self._policy = policy
        self._remote = remote
        self.rules = rules

    @property
    def privileged_groups(self) -> Sequence[str]:
        return self._policy.privileged_groups

    @property
    def complete(self) -> bool:
        """Whether `rules_for` tells everything: another server's rules are not known."""
        return self._remote is None

    def anonymous_on(self, path: str) -> bool:
        return self._policy.anonymous_on(path)

    def authorize(self, user: User, info: RequestInfo) -> Decision | Undecided:
        decision = self._policy.authorize(user, info)
        if not decision.allowed:
            decision = self.rules.authorize(user, info)
        if decision.allowed:
            return decision
        return self._remote.authorize(user, info) if self._remote is not None else NO_OPINION

    def rules_for(self, user: User, namespace: str) -> list[Rule]:
        """What a user may do in a namespace, as far as it is known here."""
        found = self.rules.rules(user, namespace)
        paths = self._policy.always_allow_paths
        if paths:
            found = [Rule(verbs=("get",), non_resource_urls=paths), *found]
        if not set(self._policy.privileged_groups).isdisjoint(user.groups):
            everything = Rule(verbs=("*",), api_groups=("*",), resources=("*",))
            found = [everything, Rule(verbs=("*",), non_resource_urls=("*",)), *found]
        return found
