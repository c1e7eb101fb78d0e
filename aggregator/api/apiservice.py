"""The kind `apiregistration.k8s.io/v1 APIService`: a group version and the server that serves it (aggregator.md 1)."""

from collections.abc import Callable
from typing import Final

from aggregator.api import conditions, references
from aggregator.api.apiservice_protobuf import APISERVICE
from aggregator.api.apiservice_strategy import APIServiceStrategy
from apimachinery.table import AGE_COLUMN, NAME_COLUMN, Column
from apimachinery.types import Object
from apiserver.resource import Resource

GROUP: Final = "apiregistration.k8s.io"
VERSION: Final = "v1"
PLURAL: Final = "apiservices"
AUTOMANAGED_LABEL: Final = "kube-aggregator.kubernetes.io/automanaged"

_SERVICE: Final[Object] = {
    "type": "object",
    "description": "Where the API is served: the ExternalName with this namespace and name. Without a service the API "
    "is served by this server itself.",
    "properties": {
        "namespace": {"type": "string", "description": "Namespace of the ExternalName."},
        "name": {"type": "string", "description": "Name of the ExternalName."},
        "port": {
            "type": "integer",
            "format": "int32",
            "description": "Port of the aggregated server, 1 to 65535. 443 when it is left out.",
        },
    },
}

_SPEC: Final[Object] = {
    "type": "object",
    "description": "What is served, by whom, and how it ranks.",
    "required": ["groupPriorityMinimum", "versionPriority"],
    "properties": {
        "service": _SERVICE,
        "group": {"type": "string", "description": "API group that is served."},
        "version": {"type": "string", "description": "Version of the group that is served, for example `v1`."},
        "insecureSkipTLSVerify": {
            "type": "boolean",
            "description": "Do not verify the aggregated server's certificate. Strongly discouraged: use caBundle.",
        },
        "caBundle": {
            "type": "string",
            "format": "byte",
            "x-kubernetes-list-type": "atomic",
            "description": "PEM certificate authorities, base64 encoded, that the aggregated server's certificate is "
            "verified with. Without it the certificate authorities of the system are trusted.",
        },
        "groupPriorityMinimum": {
            "type": "integer",
            "format": "int32",
            "description": "The least priority of the group, 1 to 20000. The group takes the highest of its versions' "
            "values; groups with a higher priority are preferred by clients, equal ones are ordered by name.",
        },
        "versionPriority": {
            "type": "integer",
            "format": "int32",
            "description": "Rank of this version inside its group, 1 to 1000, higher is preferred. Equal ones are "
            "ordered as versions: v2, v1, v1beta1, v1alpha1, then anything else by name.",
        },
    },
}

_CONDITION: Final[Object] = {
    "type": "object",
    "description": "One aspect of the state of the APIService.",
    "required": ["type", "status"],
    "properties": {
        "type": {
            "type": "string",
            "description": "Kind of condition; `Available` tells if the API can be reached.",
        },
        "status": {"type": "string", "description": "`True`, `False` or `Unknown`."},
        "lastTransitionTime": {
            "type": "string",
            "format": "date-time",
            "description": "When the status changed last.",
        },
        "reason": {"type": "string", "description": "Reason of the last change, one word in CamelCase."},
        "message": {"type": "string", "description": "Details for humans."},
    },
}

SCHEMA: Final[Object] = {
    "type": "object",
    "description": "APIService represents a server for a group and version. Its name must be `version.group`.",
    "properties": {
        "spec": _SPEC,
        "status": {
            "type": "object",
            "description": "What the aggregator knows about the server; written by the aggregator.",
            "properties": {
                "conditions": {
                    "type": "array",
                    "description": "Current state of the APIService.",
                    "items": _CONDITION,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["type"],
                    "x-kubernetes-patch-strategy": "merge",
                    "x-kubernetes-patch-merge-key": "type",
                }
            },
        },
    },
}


def service_cell(obj: Object, now: float) -> str:
    """`Local`, or the `namespace/name` of the service; the port is not shown."""
    service = references.service(obj)
    return service.object_name if service else "Local"


def available_cell(obj: Object, now: float) -> str:
    """`True`, or the status with its reason in brackets; `Unknown` before the first verdict."""
    condition = conditions.get(obj)
    if condition is None:
        return "Unknown"
    status: str = condition.get("status") or ""
    reason = condition.get("reason")
    return status if status == "True" or not reason else f"{status} ({reason})"


COLUMNS: Final = (
    NAME_COLUMN,
    Column("Service", "string", service_cell, description="The reference to the service that hosts this API endpoint."),
    Column("Available", "string", available_cell, description="Whether this service is available."),
    AGE_COLUMN,
)


def resource(now: Callable[[], float]) -> Resource:
    """The declaration; `now` is the clock that stamps conditions set on creation (epoch seconds)."""
    return Resource(
        group=GROUP,
        version=VERSION,
        kind="APIService",
        plural=PLURAL,
        singular="apiservice",
        namespaced=False,
        schema=SCHEMA,
        strategy=APIServiceStrategy(now),
        categories=("api-extensions",),
        columns=COLUMNS,
        protobuf=APISERVICE,
        description="APIService represents a server for a particular group and version.",
    )
