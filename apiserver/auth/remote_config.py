"""Where a webhook is and how we prove who we are to it: the current context of a kubeconfig file."""

import base64
import binascii
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from apiserver import http1
from apiserver.auth.policy_file import read_text
from apiserver.auth.yaml_fields import Field, compose

_TOP: Final = ("apiVersion", "kind", "current-context", "clusters", "users", "contexts", "preferences", "extensions")
_CLUSTER: Final = (
    "server",
    "certificate-authority",
    "certificate-authority-data",
    "insecure-skip-tls-verify",
    "tls-server-name",
)
_USER: Final = (
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
    "token",
    "tokenFile",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """A server to ask. The token, if any, is among the headers."""

    target: http1.Target
    path: str
    """Where requests go, with its query."""
    headers: tuple[tuple[str, str], ...] = ()


def load(path: Path) -> RemoteConfig:
    """Read a kubeconfig. Names of files in it count from its directory. FileError."""
    root = compose(read_text(path), str(path)).fields(_TOP, needed=("clusters", "current-context"))
    contexts = _named(root["contexts"], "context", ("cluster", "user", "namespace"))
    current = root["current-context"].text()
    if current not in contexts:
        raise root["current-context"].fault(f"there is no context {current}")
    context = contexts[current]
    clusters = _named(root["clusters"], "cluster", _CLUSTER)
    users = _named(root["users"], "user", _USER)
    cluster_name, user_name = context["cluster"].text(), context["user"].optional_text()
    if cluster_name not in clusters:
        raise context["cluster"].fault(f"there is no cluster {cluster_name}")
    if user_name and user_name not in users:
        raise context["user"].fault(f"there is no user {user_name}")
    return _config(path.parent, clusters[cluster_name], users.get(user_name))


def _named(field: Field, member: str, known: tuple[str, ...]) -> dict[str, dict[str, Field]]:
    """The entries of one of the lists of a kubeconfig, each `{name: ..., <member>: {...}}`."""
    found: dict[str, dict[str, Field]] = {}
    for item in field.items():
        entry = item.fields(("name", member), needed=("name",))
        empty = {name: Field(item.file, f"{item.path}.{member}.{name}", None) for name in known}
        body = entry[member].fields(known, open_ended=True) if entry[member].given else empty
        found[entry["name"].text()] = body
    return found


def _config(directory: Path, cluster: dict[str, Field], user: dict[str, Field] | None) -> RemoteConfig:
    server = cluster["server"]
    url = urlsplit(server.text())
    try:
        port = url.port
    except ValueError:
        raise server.fault("not a URL") from None
    if url.scheme not in ("http", "https") or not url.hostname or url.fragment or url.username is not None:
        raise server.fault("not an http or https URL")
    secure = url.scheme == "https"
    target = http1.Target(
        host=url.hostname,
        port=port or (443 if secure else 80),
        ssl=_context(directory, cluster, user) if secure else None,
        server_hostname=cluster["tls-server-name"].optional_text() or None,
    )
    path = url.path or "/"
    return RemoteConfig(
        target=target,
        path=f"{path}?{url.query}" if url.query else path,
        headers=_headers(directory, user) if user is not None else (),
    )


def _headers(directory: Path, user: dict[str, Field]) -> tuple[tuple[str, str], ...]:
    token = user["token"].optional_text()
    if not token and user["tokenFile"].given:
        token = read_text(directory / user["tokenFile"].text()).strip()
    if not token:
        return ()
    if not token.isascii() or not token.isprintable():
        raise user["token"].fault("holds characters that cannot stand in a header")
    return (("authorization", f"Bearer {token}"),)


def _context(directory: Path, cluster: dict[str, Field], user: dict[str, Field] | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    authority = _content(directory, cluster, "certificate-authority")
    if authority:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=authority.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError):
            raise cluster["certificate-authority"].fault("no usable PEM certificates") from None
    if cluster["insecure-skip-tls-verify"].flag():
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if user is not None:
        _show(context, directory, user)
    return context


def _show(context: ssl.SSLContext, directory: Path, user: dict[str, Field]) -> None:
    """Load the client certificate, which the ssl module only takes from files."""
    certificate, key = _content(directory, user, "client-certificate"), _content(directory, user, "client-key")
    if bool(certificate) != bool(key):
        raise user["client-certificate"].fault("a certificate and its key go together")
    if not certificate:
        return
    with tempfile.NamedTemporaryFile(prefix="aggregator-") as pair:
        pair.write(certificate.rstrip() + b"\n" + key)
        pair.flush()
        try:
            context.load_cert_chain(pair.name)
        except ssl.SSLError:
            raise user["client-certificate"].fault("no usable PEM certificate with its key") from None


def _content(directory: Path, fields: dict[str, Field], name: str) -> bytes:
    """The content of a `<name>-data` in base64, or of the file that `<name>` names; empty for neither."""
    data = fields[f"{name}-data"]
    if data.given:
        try:
            return base64.b64decode(data.text(), validate=True)
        except binascii.Error:
            raise data.fault("not valid base64") from None
    field = fields[name]
    if not field.given:
        return b""
    try:
        return (directory / field.text()).read_bytes()
    except OSError as error:
        raise field.fault(f"cannot read {field.text()}: {error.strerror}") from None
