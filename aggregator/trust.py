"""What the front door proves itself with and whom it believes, from the files of the settings."""

from dataclasses import dataclass

from aggregator.bootstrap import Credentials
from aggregator.settings import Settings
from apiserver.auth.request_header import RequestHeaderAuthenticator
from apiserver.auth.x509 import CertificateAuthenticator
from apiserver.tls import ServerTLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Each of them follows its files when its `reload` is called."""

    tls: ServerTLS
    certificates: CertificateAuthenticator
    front_proxy: RequestHeaderAuthenticator | None


def load(settings: Settings, credentials: Credentials) -> Trust:
    """Raises TLSConfigError, which names the file at fault."""
    proxies = settings.requestheader
    authorities = [credentials.client_ca_file]
    front_proxy = None
    if proxies.client_ca_file is not None:
        authorities.append(proxies.client_ca_file)
        front_proxy = RequestHeaderAuthenticator(
            proxies.client_ca_file,
            crl_file=proxies.crl_file,
            allowed_names=proxies.allowed_names,
            names=proxies.names(),
        )
    return Trust(
        tls=ServerTLS(credentials.tls_cert_file, credentials.tls_private_key_file, authorities, settings.server.alpn),
        certificates=CertificateAuthenticator(credentials.client_ca_file, crl_file=settings.server.client_crl_file),
        front_proxy=front_proxy,
    )
