"""The front door: the proxy as the settings want it, with everything that it follows while it runs.

The one place where a proxy is put together, whether it shares its process with the API server or not.
"""

from pathlib import Path

from aggregator import reloads, trust
from aggregator.access import Access
from aggregator.base import Base
from aggregator.bootstrap import Credentials
from aggregator.observe.build import Observation
from aggregator.proxy.limits import Limits
from aggregator.proxy.routes import RouteTable
from aggregator.proxy.server import Proxy
from aggregator.settings import Settings
from aggregator.upstream.tls import UpstreamTLS
from apiserver import http1
from apiserver.auth.request_header import Authenticator
from apiserver.http_client import HttpListWatch
from apiserver.reload import Reloader

_PROXY_IDENTITY = (("X-Remote-User", "system:aggregator-proxy"), ("X-Remote-Group", "system:masters"))


def upstream_tls(settings: Settings) -> UpstreamTLS:
    """What this process shows to the servers behind it. UpstreamTLSError."""
    pair = settings.grafana_apiserver
    egress = settings.egress.policy(development=settings.development)
    return UpstreamTLS(pair.proxy_client_cert_file, pair.proxy_client_key_file, egress=egress)


def build(
    base: Base, credentials: Credentials, files: Reloader, *, access: Access, tls: UpstreamTLS, socket: Path
) -> Proxy:
    """A proxy that is not started yet; its local API server listens on `socket`. `files` is made to follow what the
    proxy stands on. Raises one of START_ERRORS, or StartError."""
    settings = base.settings
    trusted = trust.load(settings, credentials)
    proxy = Proxy(
        ssl_context=trusted.tls.context,
        authenticator=Authenticator(request_header=trusted.front_proxy, certificates=trusted.certificates),
        authorizer=access.authorizer,
        tokens=access.tokens,
        client=_client(settings, socket),
        local_socket=socket,
        upstream_tls=tls,
        request_headers=settings.requestheader.names(),
        limits=_limits(settings),
    )
    base.collectors.register(proxy.metrics)
    access.on_policy_change(proxy.plane.policy_changed)
    _observe(base, files, proxy)
    reloads.follow_front_door(files, credentials, settings, trusted, proxy.plane.identities_changed)
    reloads.follow_client_pair(files, settings, tls, proxy.plane.certificates_changed)
    if proxy.learner is None:
        proxy.plane.install(RouteTable.build([], []))
    return proxy


def _limits(settings: Settings) -> Limits:
    wanted = settings.limits
    return Limits(
        connections=wanted.max_connections,
        address_connections=wanted.max_connections_per_address,
        max_read_only=wanted.max_requests_inflight,
        max_mutating=wanted.max_mutating_requests_inflight,
        user_share=wanted.user_share_percent,
        head_fields=wanted.max_header_fields,
        target_bytes=wanted.max_url_bytes,
        body_bytes=wanted.max_body_bytes,
        body_rate=wanted.min_body_bytes_per_second,
        write_seconds=wanted.unread_response_seconds,
    )


def _observe(base: Base, files: Reloader, proxy: Proxy) -> None:
    """Have requests recorded. What is waiting is written after the proxy has stopped, which is registered later."""
    observation = Observation(base.settings, base.collectors)
    base.stack.push_async_callback(observation.stop)
    proxy.plane.observer = observation.observer
    observation.on_policy_change(proxy.plane.policy_changed)
    observation.follow(files)


def _client(settings: Settings, socket: Path) -> HttpListWatch | None:
    if not settings.feature_toggles.kubernetes_aggregator:
        return None
    return HttpListWatch(http1.Target(unix_path=socket), _PROXY_IDENTITY)
