"""Where an APIService is served: pure resolution of its service reference through ExternalName objects."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, replace

from aggregator.upstream import settings
from aggregator.upstream.settings import BackendSettings
from apimachinery.types import Object

DEFAULT_PORT = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The address and the TLS rules of one remote APIService. Frozen and comparable; holds no secret."""

    apiservice: str
    """Name of the APIService, `<version>.<group>`."""
    group: str
    version: str
    host: str
    """Host name or IP address to dial, without brackets."""
    port: int
    server_name: str
    """Name sent as SNI and verified in the certificate, whatever host is dialled: `<service>.<namespace>.svc`."""
    ca_bundle: bytes | None = None
    """PEM bundle that alone is trusted; None means the system's roots."""
    insecure: bool = False
    """Skip chain and name verification."""
    more: tuple[tuple[str, int], ...] = ()
    """Further (host, port) pairs that serve the same."""
    settings: BackendSettings = settings.DEFAULT

    @property
    def authority(self) -> str:
        """`host:port` as it stands in a URL or a Host header; IPv6 addresses bracketed."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Every (host, port) of the service, `host` and `port` first."""
        return ((self.host, self.port), *self.more)

    def alternatives(self) -> "tuple[Backend, ...]":
        """The same backend once for each of its addresses, each as if it were the only one."""
        if not self.more:
            return (self,)
        return tuple(replace(self, host=host, port=port, more=()) for host, port in self.addresses)

    @property
    def discovery_path(self) -> str:
        """The path whose answer shows that the API is served."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveError:
    """Why an APIService has no backend; `reason` is a condition reason of the availability rules."""

    reason: str
    message: str


def service_reference(apiservice: Object) -> tuple[str, str] | None:
    """(namespace, name) of the service that an APIService names, or None when it is served locally."""
    service = apiservice.get("spec", {}).get("service")
    if not service:
        return None
    return str(service.get("namespace", "")), str(service.get("name", ""))


def split_host(text: str, default_port: int) -> tuple[str, int]:
    """`host`, `host:port`, `address` or `[address]:port` as (host without brackets, port); ValueError: bad port."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")) or text.endswith("]"):
        return text.removeprefix("[").removesuffix("]"), default_port
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535):
        raise ValueError("port must be a number from 1 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _more(external: Object, first: tuple[str, int]) -> tuple[tuple[str, int], ...]:
    """The addresses beside `first`, each once; what cannot be read is left out."""
    found: list[tuple[str, int]] = []
    for text in external["spec"].get("hosts") or ():
        try:
            address = split_host(str(text).strip(), first[1])
        except ValueError:
            continue
        if address[0] and address != first and address not in found:
            found.append(address)
    return tuple(found)


def server_name(namespace: str, name: str) -> str:
    return f"{name}.{namespace}.svc"


def backend_for(apiservice: Object, lookup: Callable[[str, str], Object | None]) -> Backend | ResolveError:
    """Resolve a remote APIService; `lookup(namespace, name)` finds an ExternalName object.

    An exception of `lookup` becomes `ServiceAccessError`. Calling this for a local APIService is a ValueError.
    """
    reference = service_reference(apiservice)
    if reference is None:
        raise ValueError("a local APIService has no backend")
    namespace, name = reference
    spec = apiservice["spec"]
    where = f'service/{name} in "{namespace}"'
    try:
        external = lookup(namespace, name)
    except Exception as error:
        return ResolveError(reason="ServiceAccessError", message=f"{where} cannot be checked due to: {error}")
    if external is None:
        return ResolveError(reason="ServiceNotFound", message=f"{where} is not present")
    host = str(external.get("spec", {}).get("host", "")).strip().removeprefix("[").removesuffix("]")
    if not host:
        return ResolveError(reason="ServiceNotFound", message=f"{where} has no host")
    bundle = spec.get("caBundle")
    try:
        ca_bundle = base64.b64decode(bundle, validate=True) if bundle else None
    except (binascii.Error, ValueError):
        # What is no base64 is no PEM either: the TLS layer reports it as such, at the time of use.
        ca_bundle = str(bundle).encode()
    port = int(spec["service"].get("port") or DEFAULT_PORT)
    return Backend(
        apiservice=str(apiservice.get("metadata", {}).get("name", "")),
        group=str(spec.get("group", "")),
        version=str(spec.get("version", "")),
        host=host,
        port=port,
        server_name=server_name(namespace, name),
        ca_bundle=ca_bundle,
        insecure=bool(spec.get("insecureSkipTLSVerify")),
        more=_more(external, (host, port)),
        settings=settings.from_annotations(apiservice.get("metadata", {}).get("annotations")),
    )
