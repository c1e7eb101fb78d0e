"""Who manages which fields of the stored objects, as each write leaves it (rest.md A4.3)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from apimachinery import status, yaml_values
from apimachinery.json_values import type_name
from apimachinery.managed_fields import managers, paths, typed, update
from apimachinery.managed_fields.ownership import Rules
from apimachinery.managed_fields.paths import PathSet
from apimachinery.options import WriteOptions
from apimachinery.schema import Schema
from apimachinery.types import Object
from apiserver.resource import Resource
from apiserver.rest.objects import timestamp

_YAML_ERRORS = "error converting YAML to JSON: yaml: unmarshal errors:\n"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is to be applied, and a sentence for each key that its document repeats."""

    object: Object
    duplicates: list[str] = field(default_factory=list)

    def check_duplicates(self, field_validation: str) -> list[str]:
        """The warnings about repeated keys. APIError 400 when validation is strict."""
        if self.duplicates and field_validation == "Strict":
            lines = "\n".join(f"  {sentence}" for sentence in self.duplicates)
            raise status.bad_request(f"error strict decoding patch: {_YAML_ERRORS}{lines}")
        return self.duplicates if field_validation == "Warn" else []


def decode_configuration(body: bytes) -> Configuration:
    """The configuration in the body of an apply patch, YAML (hence also JSON). APIError 400 when it is no object."""
    try:
        document, duplicates = yaml_values.load(body)
    except ValueError as error:
        raise status.bad_request(f"error decoding patch: {error}") from None
    if document is not None and not isinstance(document, dict):
        raise status.bad_request(f"error decoding patch: expected an object, got {type_name(document)}")
    return Configuration(document or {}, duplicates)


class Tracker:
    """Computes managed fields. `now` is a clock in epoch seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._types: dict[tuple[str, str, str], tuple[Schema, typed.Type]] = {}

    def updated(
        self, resource: Resource, live: Object | None, new: Object, options: WriteOptions, *, subresource: str = ""
    ) -> list[Object]:
        """The managedFields that an object gets with a create (`live` is None), an update or a patch."""
        rules = self._rules(resource, subresource)
        try:
            return update.update(live, new, rules, self._writer(options, subresource))
        except typed.TypedError:
            # An object that cannot be compared must not lose its managers; if it is invalid, validation says so.
            entries: list[Object] = (live or {}).get("metadata", {}).get("managedFields") or []
            return entries

    def applied(
        self, resource: Resource, live: Object | None, config: Object, options: WriteOptions, *, subresource: str
    ) -> update.Applied:
        """What applying a configuration makes of an object, or of nothing. APIError 400, 409 with conflicts, 500."""
        rules = self._rules(resource, subresource)
        update.check_config(config, rules, resource.kind)
        writer = self._writer(options, subresource)
        return update.apply(live, config, rules, writer, force=bool(options.force))

    def _writer(self, options: WriteOptions, subresource: str) -> update.Writer:
        return update.Writer(
            manager=options.field_manager,
            now=timestamp(self._now()),
            subresource=subresource,
        )

    def _rules(self, resource: Resource, subresource: str) -> Rules:
        return Rules(
            type=self._type(resource),
            api_version=resource.api_version,
            serves=lambda version: version.rpartition("/")[0] == resource.group,
            reset=_reset_fields(resource, subresource),
        )

    def _type(self, resource: Resource) -> typed.Type:
        key = (resource.group, resource.version, resource.plural)
        known = self._types.get(key)
        if known is None or known[0] is not resource.schema:
            known = self._types[key] = (resource.schema, typed.object_type(resource.schema))
        return known[1]


def _reset_fields(resource: Resource, subresource: str) -> PathSet:
    declared = resource.strategy.reset_fields
    if declared is not None:
        listed = declared.get(subresource, ())
        return PathSet.of(tuple(paths.name(part) for part in dotted.split(".")) for dotted in listed)
    if not resource.strategy.has_status:
        return paths.EMPTY
    if not subresource:
        return PathSet.of([(paths.name("status"),)])
    others = {"metadata", "spec", *(resource.schema.get("properties") or {})} - {"status"}
    return PathSet.of((paths.name(field),) for field in others)


def set_managed_fields(obj: Object, entries: list[Object]) -> None:
    """Put the entries into an object, in place."""
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def same(obj: Object, live: Object) -> bool:
    """Whether writing `obj` over `live` would change nothing; when its fields were managed does not count."""
    entries, stored = obj["metadata"].get("managedFields"), live["metadata"].get("managedFields")
    if entries and stored and entries != stored:
        if not managers.same_but_times(entries, stored):
            return False
        obj = {**obj, "metadata": {**obj["metadata"], "managedFields": stored}}
    return obj == live
