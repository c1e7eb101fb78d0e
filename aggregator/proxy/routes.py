"""Which upstream serves a path: a frozen table built from APIServices and ExternalNames. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aggregator.upstream.backend import Backend, ResolveError, backend_for, service_reference
from apimachinery.types import Object

LOCAL_NAME = "local"
"""Stands in metrics for everything that no APIService claims."""

_LEGACY = "v1."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """Where the requests of one APIService go. Compared by identity: a changed route is another route."""

    name: str
    local: bool
    """Served by the local API server; `available` and `backend` then mean nothing."""
    available: bool = True
    backend: Backend | None = None
    problem: ResolveError | None = None
    """Why there is no backend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """A snapshot of all routes; replaced whole, never changed."""

    local: Route
    complete: bool
    """False until the APIServices were listed once: an unknown path may then still turn out to be a remote one."""
    legacy: Route | None = None
    by_group_version: Mapping[tuple[bytes, bytes], Route] = field(default_factory=dict)

    @classmethod
    def unknown(cls) -> "RouteTable":
        """The table before anything was learned."""
        return cls(local=Route(name=LOCAL_NAME, local=True), complete=False)

    @classmethod
    def build(
        cls, apiservices: Iterable[Object], externalnames: Iterable[Object], previous: "RouteTable | None" = None
    ) -> "RouteTable":
        """Routes are keyed by the APIService's name; routes equal to those of `previous` keep their identity."""
        hosts = {(item["metadata"].get("namespace", ""), item["metadata"]["name"]): item for item in externalnames}
        known = previous.routes() if previous is not None else {}
        routes: dict[str, Route] = {}
        for apiservice in apiservices:
            name = apiservice["metadata"]["name"]
            fresh = _route(apiservice, hosts)
            old = known.get(name)
            routes[name] = old if old is not None and _same(old, fresh) else fresh
        by_group_version = {}
        for name, route in routes.items():
            version, _, group = name.partition(".")
            if group:
                by_group_version[group.encode(), version.encode()] = route
        local = previous.local if previous is not None else Route(name=LOCAL_NAME, local=True)
        return cls(local=local, complete=True, legacy=routes.get(_LEGACY), by_group_version=by_group_version)

    def routes(self) -> dict[str, Route]:
        """Every APIService's route by name."""
        found = {route.name: route for route in self.by_group_version.values()}
        if self.legacy is not None:
            found[self.legacy.name] = self.legacy
        return found

    def match(self, path: bytes) -> Route:
        """The route of a decoded path: `/apis/<group>/<version>` or anything below it; the local one otherwise."""
        parts = path.split(b"/", 4)
        if len(parts) >= 4:
            if parts[1] == b"apis":
                return self.by_group_version.get((parts[2], parts[3]), self.local)
            if parts[1] != b"api" or self.legacy is None:
                return self.local
            return self.legacy
        if self.legacy is not None and len(parts) >= 2 and parts[1] == b"api":
            return self.legacy
        return self.local


def names_group_version(path: bytes) -> bool:
    """Whether some APIService might claim this path."""
    parts = path.split(b"/", 4)
    return len(parts) >= 4 and parts[1] == b"apis" and bool(parts[2]) and bool(parts[3])


def _route(apiservice: Object, hosts: Mapping[tuple[str, str], Object]) -> Route:
    name = apiservice["metadata"]["name"]
    if service_reference(apiservice) is None:
        return Route(name=name, local=True)
    conditions = apiservice.get("status", {}).get("conditions") or ()
    available = any(item.get("type") == "Available" and item.get("status") == "True" for item in conditions)
    found = backend_for(apiservice, lambda namespace, service: hosts.get((namespace, service)))
    if isinstance(found, ResolveError):
        return Route(name=name, local=False, available=available, problem=found)
    return Route(name=name, local=False, available=available, backend=found)


def _same(old: Route, new: Route) -> bool:
    return (old.local, old.available, old.backend, old.problem) == (new.local, new.available, new.backend, new.problem)
