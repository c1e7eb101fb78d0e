"""Registering the servers of `tests.support.backends` with an aggregator that runs."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

SERVICE = "backends"
SERVER_NAME = f"{SERVICE}.default.svc"
"""What the certificate of the servers must be for."""


class Reply(Protocol):
    @property
    def code(self) -> int: ...

    @property
    def body(self) -> bytes: ...


Send = Callable[[str, str, bytes, Mapping[str, str]], Reply]
"""Method, path, body, headers."""


def register(send: Send, ports: Mapping[str, int], ca: bytes) -> None:
    """Create an APIService for each group; all servers stand behind one ExternalName, on ports of their own."""
    external = {
        "apiVersion": "service.grafana.app/v0alpha1",
        "kind": "ExternalName",
        "metadata": {"name": SERVICE, "namespace": "default"},
        "spec": {"host": "127.0.0.1"},
    }
    _create(send, "/apis/service.grafana.app/v0alpha1/namespaces/default/externalnames", external)
    for position, (group, port) in enumerate(ports.items()):
        obj = {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"v1.{group}"},
            "spec": {
                "group": group,
                "version": "v1",
                "groupPriorityMinimum": 1000 + position,
                "versionPriority": 15,
                "caBundle": base64.b64encode(ca).decode(),
                "service": {"namespace": "default", "name": SERVICE, "port": port},
            },
        }
        _create(send, "/apis/apiregistration.k8s.io/v1/apiservices", obj)


def availability(send: Send, groups: Sequence[str]) -> dict[str, str]:
    """The status of the Available condition by group; empty while there is none."""
    reply = send("GET", "/apis/apiregistration.k8s.io/v1/apiservices", b"", {})
    found: dict[str, str] = {}
    for obj in json.loads(reply.body)["items"]:
        conditions = obj.get("status", {}).get("conditions", [])
        available = next((item["status"] for item in conditions if item["type"] == "Available"), "")
        found[obj["spec"]["group"]] = available
    return {group: found.get(group, "") for group in groups}


def _create(send: Send, path: str, obj: Mapping[str, Any]) -> None:
    reply = send("POST", path, json.dumps(obj).encode(), {"content-type": "application/json"})
    assert reply.code in (201, 409), reply.body
