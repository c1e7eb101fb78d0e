"""Command-line flags of an aggregated API server, named as Kubernetes' own servers name them."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from apimachinery.gvk import GroupVersion
from apimachinery.identity import RequestHeaderNames


class FlagError(ValueError):
    """A flag that cannot be used; the message is one line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFlags:
    """What the command line says; `cert` and `key` are set together."""

    bind_address: str
    secure_port: int
    cert: Path
    key: Path
    requestheader_ca: Path
    requestheader_names: RequestHeaderNames
    allowed_names: tuple[str, ...]
    client_ca: Path | None
    requestheader_crl: Path | None
    client_crl: Path | None
    authorization_kubeconfig: Path | None
    disabled: frozenset[GroupVersion]
    data_dir: Path | None
    metrics_bind_address: str
    metrics_port: int
    shutdown_delay_seconds: float
    shutdown_grace_seconds: float
    verbosity: int
    log_format: str


_DEFAULT = "(default: %(default)s)"
_NAMES = RequestHeaderNames()
_HEADER_FLAGS = (
    ("username-headers", "HEADERS", _NAMES.username),
    ("uid-headers", "HEADERS", _NAMES.uid),
    ("group-headers", "HEADERS", _NAMES.group),
    ("extra-headers-prefix", "PREFIXES", _NAMES.extra_prefix),
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    serving = parser.add_argument_group("serving")
    serving.add_argument(
        "--bind-address", default="127.0.0.1", metavar="ADDRESS", help=f"address to listen on {_DEFAULT}"
    )
    serving.add_argument(
        "--secure-port", type=int, default=7443, metavar="PORT", help=f"port to serve HTTPS on {_DEFAULT}"
    )
    serving.add_argument("--tls-cert-file", type=Path, required=True, metavar="FILE", help="serving certificate (PEM)")
    serving.add_argument("--tls-private-key-file", type=Path, required=True, metavar="FILE", help="its private key")
    serving.add_argument(
        "--metrics-bind-address",
        default="127.0.0.1",
        metavar="ADDRESS",
        help=f"address of the port for metrics and health {_DEFAULT}",
    )
    serving.add_argument(
        "--metrics-port",
        type=int,
        default=0,
        metavar="PORT",
        help=f"plain HTTP port for metrics and health; 0 is none {_DEFAULT}",
    )
    serving.add_argument(
        "--shutdown-delay-seconds",
        type=float,
        default=0.0,
        metavar="S",
        help=f"how long to serve on at the end, not ready and with connections announced to close {_DEFAULT}",
    )
    serving.add_argument(
        "--shutdown-grace-seconds",
        type=float,
        default=10.0,
        metavar="S",
        help=f"longest wait for requests at the end {_DEFAULT}",
    )
    identity = parser.add_argument_group("identity of callers")
    identity.add_argument(
        "--requestheader-client-ca-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="CA of the front proxies whose identity headers are trusted (PEM)",
    )
    identity.add_argument(
        "--requestheader-allowed-names", action="append", metavar="NAMES", help="common names of them; none: any name"
    )
    for what, metavar, names in _HEADER_FLAGS:
        identity.add_argument(
            f"--requestheader-{what}", action="append", metavar=metavar, help=f"default: {', '.join(names).title()}"
        )
    identity.add_argument("--client-ca-file", type=Path, metavar="FILE", help="CA of clients that come directly (PEM)")
    identity.add_argument(
        "--client-ca-crl-file", type=Path, metavar="FILE", help="revocation lists of that CA (PEM or DER)"
    )
    identity.add_argument(
        "--requestheader-client-ca-crl-file",
        type=Path,
        metavar="FILE",
        help="revocation lists of the CA of the front proxies (PEM or DER)",
    )
    identity.add_argument(
        "--authorization-kubeconfig",
        type=Path,
        metavar="FILE",
        help="kubeconfig of the server that is asked what callers may do (none: only system:masters may do anything)",
    )
    other = parser.add_argument_group("other")
    other.add_argument(
        "--runtime-config",
        action="append",
        metavar="GROUP/VERSION=BOOL",
        help="switch group versions on or off, e.g. example.grafana.app/v0alpha1=true",
    )
    other.add_argument("--data-dir", type=Path, metavar="DIR", help="where objects are stored (none: in memory)")
    other.add_argument("--log-format", choices=("logfmt", "json"), default="logfmt", help=_DEFAULT.strip("()"))
    other.add_argument(
        "-v",
        "--v",
        type=int,
        default=2,
        dest="verbosity",
        metavar="LEVEL",
        help=f"how much is logged; 4 and more: each request {_DEFAULT}",
    )


def parse_flags(arguments: argparse.Namespace, served: Iterable[GroupVersion]) -> ServerFlags:
    """Check the values; FlagError names the flag that is wrong."""
    for flag in ("secure_port", "metrics_port"):
        if not 0 <= getattr(arguments, flag) <= 65535:
            raise FlagError(f"--{flag.replace('_', '-')}: must be between 0 and 65535")
    files = ("tls_cert_file", "tls_private_key_file", "requestheader_client_ca_file", "client_ca_file")
    lists = ("client_ca_crl_file", "requestheader_client_ca_crl_file")
    for flag in (*files, *lists, "authorization_kubeconfig"):
        path: Path | None = getattr(arguments, flag)
        if path is not None and not path.is_file():
            raise FlagError(f"--{flag.replace('_', '-')}: no such file: {path}")
    if arguments.client_ca_crl_file is not None and arguments.client_ca_file is None:
        raise FlagError("--client-ca-crl-file: needs --client-ca-file")
    names = RequestHeaderNames(
        username=_list(arguments.requestheader_username_headers) or _NAMES.username,
        uid=_list(arguments.requestheader_uid_headers) or _NAMES.uid,
        group=_list(arguments.requestheader_group_headers) or _NAMES.group,
        extra_prefix=_list(arguments.requestheader_extra_headers_prefix) or _NAMES.extra_prefix,
    )
    return ServerFlags(
        bind_address=arguments.bind_address,
        secure_port=arguments.secure_port,
        cert=arguments.tls_cert_file,
        key=arguments.tls_private_key_file,
        requestheader_ca=arguments.requestheader_client_ca_file,
        requestheader_names=names,
        allowed_names=_list(arguments.requestheader_allowed_names),
        client_ca=arguments.client_ca_file,
        requestheader_crl=arguments.requestheader_client_ca_crl_file,
        client_crl=arguments.client_ca_crl_file,
        authorization_kubeconfig=arguments.authorization_kubeconfig,
        disabled=parse_runtime_config(_list(arguments.runtime_config), served),
        data_dir=arguments.data_dir,
        metrics_bind_address=arguments.metrics_bind_address,
        metrics_port=arguments.metrics_port,
        shutdown_delay_seconds=arguments.shutdown_delay_seconds,
        shutdown_grace_seconds=arguments.shutdown_grace_seconds,
        verbosity=arguments.verbosity,
        log_format=arguments.log_format,
    )


def _list(values: Sequence[str] | None) -> tuple[str, ...]:
    """Flags may be repeated, and each may hold several values with commas between."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())


def parse_runtime_config(settings: Sequence[str], served: Iterable[GroupVersion]) -> frozenset[GroupVersion]:
    """The group versions that are switched off. `api/all` stands for every one; what names one wins over it."""
    known = set(served)
    switched: dict[GroupVersion, bool] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if value.lower() not in ("true", "false", ""):
            raise FlagError(f"--runtime-config: {setting}: must be true or false")
        on = value.lower() != "false"
        if name == "api/all":
            switched = {group_version: on for group_version in known} | switched
            continue
        group_version = GroupVersion.parse(name) if name.count("/") == 1 else None
        if group_version not in known or group_version is None:
            listed = ", ".join(sorted(map(str, known)))
            raise FlagError(f"--runtime-config: {name}: unknown group version, this server has {listed}")
        switched[group_version] = on
    return frozenset(group_version for group_version, on in switched.items() if not on)
