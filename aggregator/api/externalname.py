"""The kind `service.grafana.app/v0alpha1 ExternalName`: the host that stands behind a service reference."""

import contextlib
import dataclasses
import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from aggregator.upstream.backend import split_host
from aggregator.upstream.egress import UNRESTRICTED, Egress
from apimachinery.field_errors import FieldError, Path, invalid, required
from apimachinery.names import validate_dns1123_subdomain
from apimachinery.table import AGE_COLUMN, NAME_COLUMN, Column
from apimachinery.types import Object
from apiserver.resource import Resource
from apiserver.strategy import Strategy

GROUP: Final = "service.grafana.app"
VERSION: Final = "v0alpha1"
PLURAL: Final = "externalnames"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "ExternalName"

_HOST = Path.of("spec", "host")
_HOSTS = Path.of("spec", "hosts")
_LAST_LABEL_NUMERIC = re.compile(r"(?:^|\.)[0-9]+\.?$")

SCHEMA: Final[Object] = {
    "type": "object",
    "description": "ExternalName gives a host a name inside the API, for APIServices to refer to as their service.",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "description": "Where the service is.",
            "required": ["host"],
            "properties": {
                "host": {
                    "type": "string",
                    "description": "DNS name or IP address of the server, without scheme, port or path.",
                },
                "hosts": {
                    "type": "array",
                    "description": "Further addresses of the same service: hosts as in `host`, each with a port of its "
                    "own if one follows after a colon. Requests are spread over all of them and `host`.",
                    "items": {"type": "string"},
                    "maxItems": 64,
                    "x-kubernetes-list-type": "set",
                },
            },
        }
    },
}


def host(obj: Object) -> str:
    """The host of an ExternalName; empty if it has none."""
    found: str = (obj.get("spec") or {}).get("host") or ""
    return found


def hosts(obj: Object) -> tuple[str, ...]:
    """Every address that an ExternalName gives, the host first."""
    return (host(obj), *((obj.get("spec") or {}).get("hosts") or ()))


def address_faults(text: str) -> Sequence[str]:
    """Why a text is neither a host nor a host with a port."""
    if "/" in text:
        return host_faults(text)
    try:
        name, _ = split_host(text, 1)
    except ValueError as error:
        return [str(error)]
    return host_faults(name)


def host_faults(text: str) -> Sequence[str]:
    """Why a text is neither a DNS name nor an IP address; a final dot, which marks a complete DNS name, is allowed."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        return ["must not name a zone"] if getattr(address, "scope_id", None) else []
    hint = _likely_mistake(text)
    if hint:
        return [hint]
    faults = validate_dns1123_subdomain(text.removesuffix("."))
    if not faults and _LAST_LABEL_NUMERIC.search(text):
        return ["must be a DNS name or an IP address; it ends in a number but is not a valid IP address"]
    return [f"must be a DNS name or an IP address: {fault}" for fault in faults]


def _likely_mistake(text: str) -> str:
    if "://" in text:
        return "must be a host without a scheme"
    if "/" in text:
        return "must be a host without a path"
    if text.startswith("[") and text.endswith("]"):
        return "must be an IPv6 address without brackets"
    if re.search(r"^[^:]+:[0-9]+$|\]:[0-9]+$", text):
        return "must be a host without a port; the port belongs to spec.service.port of the APIService"
    return ""


class ExternalNameStrategy(Strategy):
    """An ExternalName is its addresses; a missing host is the schema's to report, an empty one is reported here."""

    def __init__(self, egress: Egress = UNRESTRICTED) -> None:
        self._egress = egress

    def validate_create(self, new: Object) -> list[FieldError]:
        spec = new.get("spec") or {}
        found = spec.get("host")
        faults: list[FieldError] = []
        if found == "":
            faults.append(required(_HOST, "must be a DNS name or an IP address"))
        elif found is not None:
            faults.extend(invalid(_HOST, found, fault) for fault in host_faults(found))
        for index, address in enumerate(spec.get("hosts") or ()):
            faults.extend(invalid(_HOSTS.index(index), address, fault) for fault in address_faults(address))
        return faults

    def warnings(self, new: Object) -> list[str]:
        """Names are judged when they are looked up, addresses already now."""
        texts = [text for text in hosts(new) if isinstance(text, str)]
        found = []
        for text in texts:
            with contextlib.suppress(ValueError):
                refusal = self._egress.refusal(split_host(text, 1)[0])
                if refusal:
                    found.append(f"{refusal}; requests to it will fail")
        return found


def _host_cell(obj: Object, now: float) -> str:
    return host(obj)


def external_name(namespace: str, name: str, target: str) -> Object:
    """An ExternalName object that points to the host `target`."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"host": target},
    }


RESOURCE: Final = Resource(
    group=GROUP,
    version=VERSION,
    kind=KIND,
    plural=PLURAL,
    singular="externalname",
    namespaced=True,
    schema=SCHEMA,
    strategy=ExternalNameStrategy(),
    columns=(
        NAME_COLUMN,
        Column("Host", "string", _host_cell, description="The DNS name or IP address of the server."),
        AGE_COLUMN,
    ),
    selectable_fields=("spec.host",),
    description="ExternalName gives a host a name inside the API, so that an APIService can refer to it.",
)


def resource(egress: Egress) -> Resource:
    """The kind, with warnings about addresses that the policy forbids."""
    return dataclasses.replace(RESOURCE, strategy=ExternalNameStrategy(egress))
