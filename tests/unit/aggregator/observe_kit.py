"""What the tests of audit, access log and traces share: a proxy that is observed, and what it recorded."""

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from aggregator.observe import audit_policy_file
from aggregator.observe.access_log import AccessLog
from aggregator.observe.audit import AuditLog
from aggregator.observe.rotating import RotatingFile
from aggregator.proxy.observer import Observer, Sink
from aggregator.proxy.server import Proxy
from tests.unit.aggregator.proxy_kit import PKI, Backend, Handler, apiservice, backend, proxy

POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n"


@contextlib.asynccontextmanager
async def observed(
    pki: PKI, handler: Handler, sinks: Sequence[Sink], alpn: Sequence[str] = ("http/1.1",)
) -> AsyncIterator[tuple[Proxy, Backend]]:
    """A proxy whose requests the sinks are told of, in front of one backend."""
    async with (
        backend(handler, pki.server_context("backend")) as upstream,
        proxy(pki, [apiservice(upstream.port, pki.ca.pem)], alpn=alpn) as served,
    ):
        served.plane.observer = Observer(sinks)
        yield served, upstream


class Recorder:
    """An audit log and an access log with their files."""

    def __init__(self, directory: Path, rules: str, *, body_bytes: int = 65536) -> None:
        self._audit_file, self._access_file = directory / "audit.log", directory / "access.log"
        policy = audit_policy_file.parse(POLICY + rules, "policy")
        self.audit = AuditLog(policy, RotatingFile(self._audit_file), body_bytes=body_bytes, queue=1000)
        self.access = AccessLog(RotatingFile(self._access_file), "json")
        self.sinks: tuple[Sink, ...] = (self.audit, self.access)

    def stop(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """All events and all access lines."""
        self.audit.stop()
        self.access.stop()
        return _lines(self._audit_file), _lines(self._access_file)


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
