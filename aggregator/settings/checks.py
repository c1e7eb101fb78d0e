"""What single values cannot tell: settings that must fit together, and files that must be readable."""

import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from aggregator import keypair
from aggregator.settings.declared import Section, Value, Values
from aggregator.settings.model import Settings

_PAIRS = (
    ("server", "tls_cert_file", "tls_private_key_file"),
    ("grafana-apiserver", "proxy_client_cert_file", "proxy_client_key_file"),
    ("grafana-apiserver", "kubectl_client_cert_file", "kubectl_client_key_file"),
)
_SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux (unix(7): sun_path, without its final NUL)."""


def check(settings: Settings, known: Collection[Section], values: Values) -> tuple[list[str], list[str]]:
    """Problems that keep the program from starting, and warnings; one line each."""
    unreadable = dict(_unreadable_files(settings, known, values))
    problems = [*unreadable.values(), *_pairs(values, unreadable), *_combinations(settings, values)]
    if not unreadable:
        problems += _confused_authorities(settings, values)
    return problems, [] if problems else list(_open_keys(settings, known, values))


def _files(settings: Settings, known: Collection[Section], values: Values) -> Iterator[tuple[Value, Path]]:
    for section in known:
        group = getattr(settings, section.attribute)
        for field in section.fields:
            path = getattr(group, field.attribute)
            if field.parser.reads_file and path is not None:
                yield values[section.name, field.key], path


def _unreadable_files(
    settings: Settings, known: Collection[Section], values: Values
) -> Iterator[tuple[tuple[str, str], str]]:
    for value, path in _files(settings, known, values):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            yield (value.section, value.key), value.problem(f"cannot read {value.text}: {error.strerror}")


def _pairs(values: Values, unreadable: Collection[tuple[str, str]]) -> Iterator[str]:
    for section, certificate_key, private_key in _PAIRS:
        certificate, private = values[section, certificate_key], values[section, private_key]
        if bool(certificate.text) != bool(private.text):
            there, missing = (certificate, private) if certificate.text else (private, certificate)
            yield there.problem(f"is set without {missing.key}; a certificate and its key go together")
        elif certificate.text and not {(section, certificate_key), (section, private_key)} & set(unreadable):
            try:
                keypair.read(Path(certificate.text), Path(private.text))
            except keypair.KeyPairError as error:
                yield private.problem(str(error))


def _combinations(settings: Settings, values: Values) -> Iterator[str]:
    server, requestheader, apiserver = settings.server, settings.requestheader, settings.grafana_apiserver
    if server.tls_ca_file and not server.tls_cert_file:
        yield values["server", "tls_ca_file"].problem("is set without tls_cert_file")
    if 0 != server.metrics_port == server.secure_port and _overlap(server.bind_address, server.metrics_bind_address):
        yield values["server", "metrics_port"].problem(f"{server.metrics_port} is the secure_port already")
    kubeconfig = settings.feature_toggles.ensure_kubectl_access
    if kubeconfig and server.client_ca_file and not apiserver.kubectl_client_cert_file:
        yield values["server", "client_ca_file"].problem(
            "is set, so the kubeconfig that grafanaAPIServerEnsureKubectlAccess asks for needs "
            "[grafana-apiserver] kubectl_client_cert_file and kubectl_client_key_file"
        )
    oidc = settings.oidc
    if oidc.issuer_url and not oidc.client_id:
        yield values["oidc", "issuer_url"].problem("is set without client_id, so tokens of every audience would count")
    if oidc.issuer_url and not oidc.username_claim:
        yield values["oidc", "username_claim"].problem("must not be empty")
    if any("=" not in claim or claim.startswith("=") for claim in oidc.required_claims):
        yield values["oidc", "required_claims"].problem("must be a list of name=value")
    if requestheader.crl_file and not requestheader.client_ca_file:
        yield values["requestheader", "crl_file"].problem("is set without client_ca_file")
    if requestheader.client_ca_file and not requestheader.username_headers:
        yield values["requestheader", "username_headers"].problem("at least one header is needed")
    if apiserver.api_socket and len(str(apiserver.api_socket).encode()) > _SOCKET_PATH_BYTES:
        yield values["grafana-apiserver", "api_socket"].problem(
            f"the path of a socket can have at most {_SOCKET_PATH_BYTES} bytes"
        )


def _overlap(one: str, other: str) -> bool:
    """Whether listening on both addresses with one port would collide."""
    loopback = {"localhost": "127.0.0.1"}
    pair = {loopback.get(one, one), loopback.get(other, other)}
    return len(pair) == 1 or bool(pair & {"0.0.0.0", "::"})


def _confused_authorities(settings: Settings, values: Values) -> Iterator[str]:
    """With one authority for users and for proxies, each user could claim to be anybody (aggregator.md 8.2)."""
    proxies, users = settings.requestheader.client_ca_file, settings.server.client_ca_file
    if proxies and users and not settings.requestheader.allowed_names and proxies.read_bytes() == users.read_bytes():
        yield values["requestheader", "client_ca_file"].problem(
            "is the same authority as [server] client_ca_file, so every user could pose as any other; "
            "use another one, or set allowed_names"
        )


def _open_keys(settings: Settings, known: Collection[Section], values: Values) -> Iterator[str]:
    for value, path in _files(settings, known, values):
        if value.key.endswith("_key_file") and path.stat().st_mode & stat.S_IROTH:
            yield value.problem(f"{value.text} can be read by everybody on this machine")
