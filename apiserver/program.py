"""Running an aggregated API server: from flags and declared resources to a process that ends in order."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prometheus_client import CollectorRegistry
from starlette.types import Scope

from apimachinery import status
from apimachinery.authorization import Authorizer, Policy
from apimachinery.identity import User
from apimachinery.rbac import RuleBook
from apiserver import logs, memory
from apiserver.app import AppConfig, Authenticate, build_app
from apiserver.auth import remote_config
from apiserver.auth.access_webhook import AccessWebhook
from apiserver.auth.authorizer import Authorizers
from apiserver.auth.request_header import AuthenticationFailed, Authenticator, RequestHeaderAuthenticator
from apiserver.auth.trusted import lower_headers
from apiserver.auth.x509 import CertificateAuthenticator
from apiserver.background import Background
from apiserver.discovery import LocalDiscovery
from apiserver.endpoints import Endpoints, plain_app
from apiserver.flags import ServerFlags
from apiserver.health import HealthChecks
from apiserver.lifecycle import Shutdown
from apiserver.metrics import ServerMetrics
from apiserver.openapi import LocalOpenAPI, OpenAPIDocuments
from apiserver.registry import Registry
from apiserver.reload import Reloader, ReloadMetrics
from apiserver.resource import Resource
from apiserver.rest.context import Context
from apiserver.rest.dispatch import Verbs
from apiserver.serving import serve
from apiserver.storage.base import Store
from apiserver.storage.file import FileStore
from apiserver.storage.memory import MemoryStore
from apiserver.tls import ServerTLS
from apiserver.version import program_version, version_document

_DEBUG_VERBOSITY = 4
_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_DELEGATED_SECONDS = 10.0
"""How long the parent's word counts, as in the originals."""

log = logs.get("program")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """An aggregated API server as its author declares it."""

    title: str
    """Shown in the OpenAPI documents."""
    resources: Sequence[Resource]


async def run(program: Program, flags: ServerFlags) -> None:
    """Serve until SIGTERM or SIGINT. Raises what opening files, sockets and directories raises, with one-line texts:
    TLSConfigError, ListenError, DataDirectoryError, FileError."""
    logs.configure("debug" if flags.verbosity >= _DEBUG_VERBOSITY else "info", _log_format(flags))
    shutdown = Shutdown()
    shutdown.install()
    collectors, health = CollectorRegistry(), HealthChecks()
    health.add("ping", lambda: None)
    health.add("shutdown", shutdown.check, endpoints=("readyz",))
    registry = Registry(_enabled(program.resources, flags))
    tls = ServerTLS(
        flags.cert,
        flags.key,
        [path for path in (flags.requestheader_ca, flags.client_ca) if path is not None],
        ["http/1.1", "h2"],
    )
    files = Reloader(ReloadMetrics(collectors, prefix="apiserver"))
    failures: list[str] = []

    def fail() -> None:
        failures.append("a part of the server ended, see the log")
        shutdown.request()

    background = Background(fail)
    endpoints = Endpoints(health=health, collectors=collectors, version=version_document())
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(_open_store(flags.data_dir))
        verbs = Verbs(Context(store=store))
        discovery = LocalDiscovery(registry)
        openapi = LocalOpenAPI(registry, title=program.title, version=program_version())
        app = build_app(
            AppConfig(
                registry=registry,
                verbs=verbs,
                authenticate=authenticate_peers(_authenticator(flags, tls, files)),
                authorizer=_authorizer(flags, stack),
                endpoints=endpoints,
                metrics=ServerMetrics(collectors),
                documents=[discovery, OpenAPIDocuments(openapi, time.time)],
                paths=lambda: discovery.paths,
            )
        )
        grace = flags.shutdown_grace_seconds
        if flags.metrics_port:
            plain = await serve(
                plain_app(endpoints), host=flags.metrics_bind_address, port=flags.metrics_port, name="metrics"
            )
            stack.push_async_callback(plain.stop)
        server = await serve(
            app, host=flags.bind_address, port=flags.secure_port, ssl_context=tls.context, name="secure"
        )
        background.start("reload of files", files.run())
        background.start("memory", memory.keep_small())
        stack.push_async_callback(background.stop)
        log.info("serving", address=f"{flags.bind_address}:{server.port}", groups=_names(registry))
        await shutdown.wait()
        server.connections.announce_end()
        await asyncio.sleep(flags.shutdown_delay_seconds)
        verbs.watcher.close()
        await server.stop(grace)
    if failures:
        raise RuntimeError(failures[0])
    log.info("stopped")


def authenticate_peers(authenticator: Authenticator) -> Authenticate:
    """Identity by the peer's certificate and, for front proxies, by its headers."""

    def authenticate(scope: Scope) -> User | None:
        certificate: bytes | None = scope["state"].get("peer_certificate")
        outcome = authenticator.authenticate(certificate, lower_headers(scope))
        if isinstance(outcome, AuthenticationFailed):
            log.info("authentication failed", reason=outcome.reason)
            raise status.unauthorized()
        return outcome

    return authenticate


def _authenticator(flags: ServerFlags, tls: ServerTLS, files: Reloader) -> Authenticator:
    """Who may come in; `files` makes it, and the listener, follow their files."""
    front_proxy = RequestHeaderAuthenticator(
        flags.requestheader_ca,
        crl_file=flags.requestheader_crl,
        allowed_names=flags.allowed_names,
        names=flags.requestheader_names,
    )
    direct = None
    if flags.client_ca is not None:
        direct = CertificateAuthenticator(flags.client_ca, crl_file=flags.client_crl)
    files.watch("serving", tls.files, tls.reload, certificates=flags.cert)
    proxies = front_proxy.verifier
    files.watch("requestheader-ca", proxies.files, proxies.reload, certificates=flags.requestheader_ca)
    if direct is not None:
        files.watch("client-ca", direct.verifier.files, direct.verifier.reload, certificates=flags.client_ca)
    return Authenticator(request_header=front_proxy, certificates=direct)


def _authorizer(flags: ServerFlags, stack: contextlib.AsyncExitStack) -> Authorizer:
    """Who may do what: what the parent says, where there is one to ask (aggregator.md 9.1)."""
    if flags.authorization_kubeconfig is None:
        return Policy()
    parent = remote_config.load(flags.authorization_kubeconfig)
    webhook = AccessWebhook(
        replace(parent, path=parent.path.rstrip("/") + _ACCESS_REVIEWS),
        authorized_seconds=_DELEGATED_SECONDS,
        unauthorized_seconds=_DELEGATED_SECONDS,
    )
    stack.push_async_callback(webhook.stop)
    return Authorizers(Policy(), RuleBook(), webhook)


def _enabled(resources: Iterable[Resource], flags: ServerFlags) -> list[Resource]:
    return [resource for resource in resources if resource.group_version not in flags.disabled]


def _log_format(flags: ServerFlags) -> logs.Format:
    return "json" if flags.log_format == "json" else "logfmt"


def _names(registry: Registry) -> str:
    return ",".join(map(str, registry.group_versions()))


@contextlib.asynccontextmanager
async def _open_store(directory: Path | None) -> AsyncIterator[Store]:
    if directory is None:
        yield MemoryStore()
        return
    async with FileStore.open(directory, on_damaged=report_damaged) as store:
        yield store


def report_damaged(path: Path, reason: str) -> None:
    log.error("damaged object set aside", path=str(path), reason=reason)
