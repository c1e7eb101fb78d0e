"""Which files a running aggregator follows, and what takes effect when they change."""

from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from aggregator import keypair, kubeconfig
from aggregator.bootstrap import Credentials
from aggregator.errors import StartError
from aggregator.keypair import KeyPairError
from aggregator.kubeconfig import KubeconfigError
from aggregator.settings import Settings
from aggregator.trust import Trust
from aggregator.upstream.tls import UpstreamTLS, UpstreamTLSError
from apiserver.auth.x509 import CertificateVerifier
from apiserver.auth.yaml_fields import FileError
from apiserver.reload import Reloader, ReloadMetrics

_UNUSABLE = (FileError, KeyPairError, KubeconfigError, UpstreamTLSError)


def reloader(collectors: CollectorRegistry) -> Reloader:
    return Reloader(ReloadMetrics(collectors, prefix="aggregator"), unusable=_UNUSABLE)


def follow_front_door(
    files: Reloader, credentials: Credentials, settings: Settings, trust: Trust, judged_anew: Callable[[], None]
) -> None:
    """The listener's certificate, who may come in, and who has been revoked. All at once: a client that the listener
    lets in by a new authority is known to the authenticators, too. `judged_anew` is called when verdicts that
    somebody remembers may be others now."""

    def reloading(verifier: CertificateVerifier) -> Callable[[], bool]:
        def load() -> bool:
            changed = verifier.reload()
            if changed:
                judged_anew()
            return changed

        return load

    files.watch("serving", trust.tls.files, trust.tls.reload, certificates=credentials.tls_cert_file)
    users = trust.certificates.verifier
    files.watch("client-ca", users.files, reloading(users), certificates=credentials.client_ca_file)
    if trust.front_proxy is not None:
        proxies = trust.front_proxy.verifier
        files.watch(
            "requestheader-ca", proxies.files, reloading(proxies), certificates=settings.requestheader.client_ca_file
        )


def follow_client_pair(files: Reloader, settings: Settings, tls: UpstreamTLS, changed: Callable[[], None]) -> None:
    """The client certificate towards backends; `changed` is called when another one is in force."""
    pair = settings.grafana_apiserver
    if pair.proxy_client_cert_file is None or pair.proxy_client_key_file is None:
        return

    def load() -> bool:
        replaced = tls.reload()
        if replaced:
            changed()
        return replaced

    both = (pair.proxy_client_cert_file, pair.proxy_client_key_file)
    files.watch("proxy-client", both, load, certificates=pair.proxy_client_cert_file)


def follow_bundle(files: Reloader, settings: Settings, use: Callable[[bytes], bool]) -> None:
    """The authorities of registered services; `use` gets the PEM text and tells whether it is another one."""
    bundle = settings.grafana_apiserver.apiservice_ca_bundle_file
    if bundle is not None:
        file: Path = bundle
        files.watch("apiservice-ca", [file], lambda: use(keypair.read_certificates(file)), certificates=file)


def follow_kubeconfig(files: Reloader, settings: Settings, credentials: Credentials) -> None:
    """Write the kubeconfig now, and again whenever what is embedded in it changes. StartError, KubeconfigError."""
    if not settings.feature_toggles.ensure_kubectl_access:
        return
    certificate, key = credentials.admin_cert_file, credentials.admin_key_file
    if certificate is None or key is None:
        raise StartError("grafanaAPIServerEnsureKubectlAccess needs kubectl_client_cert_file and its key")
    target = kubeconfig.path(settings.paths.data)

    def write() -> bool:
        return kubeconfig.write(
            target,
            server=settings.server.external_url,
            ca_file=credentials.tls_ca_file,
            certificate_file=certificate,
            key_file=key,
        )

    write()
    files.watch("kubeconfig-client", (credentials.tls_ca_file, certificate, key), write, certificates=certificate)
    files.watch("serving-ca", (credentials.tls_ca_file,), lambda: False, certificates=credentials.tls_ca_file)
