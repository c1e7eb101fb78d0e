"""Files that take effect again when they change: one poller, which works on every kind of mount and link."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from apiserver import logs
from apiserver.auth.x509 import load_bundle
from apiserver.tls import TLSConfigError

POLL_SECONDS: Final = 1.0

log = logs.get("reload")

Stamp = tuple[int, int, int] | None
_Stamps = tuple[Stamp, ...]


class ReloadMetrics:
    """How often files were taken over or refused, and until when the certificates in force are valid."""

    def __init__(self, collectors: CollectorRegistry, *, prefix: str) -> None:
        self.reloads = Counter(
            f"{prefix}_file_reloads",
            "Changed files that were read again, by what was read and by outcome: success, or failure when the files "
            "do not fit together and the former ones stay in force.",
            ["name", "result"],
            registry=collectors,
        )
        self.expiration = Gauge(
            f"{prefix}_certificate_expiration_timestamp_seconds",
            "When the certificate in force, or the first of a bundle, expires; seconds since the epoch.",
            ["name"],
            registry=collectors,
        )


class _Watch:
    """Files that are read together."""

    def __init__(self, name: str, files: Iterable[Path], load: Callable[[], bool], certificates: Path | None) -> None:
        self.name = name
        self.load = load
        self.certificates = certificates
        self.stamp: _Stamps | None = None
        self.problem = ""
        self._files = tuple(files)

    def look(self) -> _Stamps:
        return tuple(stamp(file) for file in self._files)


class Reloader:
    """Looks at the files about every second; one `stat` each, and nothing more while nothing changes.

    TLSConfigError and what `unusable` adds mean that files cannot be used as they are: the former state stays, the
    problem is logged once, and the files are read again on every look until they fit. Any other error ends `run`.
    """

    def __init__(self, metrics: ReloadMetrics, *, unusable: tuple[type[Exception], ...] = ()) -> None:
        self._metrics = metrics
        self._unusable: tuple[type[Exception], ...] = (TLSConfigError, *unusable)
        self._watches: list[_Watch] = []

    def watch(
        self, name: str, files: Iterable[Path], load: Callable[[], bool], *, certificates: Path | None = None
    ) -> None:
        """Call `load` when one of the files changes; it returns whether something else is in force now.

        What has been loaded before is loaded once more by the first look, so that a change in between is not missed:
        `load` of unchanged files costs little and returns False. All watches are looked at in one turn of the loop, in
        the order they were added, so that what shares a file changes together. The expiration of `certificates`, a PEM
        file, is a metric under the same name.
        """
        self._watches.append(_Watch(name, files, load, certificates))
        for result in ("success", "failure"):
            self._metrics.reloads.labels(name, result)
        if certificates is not None:
            self._metrics.expiration.labels(name).set(_expiration(certificates))

    def poll(self) -> None:
        """One look at everything."""
        for watch in self._watches:
            # Before reading: a change that comes while the files are read is seen by the next look.
            stamp = watch.look()
            if stamp != watch.stamp or watch.problem:
                self._load(watch)
                watch.stamp = stamp

    async def run(self, seconds: float = POLL_SECONDS) -> None:
        """Look every so many seconds until cancelled."""
        while True:
            self.poll()
            await asyncio.sleep(seconds)

    def _load(self, watch: _Watch) -> None:
        try:
            changed = watch.load()
            expiration = _expiration(watch.certificates) if watch.certificates is not None else None
        except self._unusable as error:
            problem = str(error)
            if problem != watch.problem:
                watch.problem = problem
                log.warning("changed files not usable, the former stay in force", name=watch.name, error=problem)
                self._metrics.reloads.labels(watch.name, "failure").inc()
            return
        watch.problem = ""
        if expiration is not None:
            self._metrics.expiration.labels(watch.name).set(expiration)
        if changed:
            log.info("changed files are in force", name=watch.name)
            self._metrics.reloads.labels(watch.name, "success").inc()


def stamp(file: Path) -> Stamp:
    """What tells that a file was written or replaced, also behind a link; None when it cannot be looked at."""
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _expiration(file: Path) -> float:
    """When the first certificate of a PEM file expires, in epoch seconds."""
    return min(certificate.not_valid_after_utc.timestamp() for certificate in load_bundle(file))
