"""Which requests are audited, and how much of them: the rules of an audit.k8s.io/v1 Policy. Pure."""

import enum
from dataclasses import dataclass
from typing import Final

from apimachinery.identity import User
from apimachinery.request_info import RequestInfo

ALL: Final = "*"


class Level(enum.IntEnum):
    """How much of a request is recorded; each level includes the ones before it."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    """The request's body, too."""
    REQUEST_RESPONSE = 3
    """And the response's."""


class Stage(enum.StrEnum):
    REQUEST_RECEIVED = "RequestReceived"
    RESPONSE_STARTED = "ResponseStarted"
    """Long-running requests only: the head of the response has been sent."""
    RESPONSE_COMPLETE = "ResponseComplete"


LEVELS: Final = {
    "None": Level.NONE,
    "Metadata": Level.METADATA,
    "Request": Level.REQUEST,
    "RequestResponse": Level.REQUEST_RESPONSE,
}
LEVEL_NAMES: Final = {level: name for name, level in LEVELS.items()}

_BEARERS_OF_TOKENS: Final = frozenset(
    (("authentication.k8s.io", "tokenreviews", ""), ("authentication.k8s.io", "tokenrequests", ""))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResources:
    """Resources of one API group; without any, all of the group."""

    group: str = ""
    resources: tuple[str, ...] = ()
    """`things`, `things/sub`, `things/*`, `*/sub`, or `*` for everything."""
    names: tuple[str, ...] = ()

    def cover(self, info: RequestInfo) -> bool:
        if self.group != info.group:
            return False
        if not self.resources:
            return True
        if self.names and info.name not in self.names:
            return False
        sub = info.subresource
        combined = f"{info.resource}/{sub}" if sub else info.resource
        accepted = {combined, ALL, f"{info.resource}/{ALL}"}
        if sub:
            accepted.add(f"{ALL}/{sub}")
        return not accepted.isdisjoint(self.resources)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be recorded of one request."""

    level: Level
    omit_stages: frozenset[Stage] = frozenset()
    omit_managed_fields: bool = False

    def at(self, stage: Stage) -> bool:
        return self.level is not Level.NONE and stage not in self.omit_stages


NOTHING: Final = Wanted(Level.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Empty lists match everything; a rule is about resources or about other URLs, never both."""

    wanted: Wanted
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resources: tuple[GroupResources, ...] = ()
    namespaces: tuple[str, ...] = ()
    """The empty string stands for resources that are not in a namespace."""
    urls: tuple[str, ...] = ()

    def matches(self, user: User | None, info: RequestInfo) -> bool:
        if self.users and (user is None or user.name not in self.users):
            return False
        if self.groups and (user is None or set(self.groups).isdisjoint(user.groups)):
            return False
        if self.verbs and info.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            if not info.is_resource or (self.namespaces and info.namespace not in self.namespaces):
                return False
            return not self.resources or any(item.cover(info) for item in self.resources)
        if self.urls:
            return not info.is_resource and any(_url_matches(url, info.path) for url in self.urls)
        return True


def _url_matches(pattern: str, path: str) -> bool:
    return path == pattern or (pattern.endswith(ALL) and path.startswith(pattern[:-1]))


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    rules: tuple[Rule, ...] = ()

    def wanted(self, user: User | None, info: RequestInfo) -> Wanted:
        """What the first rule that matches says; nothing when none does. `user` is the caller, whoever they act as.

        Bodies that exist to carry tokens are never recorded, whatever the rule says.
        """
        for rule in self.rules:
            if rule.matches(user, info):
                found = rule.wanted
                if found.level > Level.METADATA and _carries_tokens(info):
                    return Wanted(Level.METADATA, found.omit_stages)
                return found
        return NOTHING


def _carries_tokens(info: RequestInfo) -> bool:
    if (info.group, info.resource, info.subresource) in _BEARERS_OF_TOKENS:
        return True
    return info.resource == "serviceaccounts" and info.subresource == "token"
