"""Records as events of the API group audit.k8s.io/v1. Pure."""

import zlib
from typing import Any, Final

import orjson

from aggregator.observe import render
from aggregator.observe.audit_policy import LEVEL_NAMES, Level, Stage, Wanted
from aggregator.proxy.observer import Body, Record
from apimachinery.identity import User
from apimachinery.request_info import RequestInfo

TRUNCATED: Final = "audit.k8s.io/truncated"
"""Set where a body was too large to be recorded, as the originals do."""
_NOT_JSON: Final = "aggregator/{}-not-recorded"
_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31


def event(record: Record, wanted: Wanted, stage: Stage, code: int, moment: float) -> bytes:
    """One line: the event of a stage. `code` is the response's; 0 before there is one."""
    assert record.target is not None
    info = record.target.info
    found: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": LEVEL_NAMES[wanted.level],
        "auditID": record.audit_id.decode(),
        "stage": stage.value,
        "requestURI": render.uri(record.raw_target),
        "verb": info.verb,
        "user": _user(record.user),
    }
    if record.impersonated is not None:
        found["impersonatedUser"] = _user(record.impersonated)
    found["sourceIPs"] = render.addresses(record.forwarded_for, record.peer)
    agent = render.field(record.lines, b"user-agent:")
    if agent:
        found["userAgent"] = agent
    if info.is_resource:
        found["objectRef"] = _reference(info)
    annotations: dict[str, str] = {}
    if stage is not Stage.REQUEST_RECEIVED:
        if code:
            found["responseStatus"] = _status(record, code)
        if record.allowed is not None:
            annotations["authorization.k8s.io/decision"] = "allow" if record.allowed else "forbid"
            annotations["authorization.k8s.io/reason"] = record.reason
        _bodies(record, wanted, stage, found, annotations)
    found["requestReceivedTimestamp"] = render.timestamp(record.received)
    found["stageTimestamp"] = render.timestamp(moment)
    if annotations:
        found["annotations"] = annotations
    return orjson.dumps(found) + b"\n"


def _user(user: User | None) -> dict[str, Any]:
    if user is None:
        return {}
    found: dict[str, Any] = {"username": user.name}
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = list(user.groups)
    if user.extra:
        found["extra"] = {key: list(values) for key, values in user.extra.items()}
    return found


def _reference(info: RequestInfo) -> dict[str, str]:
    pairs = (
        ("resource", info.resource),
        ("namespace", info.namespace),
        ("name", info.name),
        ("apiGroup", info.group),
        ("apiVersion", info.version),
        ("subresource", info.subresource),
    )
    return {key: value for key, value in pairs if value}


def _status(record: Record, code: int) -> dict[str, Any]:
    """The code, and the words of an answer that was the proxy's own."""
    found: dict[str, Any] = {"metadata": {}}
    reply = record.reply
    if reply is not None and reply.code >= 400:
        document = _document(reply.body)
        found["status"] = "Failure"
        if isinstance(document, dict):
            found.update((key, document[key]) for key in ("message", "reason") if document.get(key))
        else:
            found["message"] = reply.body.decode("utf-8", "replace").strip()
    found["code"] = code
    return found


def _bodies(record: Record, wanted: Wanted, stage: Stage, found: dict[str, Any], annotations: dict[str, str]) -> None:
    """Add what was captured. A body that is not JSON (protobuf, YAML) is named, not recorded."""
    bodies = [("request", record.request_body)]
    if stage is Stage.RESPONSE_COMPLETE and wanted.level is Level.REQUEST_RESPONSE:
        bodies.append(("response", record.response_body))
    for name, body in bodies:
        if body is None:
            continue
        data = _plain(body)
        if data is None:
            annotations[TRUNCATED] = "true"
        elif data:
            document = _document(data)
            if document is None:
                annotations[_NOT_JSON.format(name)] = "not JSON"
            else:
                found[f"{name}Object"] = _without_managed_fields(document) if wanted.omit_managed_fields else document
    if found["verb"] == "create" and "name" not in found.get("objectRef", {"name": ""}):
        made = _member(_member(found.get("requestObject"), "metadata"), "name")
        if isinstance(made, str) and made:
            found["objectRef"]["name"] = made


def _plain(body: Body) -> bytes | None:
    """The body without compression; None when it is larger than allowed, compressed or not."""
    if body.truncated:
        return None
    data = body.data
    if not data.startswith(_GZIP):
        return data
    inflate = zlib.decompressobj(_GZIP_WINDOW)
    try:
        data = inflate.decompress(data, body.limit)
    except zlib.error:
        return data
    return None if inflate.unconsumed_tail else data


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _document(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _without_managed_fields(document: Any) -> Any:
    items = _member(document, "items")
    for item in (document, *(items if isinstance(items, list) else ())):
        metadata = _member(item, "metadata")
        if isinstance(metadata, dict):
            metadata.pop("managedFields", None)
    return document
