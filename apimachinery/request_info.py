"""What a request is about, read from its method and URL (rest.md A3.1, aggregator.md 8.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from apimachinery.options import Query, first, parse_bool
from apimachinery.selectors import FieldSelector

_VERBS: Final = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_PATH_VERBS: Final = frozenset({"proxy", "watch"})
_NAMESPACE_SUBRESOURCES: Final = frozenset({"status", "finalize"})
_LONG_RUNNING_VERBS: Final = frozenset({"watch", "proxy"})
_LONG_RUNNING_SUBRESOURCES: Final = frozenset({"attach", "exec", "proxy", "log", "portforward"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """The attributes of a request that routing and authorization decide on. Empty strings mean "not given"."""

    verb: str
    """For a resource: get, list, watch, create, update, patch, delete, deletecollection, proxy, or empty for an unknown
    method. For anything else: the method in lower case."""
    path: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""


def _is_path_segment(name: str) -> bool:
    return name not in (".", "..") and "/" not in name and "%" not in name


def _without_name(query: Query) -> tuple[str, str]:
    """The verb of a GET on a collection, and the name that its field selector pins."""
    verb = "watch" if "watch" in query and parse_bool(first(query, "watch")) else "list"
    try:
        pinned = FieldSelector.parse(first(query, "fieldSelector")).exact("metadata.name")
    except ValueError:
        pinned = None
    return verb, pinned if pinned and _is_path_segment(pinned) else ""


def split_namespace(parts: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The namespace that the segments behind the version name, and those from the resource on.

    A namespace itself is in its own namespace: `namespaces/n` names `n` and stays whole.
    """
    if parts[0] != "namespaces" or len(parts) < 2:
        return "", parts
    if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
        return parts[1], parts[2:]
    return parts[1], parts


def parse_request_info(method: str, path: str, query: Query) -> RequestInfo:
    """Read a request line; `path` is percent-decoded. ValueError for a `watch` or `proxy` prefix with nothing after it.

    A query that does not parse is no error here: it only keeps a field selector from naming an object.
    """
    other = RequestInfo(verb=method.lower(), path=path)
    trimmed = path.strip("/")
    parts: Sequence[str] = trimmed.split("/") if trimmed else []
    if len(parts) < 3 or parts[0] not in ("api", "apis"):
        return other
    group = ""
    if parts[0] == "apis":
        if len(parts) < 4:
            return other
        group, parts = parts[1], parts[1:]
    version, parts = parts[1], parts[2:]
    verb = _VERBS.get(method, "")
    if parts[0] in _PATH_VERBS:
        if len(parts) < 2:
            raise ValueError(f"unable to determine kind and namespace from url, {path}")
        verb, parts = parts[0], parts[1:]
    namespace, parts = split_namespace(parts)
    resource = parts[0]
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 and verb != "proxy" else ""
    if not name and verb == "get":
        verb, name = _without_name(query)
    if not name and verb == "delete":
        verb = "deletecollection"
    return RequestInfo(
        verb=verb,
        path=path,
        is_resource=True,
        group=group,
        version=version,
        namespace=namespace,
        resource=resource,
        name=name,
        subresource=subresource,
    )


def is_long_running(info: RequestInfo) -> bool:
    """Whether a request may outlive the request deadline: watches, proxying and streams into containers."""
    if not info.is_resource:
        return False
    return info.verb in _LONG_RUNNING_VERBS or info.subresource in _LONG_RUNNING_SUBRESOURCES
