"""What the settings want recorded, put together: sinks, their files, and the observer that feeds them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from aggregator.errors import StartError
from aggregator.observe import audit_policy_file
from aggregator.observe.access_log import AccessLog
from aggregator.observe.audit import AuditLog
from aggregator.observe.audit_policy import AuditPolicy
from aggregator.observe.rotating import RotatingFile, StandardOutput
from aggregator.observe.writer import Output
from aggregator.proxy.observer import Observer, Sink
from aggregator.settings.model import Settings
from apiserver import logs
from apiserver.auth.watched import WatchedFile
from apiserver.auth.yaml_fields import FileError
from apiserver.reload import Reloader
from apiserver.version import program_version

STANDARD_OUTPUT = "-"
_MEGABYTE = 1024 * 1024


class Observation:
    """Everything that is recorded of requests; `observer` is None when nothing is. StartError."""

    def __init__(self, settings: Settings, collectors: CollectorRegistry) -> None:
        self._stops: list[Callable[[], None]] = []
        self._policy: WatchedFile[AuditPolicy] | None = None
        self._policy_changed: Callable[[], None] = _nothing
        sinks: list[Sink] = []
        if settings.tracing.otlp_endpoint:
            sinks.append(self._tracer(settings))
        if settings.audit.policy_file is not None:
            self._policy, audit = _audit(settings, settings.audit.policy_file)
            self._audit: AuditLog | None = audit
            collectors.register(audit)
            self._stops.append(audit.stop)
            sinks.append(audit)
        else:
            self._audit = None
        file = settings.access_log
        if file.path:
            access = AccessLog(_output(file.path, file.maxsize, file.maxbackup, file.maxage), _format(settings))
            collectors.register(access)
            self._stops.append(access.stop)
            sinks.append(access)
        self.observer = Observer(sinks) if sinks else None

    def on_policy_change(self, changed: Callable[[], None]) -> None:
        """Call back whenever another audit policy is in force."""
        self._policy_changed = changed

    def follow(self, files: Reloader) -> None:
        """Have the policy file looked at; a bad one is a FileError."""
        policy, audit = self._policy, self._audit
        if policy is None or audit is None:
            return

        def load() -> bool:
            changed = policy.reload()
            if changed:
                audit.policy = policy.value
                self._policy_changed()
            return changed

        files.watch("audit-policy", [policy.path], load)

    async def stop(self) -> None:
        """Write and send what is waiting, at most a few seconds."""
        await asyncio.gather(*(asyncio.to_thread(stop) for stop in self._stops))

    def _tracer(self, settings: Settings) -> Sink:
        try:
            from aggregator.observe.tracing import Tracer
        except ImportError as error:
            raise StartError(
                f"[tracing] otlp_endpoint is set, but {error.name or error} is not installed: "
                "pip install 'api-aggregator[otel]'"
            ) from None
        tracer = Tracer(
            settings.tracing.otlp_endpoint, ratio=settings.tracing.sampling_ratio, version=program_version()
        )
        self._stops.append(tracer.stop)
        return tracer


def _audit(settings: Settings, policy_file: Path) -> tuple[WatchedFile[AuditPolicy], AuditLog]:
    wanted = settings.audit
    try:
        policy = WatchedFile(policy_file, audit_policy_file.load)
    except FileError as error:
        raise StartError(str(error)) from None
    output = _output(wanted.log_path, wanted.log_maxsize, wanted.log_maxbackup, wanted.log_maxage)
    return policy, AuditLog(
        policy.value, output, body_bytes=wanted.max_body_bytes, queue=wanted.queue, block=wanted.when_full == "block"
    )


def _output(path: str, megabytes: int, backups: int, days: int) -> Output:
    if path == STANDARD_OUTPUT:
        return StandardOutput()
    try:
        return RotatingFile(Path(path), max_bytes=megabytes * _MEGABYTE, max_backups=backups, max_age_days=days)
    except OSError as error:
        raise StartError(f"cannot write {path}: {error.strerror}") from None


def check(settings: Settings) -> None:
    """Read the policy, as a start would. FileError."""
    if settings.audit.policy_file is not None:
        audit_policy_file.load(settings.audit.policy_file)


def _format(settings: Settings) -> logs.Format:
    return "json" if settings.log.format == "json" else "logfmt"


def _nothing() -> None:
    """Nobody wants to know."""
