"""The API server's half of the program, from the settings to its socket: store, certificates, kinds, controllers.

The one place where it is put together, whether the proxy shares its process or not.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from example_service.resources import resources as example_resources
from example_service.resources import running_build
from starlette.types import ASGIApp

from aggregator import bootstrap, front, keypair, reloads, remote_services
from aggregator.access import Access
from aggregator.api.authentication_config import TrustFiles
from aggregator.base import Base
from aggregator.bootstrap import Credentials
from aggregator.local import LocalServer, Parts
from aggregator.settings import Settings
from aggregator.upstream.tls import UpstreamTLS
from apiserver import serving
from apiserver.endpoints import Endpoints
from apiserver.hooks import PostStartHooks
from apiserver.program import report_damaged
from apiserver.reload import Reloader
from apiserver.resource import Resource
from apiserver.storage.file import FileStore
from apiserver.version import version_document


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOffice:
    """The running API server. `hooks` have not been run yet: others may add to them."""

    local: LocalServer
    credentials: Credentials
    access: Access
    tls: UpstreamTLS
    endpoints: Endpoints
    hooks: PostStartHooks

    def report_failure(self, apiservice: str) -> None:
        """A backend could not be reached: have it checked now."""
        if self.local.controllers is not None:
            self.local.controllers.remote.report_failure(apiservice)


async def start(base: Base, socket: Path, wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> BackOffice:
    """Open the store, issue what certificates are missing, and serve `wrap` of the application on `socket`.

    Raises one of START_ERRORS.
    """
    settings, stack = base.settings, base.stack
    directory = settings.paths.data / "grafana-apiserver"
    store = await stack.enter_async_context(FileStore.open(directory, on_damaged=report_damaged))
    credentials = bootstrap.ensure(settings, now=datetime.now(UTC))
    tls = front.upstream_tls(settings)
    hooks = PostStartHooks(base.health)
    endpoints = Endpoints(health=base.health, collectors=base.collectors, version=version_document())
    access = Access(settings)
    stack.push_async_callback(access.stop)
    local = LocalServer(
        Parts(
            settings=settings,
            store=store,
            directory=directory,
            tls=tls,
            collectors=base.collectors,
            endpoints=endpoints,
            health=base.health,
            hooks=hooks,
            bundled=_bundled(settings),
            remote=_remote_services(settings),
            ca_bundle=_ca_bundle(settings),
            trust=TrustFiles(
                client_ca=credentials.client_ca_file,
                proxy_ca=settings.grafana_apiserver.proxy_client_ca_file,
                proxy_certificate=settings.grafana_apiserver.proxy_client_cert_file,
            ),
            access=access,
        )
    )
    stack.push_async_callback(base.background.stop)
    api = await serving.serve(wrap(local.app), unix_path=socket, name="api")
    stack.push_async_callback(api.stop, settings.server.shutdown_grace_seconds)
    local.start(base.background)
    return BackOffice(local=local, credentials=credentials, access=access, tls=tls, endpoints=endpoints, hooks=hooks)


def follow_files(base: Base, office: BackOffice, files: Reloader) -> None:
    """What the API server stands on, and what it writes for users. Raises StartError, KubeconfigError."""
    office.access.follow(files)
    if office.local.controllers is not None:
        reloads.follow_bundle(files, base.settings, office.local.controllers.registration.use_bundle)
    reloads.follow_kubeconfig(files, base.settings, office.credentials)
    base.background.start("certificate renewal", bootstrap.renew_daily(base.settings), ends=True)


@contextlib.asynccontextmanager
async def private_socket(settings: Settings) -> AsyncIterator[Path]:
    """Where the API server listens. Nobody else can reach into the directory of the default."""
    if settings.grafana_apiserver.api_socket is not None:
        yield settings.grafana_apiserver.api_socket
        return
    with tempfile.TemporaryDirectory(prefix="aggregator-") as directory:
        yield Path(directory) / "api.sock"


def _bundled(settings: Settings) -> list[Resource]:
    return list(example_resources(running_build())) if settings.feature_toggles.with_experimental_apis else []


def _remote_services(settings: Settings) -> tuple[remote_services.RemoteService, ...]:
    file = settings.grafana_apiserver.remote_services_file
    return remote_services.load(file) if file is not None else ()


def _ca_bundle(settings: Settings) -> bytes | None:
    """The PEM text that goes into the caBundle of registered services; checked before anything stands on it."""
    file = settings.grafana_apiserver.apiservice_ca_bundle_file
    if file is None:
        return None
    return keypair.read_certificates(file)
