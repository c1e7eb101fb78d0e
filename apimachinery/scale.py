"""The kind `autoscaling/v1 Scale`: how many replicas an object wants and has, whatever its kind calls them.

Pure. Rules: rest.md B4.2; ownership as in A4.3 (the field `spec.replicas` of a Scale and the field that it stands for).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from apimachinery import status
from apimachinery.field_errors import Path, invalid
from apimachinery.gvk import GroupKind
from apimachinery.managed_fields import managers, paths
from apimachinery.managed_fields.managers import Manager, Owned
from apimachinery.managed_fields.paths import PathSet
from apimachinery.types import Object

GROUP: Final = "autoscaling"
VERSION: Final = "v1"
KIND: Final = "Scale"
API_VERSION: Final = f"{GROUP}/{VERSION}"
SUBRESOURCE: Final = "scale"
_METADATA: Final = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
_REPLICAS: Final = (paths.name("spec"), paths.name("replicas"))

SCHEMA: Final[Object] = {
    "type": "object",
    "description": "Scale is how many replicas an object wants and has.",
    "properties": {
        "spec": {
            "type": "object",
            "description": "What is wanted.",
            "properties": {"replicas": {"type": "integer", "format": "int32", "description": "Number of replicas."}},
        },
        "status": {
            "type": "object",
            "description": "What was observed last. Read-only.",
            "properties": {
                "replicas": {"type": "integer", "format": "int32", "description": "Number of replicas there are."},
                "selector": {"type": "string", "description": "Label selector of what the replicas consist of."},
            },
        },
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePaths:
    """Where an object keeps what its Scale shows, as dotted paths of object members.

    ValueError for a path that is not below `spec` or `status`, as it must be.
    """

    spec_replicas: str = "spec.replicas"
    status_replicas: str = "status.replicas"
    selector: str = ""
    """A text, below `spec` or `status`; empty when there is none."""

    def __post_init__(self) -> None:
        for text, roots in (
            (self.spec_replicas, ("spec",)),
            (self.status_replicas, ("status",)),
            (self.selector, ("spec", "status")),
        ):
            root, _, rest = text.partition(".")
            if text and (root not in roots or not all(rest.split("."))):
                raise ValueError(f"{text!r} is not a path below {' or '.join(roots)}")
        if not self.spec_replicas or not self.status_replicas:
            raise ValueError("a scale needs the paths of both numbers of replicas")


def of(obj: Object, declared: ScalePaths, api_version: str) -> Object:
    """The Scale of an object of `api_version`. APIError 500 when the object says nothing about replicas."""
    replicas = _at(obj, declared.spec_replicas)
    if replicas is None:
        raise status.internal_error(f'the spec replicas field ".{declared.spec_replicas}" does not exist')
    found: Object = {"replicas": _at(obj, declared.status_replicas) or 0}
    if declared.selector and (selector := _at(obj, declared.selector)):
        found["selector"] = selector
    metadata = {name: obj["metadata"][name] for name in _METADATA if name in obj["metadata"]}
    if entries := _entries_of(obj["metadata"].get("managedFields"), _steps(declared), api_version):
        metadata["managedFields"] = entries
    return {
        "kind": KIND,
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "spec": {"replicas": replicas},
        "status": found,
    }


def wanted(scale: Object, declared: ScalePaths) -> int:
    """The number of replicas that a Scale asks for. APIError 400 when it has none, 422 for a bad one."""
    replicas = (scale.get("spec") or {}).get("replicas")
    if replicas is None:
        raise status.bad_request(f'the spec replicas field ".{declared.spec_replicas}" cannot be empty')
    if replicas < 0:
        fault = invalid(Path.of("spec", "replicas"), replicas, "must be greater than or equal to 0")
        raise status.invalid(GroupKind(GROUP, KIND), scale["metadata"].get("name") or "", [fault])
    number: int = replicas
    return number


def set_replicas(obj: Object, declared: ScalePaths, replicas: int) -> None:
    """Write the wanted number into an object, in place."""
    *parents, last = declared.spec_replicas.split(".")
    for name in parents:
        if not isinstance(obj.get(name), dict):
            obj[name] = {}
        obj = obj[name]
    obj[last] = replicas


def owners(
    kept: Sequence[Object] | None, scale: Sequence[Object], declared: ScalePaths, api_version: str
) -> list[Object]:
    """The managedFields of an object after its Scale, with the entries `scale`, was written. `kept` are those before.

    Who lost the replicas to a write of the Scale loses the field in the object; who took them owns it through the
    subresource.
    """
    steps = _steps(declared)
    field = PathSet.of([steps])
    taken = {_key(manager): (manager, owned) for manager, owned in managers.decode(scale).items() if _has(owned)}
    result: dict[Manager, Owned] = {}
    for manager, owned in managers.decode(kept).items():
        if steps in owned.fields and owned.api_version == api_version and taken.pop(_key(manager), None) is None:
            left = owned.fields - field
            if left:
                result[manager] = Owned(fields=left, api_version=owned.api_version, time=owned.time)
            continue
        result[manager] = owned
    for manager, owned in taken.values():
        mine = Manager(
            name=manager.name,
            operation=manager.operation,
            api_version="" if manager.applies else api_version,
            subresource=manager.subresource,
        )
        before = result.get(mine)
        fields = field | before.fields if before is not None else field
        result[mine] = Owned(fields=fields, api_version=api_version, time=owned.time)
    return managers.encode(result)


def _entries_of(entries: Any, steps: paths.Path, api_version: str) -> list[Object]:
    """The entries of a Scale: who owns the replicas of the object."""
    owned = {
        Manager(
            name=manager.name,
            operation=manager.operation,
            api_version="" if manager.applies else API_VERSION,
            subresource=manager.subresource,
        ): Owned(fields=PathSet.of([_REPLICAS]), api_version=API_VERSION, time=owned.time)
        for manager, owned in _decoded(entries).items()
        if owned.api_version == api_version and steps in owned.fields
    }
    return managers.encode(owned)


def _decoded(entries: Any) -> Mapping[Manager, Owned]:
    try:
        return managers.decode(entries)
    except ValueError:
        return {}


def _has(owned: Owned) -> bool:
    return _REPLICAS in owned.fields


def _key(manager: Manager) -> tuple[str, str, str]:
    return manager.name, manager.operation, manager.subresource


def _steps(declared: ScalePaths) -> paths.Path:
    return tuple(paths.name(part) for part in declared.spec_replicas.split("."))


def _at(obj: Object, dotted: str) -> Any:
    value: Any = obj
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
