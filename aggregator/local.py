"""The aggregator's own API server: its kinds, its storage and its controllers, served to the proxy on a unix socket."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from aggregator.access import Access
from aggregator.api import apiservice, authentication_config, externalname, namespaces, references, reviews
from aggregator.api.authentication_config import ConfigPublisher, TrustFiles, read_trust
from aggregator.api.autoregister import AutoRegister
from aggregator.api.availability import LocalAvailability, RemoteAvailability
from aggregator.api.availability_metrics import AvailabilityMetrics
from aggregator.api.completion import CompletionCheck
from aggregator.api.desired import Mode
from aggregator.api.discovery_fetch import DiscoveryFetcher
from aggregator.api.discovery_manager import DiscoveryManager, DiscoverySettings
from aggregator.api.namespaces import NamespaceMirror
from aggregator.api.openapi_aggregator import OpenAPIAggregator
from aggregator.api.openapi_fetch import OpenAPIFetcher
from aggregator.api.openapi_metrics import RegenerationMetrics
from aggregator.api.priorities import local_apiservices
from aggregator.api.prober import ProbeLimits, Prober
from aggregator.api.refs import APISERVICES, EXTERNALNAMES
from aggregator.api.remote_registration import RegistrationSettings, RemoteRegistration
from aggregator.api.reviews import Reviews
from aggregator.api.status_writer import StatusWriter
from aggregator.remote_services import RemoteService
from aggregator.settings import Settings
from aggregator.upstream.kept import KeptConnections
from aggregator.upstream.tls import UpstreamTLS
from apimachinery.authorization import AlwaysAllow
from apimachinery.gvk import GroupVersion
from apiserver.app import AppConfig, build_app
from apiserver.auth.trusted import trusted_headers
from apiserver.background import Background
from apiserver.client import LocalClient
from apiserver.discovery import LocalDiscovery, entries_of
from apiserver.documents import DocumentSource
from apiserver.endpoints import Endpoints
from apiserver.health import HealthChecks
from apiserver.hooks import PostStartHooks
from apiserver.informer import Informer
from apiserver.metrics import ServerMetrics
from apiserver.openapi import LocalOpenAPI, OpenAPIDocuments
from apiserver.registry import Registry
from apiserver.resource import Resource
from apiserver.rest.context import Context
from apiserver.rest.dispatch import Verbs
from apiserver.storage.base import Store
from apiserver.version import program_version

_UNREGISTERED = {authentication_config.GROUP_VERSION, *reviews.GROUP_VERSIONS}
"""Served without an APIService, as apiregistration.k8s.io is: what the aggregator needs itself is not up for change."""
_TITLE = "API Aggregator"
_PROBED_SECONDS = 120.0
_DISCOVERY_CACHE = "discovery-cache.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the local API server is built on."""

    settings: Settings
    store: Store
    directory: Path
    tls: UpstreamTLS
    collectors: CollectorRegistry
    endpoints: Endpoints
    health: HealthChecks
    hooks: PostStartHooks
    bundled: Sequence[Resource]
    """Kinds that are served here although another server could: the example group (flow of the bundled mode)."""
    remote: Sequence[RemoteService]
    ca_bundle: bytes | None
    trust: TrustFiles
    access: Access
    """Decides for the review APIs what it decides for the proxy."""


