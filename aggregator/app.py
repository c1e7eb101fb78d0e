"""The composition root: everything that a running aggregator consists of, started and ended in order."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from example_service.resources import resources as example_resources
from example_service.resources import running_build
from prometheus_client import CollectorRegistry

from aggregator import bootstrap, keypair, reloads, remote_services, trust
from aggregator.access import Access, AccessError
from aggregator.api.authentication_config import TrustFiles
from aggregator.bootstrap import BootstrapError
from aggregator.errors import StartError
from aggregator.keypair import KeyPairError
from aggregator.kubeconfig import KubeconfigError
from aggregator.local import LocalServer, Parts
from aggregator.proxy.routes import RouteTable
from aggregator.proxy.server import Proxy
from aggregator.remote_services import RemoteServicesError
from aggregator.settings import Settings
from aggregator.trust import Trust
from aggregator.upstream.tls import UpstreamTLS, UpstreamTLSError
from apiserver import http1, logs, serving
from apiserver.auth.request_header import Authenticator
from apiserver.background import Background
from apiserver.endpoints import Endpoints, plain_app
from apiserver.health import HealthChecks
from apiserver.hooks import PostStartHooks
from apiserver.http_client import HttpListWatch
from apiserver.lifecycle import Shutdown
from apiserver.program import report_damaged
from apiserver.resource import Resource
from apiserver.serving import ListenError
from apiserver.storage.directory import DataDirectoryError
from apiserver.storage.file import FileStore
from apiserver.tls import TLSConfigError
from apiserver.version import version_document

_START_ERRORS = (
    AccessError,
    BootstrapError,
    DataDirectoryError,
    KeyPairError,
    KubeconfigError,
    ListenError,
    RemoteServicesError,
    TLSConfigError,
    UpstreamTLSError,
)
_PROXY_IDENTITY = (("X-Remote-User", "system:aggregator-proxy"), ("X-Remote-Group", "system:masters"))

log = logs.get("aggregator")


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. StartError, with one line for the user, when that cannot even begin."""
    shutdown = Shutdown()
    shutdown.install()
    failed = False

    def fail() -> None:
        nonlocal failed
        failed = True
        shutdown.request()

    try:
        async with contextlib.AsyncExitStack() as stack:
            local = await _start(settings, stack, shutdown, Background(fail))
            await shutdown.wait()
            await asyncio.sleep(settings.server.shutdown_delay_seconds)
            local.verbs.watcher.close()
    except _START_ERRORS as error:
        raise StartError(str(error)) from error
    if failed:
        raise StartError("a part of the server ended, see the log")
    log.info("stopped")


async def _start(
    settings: Settings, stack: contextlib.AsyncExitStack, shutdown: Shutdown, background: Background
) -> LocalServer:
    """Start everything; what has to be ended is on `stack`, so it ends in the opposite order."""
    directory = settings.paths.data / "grafana-apiserver"
    store = await stack.enter_async_context(FileStore.open(directory, on_damaged=report_damaged))
    credentials = bootstrap.ensure(settings, now=datetime.now(UTC))
    pair = settings.grafana_apiserver
    tls = UpstreamTLS(pair.proxy_client_cert_file, pair.proxy_client_key_file)
    collectors, health = CollectorRegistry(), HealthChecks()
    hooks = PostStartHooks(health)
    health.add("ping", lambda: None)
    health.add("shutdown", shutdown.check, endpoints=("readyz",))
    endpoints = Endpoints(health=health, collectors=collectors, version=version_document())
    access = Access(settings)
    stack.push_async_callback(access.stop)
    local = LocalServer(
        Parts(
            settings=settings,
            store=store,
            directory=directory,
            tls=tls,
            collectors=collectors,
            endpoints=endpoints,
            health=health,
            hooks=hooks,
            bundled=_bundled(settings),
            remote=_remote_services(settings),
            ca_bundle=_ca_bundle(settings),
            trust=TrustFiles(
                client_ca=credentials.client_ca_file,
                proxy_ca=pair.proxy_client_ca_file,
                proxy_certificate=pair.proxy_client_cert_file,
            ),
            access=access,
        )
    )
    stack.push_async_callback(background.stop)
    socket = await stack.enter_async_context(_private_socket(settings))
    api = await serving.serve(local.app, unix_path=socket, name="api")
    stack.push_async_callback(api.stop, settings.server.shutdown_grace_seconds)
    local.start(background)
    trusted = trust.load(settings, credentials)
    proxy = _proxy(settings, trusted, tls, socket, collectors, access)
    access.on_policy_change(proxy.plane.policy_changed)
    background.start("access", access.run())
    if local.controllers is not None:
        proxy.plane.on_unreachable = proxy.plane.pools.on_trouble = local.controllers.remote.report_failure
    if proxy.learner is not None:
        hooks.add("apiservice-registration-controller", proxy.learner.synced.wait)
    await _listen(settings, stack, proxy, endpoints)
    background.start("post-start hooks", hooks.run(), ends=True)
    files = reloads.reloader(collectors)
    reloads.follow_front_door(files, credentials, settings, trusted, proxy.plane.identities_changed)
    reloads.follow_client_pair(files, settings, tls, proxy.plane.certificates_changed)
    if local.controllers is not None:
        reloads.follow_bundle(files, settings, local.controllers.registration.use_bundle)
    reloads.follow_kubeconfig(files, settings, credentials)
    background.start("reload of files", files.run())
    background.start("certificate renewal", bootstrap.renew_daily(settings), ends=True)
    log.info("serving", url=settings.server.external_url, address=settings.server.bind_address, port=proxy.port)
    return local


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


@contextlib.asynccontextmanager
async def _private_socket(settings: Settings) -> AsyncIterator[Path]:
    """Where the local API server listens. Nobody else can reach into the directory of the default."""
    if settings.grafana_apiserver.api_socket is not None:
        yield settings.grafana_apiserver.api_socket
        return
    with tempfile.TemporaryDirectory(prefix="aggregator-") as directory:
        yield Path(directory) / "api.sock"


def _proxy(
    settings: Settings,
    trusted: Trust,
    tls: UpstreamTLS,
    socket: Path,
    collectors: CollectorRegistry,
    access: Access,
) -> Proxy:
    proxy = Proxy(
        ssl_context=trusted.tls.context,
        authenticator=Authenticator(request_header=trusted.front_proxy, certificates=trusted.certificates),
        authorizer=access.authorizer,
        tokens=access.tokens,
        client=_proxy_client(settings, socket),
        local_socket=socket,
        upstream_tls=tls,
        request_headers=settings.requestheader.names(),
    )
    collectors.register(proxy.metrics)
    return proxy


def _proxy_client(settings: Settings, socket: Path) -> HttpListWatch | None:
    if not settings.feature_toggles.kubernetes_aggregator:
        return None
    return HttpListWatch(http1.Target(unix_path=socket), _PROXY_IDENTITY)


async def _listen(settings: Settings, stack: contextlib.AsyncExitStack, proxy: Proxy, endpoints: Endpoints) -> None:
    """Open the ports: the plain one first, so that probes can watch the start."""
    server = settings.server
    if server.metrics_port:
        plain = await serving.serve(
            plain_app(endpoints), host=server.metrics_bind_address, port=server.metrics_port, name="metrics"
        )
        stack.push_async_callback(plain.stop)
    await proxy.start(server.bind_address, server.secure_port)
    stack.push_async_callback(proxy.stop, server.shutdown_grace_seconds)
    if proxy.learner is None:
        proxy.plane.install(RouteTable.build([], []))
