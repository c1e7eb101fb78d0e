"""Certificates for an aggregator that was given none: it issues its own under its data directory."""

import asyncio
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from aggregator.settings import Settings
from apiserver import logs
from pki import files, write
from pki.plan import AGGREGATOR_SANS, Action, CertificatePlan, PKIError, self_issued_plan

_SERVING = ("ca", "aggregator")
_CLIENT = ("client-ca", "admin")
_PRIVATE_DIRECTORY = 0o700
_RETRY_SECONDS = 3600.0

DAY_SECONDS = 86400.0

log = logs.get("bootstrap")


class BootstrapError(Exception):
    """Certificates cannot be issued; one line that names the file or directory at fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The files in effect: those of the settings, or issued ones."""

    tls_cert_file: Path
    tls_private_key_file: Path
    tls_ca_file: Path
    """What verifies `tls_cert_file`."""
    client_ca_file: Path
    """What verifies users' client certificates."""
    admin_cert_file: Path | None
    """Client certificate of an administrator for the kubeconfig; None when the settings name none."""
    admin_key_file: Path | None
    changed: tuple[str, ...]
    """Names of the certificates that this call issued; empty when all were still good."""


def pki_directory(data: Path) -> Path:
    """Where the issued certificates are, under the data directory of the settings."""
    return data / "grafana-apiserver" / "pki"


def ensure(settings: Settings, *, now: datetime) -> Credentials:
    """Issue what the settings do not name and what is near its end; keep the rest. `now` has a time zone.

    Raises BootstrapError.
    """
    directory = pki_directory(settings.paths.data)
    plans = _plans(settings)
    changed: tuple[str, ...] = ()
    if plans:
        try:
            outcomes = write.issue(directory, plans, now=now, directory_mode=_PRIVATE_DIRECTORY)
            # A directory from elsewhere, a restored backup say, may be open to others.
            directory.chmod(_PRIVATE_DIRECTORY)
        except PKIError as error:
            raise BootstrapError(f"cannot issue certificates in {directory}: {error}") from None
        except OSError as error:
            raise BootstrapError(f"{directory}: {error.strerror}") from None
        changed = tuple(outcome.name for outcome in outcomes if outcome.action is not Action.KEEP)
    return _credentials(settings, directory, changed)


def in_effect(settings: Settings) -> Credentials:
    """The files that `ensure` has left, which another process has called."""
    return _credentials(settings, pki_directory(settings.paths.data), ())


async def renew_daily(settings: Settings, *, seconds: float = DAY_SECONDS) -> None:
    """Call `ensure` every so many seconds until cancelled; returns at once where nothing is self-issued.

    What it writes takes effect like any other changed file. A failure is logged and tried again within the hour:
    certificates are renewed weeks before they expire.
    """
    if not _plans(settings):
        return
    pause = seconds
    while True:
        await asyncio.sleep(pause)
        try:
            # Making keys and waiting for the disk takes longer than a turn of the loop may.
            credentials = await asyncio.to_thread(ensure, settings, now=datetime.now(UTC))
        except BootstrapError as error:
            log.error("certificates not renewed", error=str(error))
            pause = min(seconds, _RETRY_SECONDS)
            continue
        pause = seconds
        if credentials.changed:
            log.info("certificates renewed", names=",".join(credentials.changed))


def _plans(settings: Settings) -> list[CertificatePlan]:
    wanted: set[str] = set()
    if settings.server.tls_cert_file is None:
        wanted.update(_SERVING)
    if settings.server.client_ca_file is None:
        wanted.update(_CLIENT)
    return [plan for plan in self_issued_plan(serving_names(settings)) if plan.name in wanted]


def serving_names(settings: Settings) -> tuple[str, ...]:
    """The names an issued serving certificate is for: the usual ones, the external URL's host, the bound address."""
    names = [*AGGREGATOR_SANS, urlsplit(settings.server.external_url).hostname or ""]
    try:
        address = ipaddress.ip_address(settings.server.bind_address)
    except ValueError:
        address = None
    if address is not None and not address.is_unspecified:
        names.append(str(address))
    return tuple(dict.fromkeys(name for name in names if name))


def _credentials(settings: Settings, directory: Path, changed: tuple[str, ...]) -> Credentials:
    server, apiserver = settings.server, settings.grafana_apiserver
    serving_cert, serving_key = server.tls_cert_file, server.tls_private_key_file
    serving_ca = server.tls_ca_file or serving_cert
    if serving_cert is None or serving_key is None:
        serving_cert, serving_key = files.paths(directory, "aggregator")
        serving_ca = files.paths(directory, "ca")[0]
    admin_cert, admin_key = apiserver.kubectl_client_cert_file, apiserver.kubectl_client_key_file
    client_ca = server.client_ca_file
    if client_ca is None:
        client_ca = files.paths(directory, "client-ca")[0]
        if admin_cert is None:
            admin_cert, admin_key = files.paths(directory, "admin")
    return Credentials(
        tls_cert_file=serving_cert,
        tls_private_key_file=serving_key,
        tls_ca_file=serving_ca or serving_cert,
        client_ca_file=client_ca,
        admin_cert_file=admin_cert,
        admin_key_file=admin_key,
        changed=changed,
    )
