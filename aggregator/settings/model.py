"""The tree of settings: what each means, its unit, its default and why. The defaults themselves are in defaults.ini."""

from dataclasses import dataclass
from typing import Annotated

from aggregator.settings import values
from aggregator.settings.ini import DEFAULT_SECTION
from aggregator.settings.values import (
    BindAddress,
    Boolean,
    Directory,
    File,
    Headers,
    Items,
    LogPath,
    Named,
    OptionalPath,
    Parser,
    Port,
    Text,
    Words,
)
from aggregator.upstream.egress import UNRESTRICTED, Egress
from apimachinery.identity import RequestHeaderNames


@dataclass(frozen=True, slots=True, kw_only=True)
class Default:
    """Keys that stand above the first section."""

    app_mode: Annotated[str, Parser(values.choice("production", "development"))]
    """`production` (default) or `development`; safe unless asked otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    data: Directory
    """Directory of everything that must survive a restart. Default `./data`, as Grafana has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    level: Annotated[str, Parser(values.choice("debug", "info", "warn", "warning", "error"))]
    """Least severe level that is written. Default `info`."""

    format: Annotated[str, Parser(values.choice("logfmt", "json"))]
    """`logfmt` (default, for people) or `json` (for collectors); one line per event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    bind_address: BindAddress
    """Where the API listens. Default 127.0.0.1: a network sees the server only when asked for."""

    secure_port: Port
    """TCP port of the API. Default 6443, the usual one of Kubernetes-style servers; 0 picks any free port."""

    tls_cert_file: File
    """Serving certificate chain, PEM. Default empty: the program issues its own."""

    tls_private_key_file: File
    """Key of `tls_cert_file`, PEM without a password. Default empty."""

    tls_ca_file: File
    """Authority of `tls_cert_file` for the kubeconfig, PEM. Default empty: `tls_cert_file` itself."""

    client_ca_file: File
    """Authorities of client certificates, PEM. Default empty: the program makes its own authority."""

    client_crl_file: File
    """Revocation lists of `client_ca_file`, PEM or DER. Default empty: no certificate is revoked before its end."""

    external_url: Annotated[str, Parser(values.external_url)]
    """Address of the API for the kubeconfig. Default https://localhost:6443."""

    alpn: Annotated[tuple[str, ...], Parser(values.alpn)]
    """Application protocols by preference. Default http/1.1 then h2: it costs less per request."""

    metrics_bind_address: BindAddress
    """Where plain HTTP for /metrics and health listens. Default 127.0.0.1: metrics are not for everybody."""

    metrics_port: Port
    """TCP port of that listener. Default 8080; 0 turns it off."""

    workers: Annotated[int, Parser(values.workers)]
    """Proxy processes beside the one of the API server; `auto` is one per usable processor. Default 0: all in one."""

    shutdown_delay_seconds: Annotated[float, Parser(values.seconds(0, 3600))]
    """Seconds of serving on after SIGTERM while not ready. Default 0; raise it behind a load balancer."""

    shutdown_grace_seconds: Annotated[float, Parser(values.seconds(0, 3600))]
    """Seconds for requests under way to end after the delay. Default 8: container engines kill after 10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """What clients may ask of one proxy process; 0 turns a limit off."""

    max_connections: Annotated[int, Parser(values.integer(0, 1_000_000))]
    """Open connections. Default 20000: beyond what one process serves well, and a bound of its memory."""

    max_connections_per_address: Annotated[int, Parser(values.integer(0, 1_000_000))]
    """The same from one address. Default 0, off: all clients may come from one load balancer or gateway."""

    max_requests_inflight: Annotated[int, Parser(values.integer(0, 1_000_000))]
    """Reading requests in progress, without those of system:masters and long-running ones. Default 400 as upstream."""

    max_mutating_requests_inflight: Annotated[int, Parser(values.integer(0, 1_000_000))]
    """The same for all other verbs. Default 200, as upstream."""

    user_share_percent: Annotated[int, Parser(values.integer(1, 100))]
    """Part of either that one user may take alone. Default 75: a lone user is hardly limited, others find a seat."""

    max_header_fields: Annotated[int, Parser(values.integer(0, 100_000))]
    """Fields of one request. Default 256, many times what clients send."""

    max_url_bytes: Annotated[int, Parser(values.integer(0, 1_048_576))]
    """Request target with its query. Default 65536: selectors may be long."""

    max_body_bytes: Annotated[int, Parser(values.integer(0, 999_999_999))]
    """Request body. Default 0, off: bodies are streamed, and each backend has a limit of its own."""

    min_body_bytes_per_second: Annotated[int, Parser(values.integer(0, 1_000_000))]
    """Pace of a request body over ten seconds. Default 100: any network is faster, a slow attack is not."""

    unread_response_seconds: Annotated[float, Parser(values.seconds(0, 3600))]
    """Seconds a client may leave a response unread, watches excepted. Default 30."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeader:
    """Trust in a proxy that stands in front of this server (aggregator.md 8.2)."""

    client_ca_file: File
    """Authorities of such proxies, PEM. Default empty: no proxy is trusted."""

    crl_file: File
    """Revocation lists of `client_ca_file`, PEM or DER. Default empty: none is revoked."""

    allowed_names: Items
    """Common names of such proxies. Default empty: every certificate of `client_ca_file`."""

    username_headers: Headers
    """Headers of the user's name by preference. Default X-Remote-User."""

    uid_headers: Headers
    """Headers of the user's uid by preference. Default X-Remote-Uid."""

    group_headers: Headers
    """Headers of the user's groups. Default X-Remote-Group."""

    extra_headers_prefix: Headers
    """Prefixes of headers with further attributes. Default X-Remote-Extra-."""

    def names(self) -> RequestHeaderNames:
        """The header names in the form the authenticator takes them, in lower case."""

        def lowered(headers: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(header.lower() for header in headers)

        return RequestHeaderNames(
            username=lowered(self.username_headers),
            uid=lowered(self.uid_headers),
            group=lowered(self.group_headers),
            extra_prefix=lowered(self.extra_headers_prefix),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """Who callers are, beyond client certificates and front proxies (aggregator.md 8.2)."""

    token_file: File
    """Static bearer tokens, CSV lines of token, user, uid and quoted groups. Default empty: none."""

    anonymous_paths: Items
    """Exact paths that need no credentials. Default the health paths; `*` is every path."""

    webhook_config_file: File
    """Kubeconfig of a server that reviews tokens. Default empty: none."""

    webhook_cache_seconds: Annotated[float, Parser(values.seconds(0, 86400))]
    """How long its answers count. Default 120, as in Kubernetes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OIDC:
    """Bearer tokens that an OpenID Connect provider has issued."""

    issuer_url: Annotated[str, Parser(values.optional_https_url)]
    """The provider; must be the `iss` of its tokens to the letter. Default empty: none."""

    client_id: Text
    """The audience that tokens must be meant for. Default empty; needed with an issuer."""

    ca_file: File
    """Authorities that verify the provider, PEM. Default empty: those of the machine."""

    username_claim: Text
    """The claim that is the user's name. Default `sub`; `email` counts only when verified."""

    username_prefix: Text
    """Put before the name. Default empty: `<issuer>#`, nothing for `email`; `-` is nothing in any case."""

    groups_claim: Text
    """The claim that lists groups. Default empty: no groups."""

    groups_prefix: Text
    """Put before each group. Default empty; without one, a provider can name groups such as system:masters."""

    required_claims: Items
    """`name=value` pairs that tokens must hold. Default empty."""

    signing_algs: Annotated[tuple[str, ...], Parser(values.signing_algs)]
    """Accepted signatures. Default RS256, as in Kubernetes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """Who may do what (aggregator.md 8.4)."""

    policy_file: File
    """Roles and bindings, YAML. Default empty: only system:masters may do things."""

    always_allow_paths: Items
    """Paths that everybody may use who may ask at all. Default the health paths; `*` at the end makes a prefix."""

    webhook_config_file: File
    """Kubeconfig of a server that reviews access. Default empty: none."""

    webhook_authorized_seconds: Annotated[float, Parser(values.seconds(0, 86400))]
    """How long its permissions count. Default 300, as in Kubernetes."""

    webhook_unauthorized_seconds: Annotated[float, Parser(values.seconds(0, 86400))]
    """How long its refusals count. Default 30, as in Kubernetes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Who did what (aggregator.md 8.8). The names of the `log_` keys are those of kube-apiserver's flags."""

    policy_file: File
    """An audit.k8s.io/v1 Policy, YAML. Default empty: nothing is audited."""

    log_path: LogPath
    """Where events go; `-` is standard output. Default `-`."""

    log_maxsize: Annotated[int, Parser(values.integer(0, 1024 * 1024))]
    """Megabytes of the file before it is rotated. Default 100; 0 never rotates."""

    log_maxbackup: Annotated[int, Parser(values.integer(0, 100000))]
    """Rotated files that are kept. Default 10, so that the disk does not fill; 0 keeps all."""

    log_maxage: Annotated[int, Parser(values.integer(0, 100000))]
    """Days that they are kept. Default 0: for ever."""

    max_body_bytes: Annotated[int, Parser(values.integer(0, 16 * 1024 * 1024))]
    """Largest body that is recorded at the levels Request and RequestResponse. Default 65536."""

    queue: Annotated[int, Parser(values.integer(1, 10_000_000))]
    """Events that may wait to be written. Default 10000, as in Kubernetes."""

    when_full: Annotated[str, Parser(values.choice("drop", "block"))]
    """What happens then: `drop` (default) loses events and counts them, `block` stops all requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLog:
    """One line for each finished request, in the format of [log]."""

    path: LogPath
    """Where lines go; `-` is standard output. Default empty: nowhere."""

    maxsize: Annotated[int, Parser(values.integer(0, 1024 * 1024))]
    """Megabytes of the file before it is rotated. Default 100; 0 never rotates."""

    maxbackup: Annotated[int, Parser(values.integer(0, 100000))]
    """Rotated files that are kept. Default 10; 0 keeps all."""

    maxage: Annotated[int, Parser(values.integer(0, 100000))]
    """Days that they are kept. Default 0: for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """Spans for OpenTelemetry; needs the extra `otel`."""

    otlp_endpoint: Annotated[str, Parser(values.optional_http_url)]
    """Collector that takes OTLP over HTTP, e.g. http://localhost:4318. Default empty: no spans."""

    sampling_ratio: Annotated[float, Parser(values.ratio)]
    """Share of requests that are traced when no traceparent says whether to. Default 0.01."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrafanaAPIServer:
    proxy_client_cert_file: File
    """Client certificate shown to servers behind the aggregator, PEM. Default empty: none is shown."""

    proxy_client_key_file: File
    """Key of `proxy_client_cert_file`, PEM without a password. Default empty."""

    proxy_client_ca_file: File
    """Authority of `proxy_client_cert_file`, PEM; told to the servers behind. Default empty: they are not told."""

    remote_services_file: File
    """YAML list of services to register on start. Default empty: none."""

    apiservice_ca_bundle_file: File
    """Authorities that verify those services, PEM. Default empty: those of the machine; none in development mode."""

    external_names_namespace: Annotated[str, Parser(values.namespace)]
    """Namespace of the ExternalNames of those services. Default `default`."""

    kubectl_client_cert_file: File
    """Client certificate for the kubeconfig, PEM. Default empty: issued, unless `server.client_ca_file` is set."""

    kubectl_client_key_file: File
    """Key of `kubectl_client_cert_file`, PEM without a password. Default empty."""

    api_socket: OptionalPath
    """Unix socket of the local API server. Default empty: in a private temporary directory, where nobody else gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressSettings:
    """Which addresses the servers behind the aggregator may have."""

    forbid_special_addresses: Annotated[str, Parser(values.choice("auto", "true", "false"))]
    """Whether loopback, link-local, instance metadata, unspecified and multicast addresses are refused. Default `auto`:
    in production mode."""

    allow: Annotated[tuple[str, ...], Parser(values.networks_and_hosts)]
    """Networks, addresses and host names that are exempt. Default empty."""

    def policy(self, *, development: bool) -> Egress:
        on = self.forbid_special_addresses == "true" or (self.forbid_special_addresses == "auto" and not development)
        return Egress.allowing(self.allow) if on else UNRESTRICTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """How remote services are looked at (aggregator.md 3)."""

    resync_seconds: Annotated[float, Parser(values.seconds(1, 3600))]
    """Seconds between two looks at a service that nothing was heard of. Default 30, as in Kubernetes."""

    timeout_seconds: Annotated[float, Parser(values.seconds(0.1, 60))]
    """Seconds that one attempt may take. Default 5, as in Kubernetes."""

    attempts: Annotated[int, Parser(values.integer(1, 20))]
    """Attempts per look, of which one has to succeed. Default 5, as in Kubernetes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureToggles:
    """Switches by Grafana's names."""

    enable: Words
    """Names of toggles to turn on. Default empty; a toggle set by its own name wins."""

    ensure_kubectl_access: Annotated[Boolean, Named("grafanaAPIServerEnsureKubectlAccess")]
    """Write a kubeconfig with an administrator's credentials. Default false: credentials only where asked for."""

    with_experimental_apis: Annotated[Boolean, Named("grafanaAPIServerWithExperimentalAPIs")]
    """Serve the example group locally. Default false: it overwrites a remote registration of the group."""

    kubernetes_aggregator: Annotated[Boolean, Named("kubernetesAggregator")]
    """Aggregate remote APIs. Default true: this program is the aggregator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, typed and checked. Every path is absolute."""

    default: Annotated[Default, Named(DEFAULT_SECTION)]
    paths: Paths
    log: Log
    server: Server
    limits: Annotated[ClientLimits, Named("limits")]
    requestheader: RequestHeader
    authentication: Authentication
    oidc: OIDC
    authorization: Authorization
    audit: Audit
    access_log: AccessLog
    tracing: Tracing
    grafana_apiserver: Annotated[GrafanaAPIServer, Named("grafana-apiserver")]
    egress: EgressSettings
    availability: Availability
    feature_toggles: FeatureToggles

    @property
    def development(self) -> bool:
        return self.default.app_mode == "development"
