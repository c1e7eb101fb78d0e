"""Reading an APIService: what it serves, where, and how it ranks. Tolerates missing fields as the API does."""

from dataclasses import dataclass

from apimachinery.gvk import GroupVersion
from apimachinery.types import Object

DEFAULT_PORT = 443


@dataclass(frozen=True, slots=True, order=True)
class ServiceReference:
    """The ExternalName and the port that an APIService points to."""

    namespace: str
    name: str
    port: int = DEFAULT_PORT

    @property
    def object_name(self) -> str:
        """`namespace/name` of the ExternalName."""
        return f"{self.namespace}/{self.name}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}:{self.port}"


def service(apiservice: Object) -> ServiceReference | None:
    """Where the API is served; None for a local one."""
    found = spec(apiservice).get("service")
    if found is None:
        return None
    port = found.get("port")
    return ServiceReference(
        found.get("namespace") or "", found.get("name") or "", DEFAULT_PORT if port is None else port
    )


def spec(apiservice: Object) -> Object:
    found: Object = apiservice.get("spec") or {}
    return found


def group_version(apiservice: Object) -> GroupVersion:
    fields = spec(apiservice)
    return GroupVersion(fields.get("group") or "", fields.get("version") or "")


def group_priority(apiservice: Object) -> int:
    return spec(apiservice).get("groupPriorityMinimum") or 0


def version_priority(apiservice: Object) -> int:
    return spec(apiservice).get("versionPriority") or 0


def object_name(target: GroupVersion) -> str:
    """The only name an APIService for this group version may have; the core group's ends with a dot."""
    return f"{target.version}.{target.group}"