class LocalServer:
    """The local API server: `app` is what the proxy's socket serves, `start` sets its controllers going."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        aggregating = parts.settings.feature_toggles.kubernetes_aggregator
        egress = parts.settings.egress.policy(development=parts.settings.development)
        kinds = [apiservice.resource(time.time), externalname.resource(egress)] if aggregating else []
        own = Reviews(parts.access.authorizer, parts.access.tokens).resources()
        core = [authentication_config.RESOURCE, namespaces.RESOURCE]
        self.registry = Registry([*kinds, *core, *own, *parts.bundled])
        self.verbs = Verbs(Context(store=parts.store))
        self.metrics = ServerMetrics(parts.collectors)
        self._openapi = LocalOpenAPI(self.registry, title=_TITLE, version=program_version())
        self._discovery = LocalDiscovery(self.registry)
        self.controllers = Controllers(parts, self) if aggregating else None

    @property
    def app(self) -> ASGIApp:
        """The application, for a socket that only the proxy can open."""
        return build_app(
            AppConfig(
                registry=self.registry,
                verbs=self.verbs,
                authenticate=trusted_headers,
                authorizer=AlwaysAllow(),
                endpoints=self._parts.endpoints,
                metrics=self.metrics,
                documents=self._documents(),
                paths=self._paths,
                installed=lambda: self._parts.hooks.all_done,
            )
        )

    def _documents(self) -> list[DocumentSource]:
        local: list[DocumentSource] = [self._discovery, OpenAPIDocuments(self._openapi, time.time)]
        if self.controllers is None:
            return local
        return [self.controllers.discovery, self.controllers.openapi, *local]

    def _paths(self) -> Sequence[str]:
        if self.controllers is None:
            return self._discovery.paths
        remote = [f"/apis/{group_version}" for group_version in self.controllers.registered()]
        return [*self._discovery.paths, *self.controllers.discovery.paths, *remote]

    @property
    def openapi(self) -> LocalOpenAPI:
        return self._openapi

    def client(self, manager: str) -> LocalClient:
        return LocalClient(self.registry, self.verbs, manager=manager)

    def start(self, background: Background) -> None:
        """Start informers and controllers; hooks tell when each has done its first work."""
        publisher = ConfigPublisher(self.client("aggregator"), self._parts.trust, read_trust)
        self._parts.hooks.add("start-cluster-authentication-info-controller", publisher.synced.wait)
        background.start("authentication config", publisher.run())
        mirror = NamespaceMirror(self._parts.store, namespaces.stored_kinds(self.registry))
        self._parts.hooks.add("start-system-namespaces-controller", mirror.synced.wait)
        background.start("namespaces", mirror.run())
        if self.controllers is not None:
            self.controllers.start(background)


class Controllers:
    """The controllers of the aggregation layer, wired to one pair of informers."""

    def __init__(self, parts: Parts, server: LocalServer) -> None:
        self._parts = parts
        client = server.client("aggregator")
        self.apiservices = Informer(client, APISERVICES)
        self.externalnames = Informer(client, EXTERNALNAMES)
        metrics = AvailabilityMetrics(parts.collectors)
        writer = StatusWriter(client=client, metrics=metrics, now=time.time)
        wanted = parts.settings.availability
        # Probes keep connections of their own, and look a name up more often than what only reads documents.
        self._probed = KeptConnections(parts.tls, oldest=_PROBED_SECONDS)
        self.local = LocalAvailability(apiservices=self.apiservices, writer=writer, metrics=server.metrics)
        self.remote = RemoteAvailability(
            apiservices=self.apiservices,
            externalnames=self.externalnames,
            prober=Prober(self._probed.status, ProbeLimits(attempts=wanted.attempts, timeout=wanted.timeout_seconds)),
            writer=writer,
            metrics=metrics,
            server_metrics=server.metrics,
            resync_seconds=wanted.resync_seconds,
        )
        self.autoregister = AutoRegister(client=client, apiservices=self.apiservices, metrics=server.metrics)
        served = set(server.registry.group_versions())
        self.registration = RemoteRegistration(
            services=parts.remote,
            settings=RegistrationSettings(
                namespace=parts.settings.grafana_apiserver.external_names_namespace,
                bundle=parts.ca_bundle,
                dev_mode=parts.settings.development,
            ),
            local=served,
            client=client,
            externalnames=self.externalnames,
            apiservices=self.apiservices,
            autoregister=self.autoregister,
        )
        self._kept = KeptConnections(parts.tls)
        self.discovery = DiscoveryManager(
            settings=DiscoverySettings(
                local=entries_of(server.registry), cache_file=parts.directory / _DISCOVERY_CACHE
            ),
            apiservices=self.apiservices,
            externalnames=self.externalnames,
            fetcher=DiscoveryFetcher(self._kept),
            collectors=parts.collectors,
            metrics=server.metrics,
        )
        self.openapi = OpenAPIAggregator(
            local=server.openapi,
            apiservices=self.apiservices,
            externalnames=self.externalnames,
            fetcher=OpenAPIFetcher(self._kept),
            metrics=server.metrics,
            regenerations=RegenerationMetrics(parts.collectors),
        )
        self._served = served
        self._completion: CompletionCheck | None = None

    def start(self, background: Background) -> None:
        bundled = {resource.group for resource in self._parts.bundled}
        local_services = local_apiservices(self._served - _UNREGISTERED)
        for local in local_services:
            self.autoregister.want(local, Mode.ON_START, takes_over=local["spec"]["group"] in bundled)
        self.registration.prepare()
        health = self._parts.health
        health.add("remote-autoregister-completion", self._complete, informational=True)
        complete = CompletionCheck(self.apiservices, lambda: [local["metadata"]["name"] for local in local_services])
        health.add("autoregister-completion", complete.check)
        hooks = self._parts.hooks
        hooks.add("start-kube-aggregator-informers", self._informers_synced)
        hooks.add("grafana-apiserver-autoregistration", self.autoregister.synced.wait)
        hooks.add("grafana-apiserver-remote-autoregistration", self.registration.synced.wait)
        hooks.add("apiservice-status-local-available-controller", self.local.synced.wait)
        hooks.add("apiservice-status-remote-available-controller", self._first_verdicts)
        hooks.add("apiservice-discovery-controller", self.discovery.synced.wait)
        hooks.add("apiservice-openapi-controller", self.openapi.synced.wait)
        background.start("informer apiservices", self.apiservices.run())
        background.start("informer externalnames", self.externalnames.run())
        background.start("autoregister", self.autoregister.run())
        background.start("remote registration", self.registration.run(), ends=True)
        background.start("bundle of remote services", self.registration.follow_bundle())
        background.start("local availability", self.local.run())
        background.start("remote availability", self.remote.run())
        background.start("kept connections", self._kept.run())
        background.start("probed connections", self._probed.run())
        background.start("discovery", self.discovery.run())
        background.start("openapi", self.openapi.run())

    def registered(self) -> list[GroupVersion]:
        """The group versions that APIServices name."""
        return [references.group_version(item) for item in self.apiservices.list()]

    async def _informers_synced(self) -> None:
        await self.apiservices.synced.wait()
        await self.externalnames.synced.wait()

    async def _first_verdicts(self) -> None:
        """Every remote APIService has a verdict of this process, so a stored one is never taken for it."""
        await self.remote.synced.wait()
        self._completion = CompletionCheck(self.apiservices, lambda: self.registration.names)

    def _complete(self) -> str | None:
        if self._completion is None:
            return "remote services have not been checked yet"
        return self._completion.check()
