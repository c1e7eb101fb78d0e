"""The rules of APIServices (aggregator.md 1.3 and 1.4)."""

from collections.abc import Callable, Sequence

from aggregator.api import ca_bundle, conditions, probe, references
from aggregator.upstream import settings
from apimachinery import status
from apimachinery.field_errors import FieldError, Path, invalid, not_supported, quote, required
from apimachinery.gvk import GroupVersion
from apimachinery.names import validate_dns1035_label, validate_dns1123_subdomain, validate_path_segment_name
from apimachinery.types import Object
from apiserver.strategy import Strategy

MAX_GROUP_PRIORITY = 20000
MAX_VERSION_PRIORITY = 1000
_INSECURE = Path.of("spec", "insecureSkipTLSVerify")


class APIServiceStrategy(Strategy):
    """`now` is the clock of the transition time of conditions that are set on creation (epoch seconds)."""

    allow_unconditional_update = False
    tracks_generation = False
    has_status = True

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def validate_name(self, name: str) -> Sequence[str]:
        return validate_path_segment_name(name)

    def default(self, obj: Object) -> None:
        """Port 443, the priorities (always part of the object) and the canonical form of caBundle.

        APIError 400 when caBundle is not base64: that is a fault of decoding, not of validation.
        """
        spec = dict(references.spec(obj))
        for field in ("groupPriorityMinimum", "versionPriority"):
            spec[field] = spec.get(field) or 0
        if spec.get("service") is not None:
            service = dict(spec["service"])
            if service.get("port") is None:
                service["port"] = references.DEFAULT_PORT
            spec["service"] = service
        if "caBundle" in spec:
            bundle = _decode(spec.pop("caBundle"))
            if bundle:
                spec["caBundle"] = ca_bundle.encode(bundle)
        obj["spec"] = spec

    def prepare_create(self, new: Object) -> None:
        """The client's status is dropped; a local API is available from its first moment."""
        new["status"] = {}
        if references.service(new) is None:
            new["status"] = conditions.with_condition({}, probe.LOCAL, self._now())

    def validate_create(self, new: Object) -> list[FieldError]:
        return validate(new)

    def validate_status_update(self, new: Object, old: Object) -> list[FieldError]:
        entries = (new.get("status") or {}).get("conditions") or []
        path = Path.of("status", "conditions")
        return [
            not_supported(path.index(position).child("status"), entry.get("status") or "", conditions.STATUSES)
            for position, entry in enumerate(entries)
            if entry.get("status") not in conditions.STATUSES
        ]


def validate(obj: Object) -> list[FieldError]:
    """Every fault of an APIService beyond its metadata, in the documented order (rules 4 and 7 to 17)."""
    spec = references.spec(obj)
    target = references.group_version(obj)
    return [
        *_name_errors(obj["metadata"].get("name") or "", target),
        *_group_version_errors(target),
        *_priority_errors(spec),
        *_service_errors(spec),
        *_annotation_errors(obj["metadata"].get("annotations")),
    ]


def _annotation_errors(annotations: Object | None) -> list[FieldError]:
    path = Path.of("metadata", "annotations")
    return [invalid(path.key(name), value, fault) for name, value, fault in settings.faults(annotations)]


def _name_errors(name: str, target: GroupVersion) -> list[FieldError]:
    expected = references.object_name(target)
    if not name or name == expected or validate_path_segment_name(name):
        return []
    return [invalid(Path.of("metadata", "name"), name, f'must be `spec.version+"."+spec.group`: {quote(expected)}')]


def _group_version_errors(target: GroupVersion) -> list[FieldError]:
    path = Path.of("spec")
    errors: list[FieldError] = []
    if not target.group and target.version != "v1":
        text = "only v1 may have an empty group and it better be legacy kube"
        errors.append(required(path.child("group"), text))
    if target.group:
        texts = validate_dns1123_subdomain(target.group)
        errors.extend(invalid(path.child("group"), target.group, text) for text in texts)
    texts = validate_dns1035_label(target.version)
    errors.extend(invalid(path.child("version"), target.version, text) for text in texts)
    return errors


def _priority_errors(spec: Object) -> list[FieldError]:
    errors = []
    for field, limit in (("groupPriorityMinimum", MAX_GROUP_PRIORITY), ("versionPriority", MAX_VERSION_PRIORITY)):
        value = spec.get(field) or 0
        if not 0 < value <= limit:
            errors.append(invalid(Path.of("spec", field), value, f"must be positive and less than {limit}"))
    return errors


def _service_errors(spec: Object) -> list[FieldError]:
    bundle = _decode(spec.get("caBundle"))
    insecure = bool(spec.get("insecureSkipTLSVerify"))
    service = spec.get("service")
    errors: list[FieldError] = []
    if service is None:
        if bundle:
            text = "local APIServices may not have a caBundle"
            errors.append(invalid(Path.of("spec", "caBundle"), f"{len(bundle)} bytes", text))
        if insecure:
            errors.append(invalid(_INSECURE, True, "local APIServices may not have insecureSkipTLSVerify"))
        return errors
    path = Path.of("spec", "service")
    errors.extend(required(path.child(field)) for field in ("namespace", "name") if not service.get(field))
    port = service.get("port", references.DEFAULT_PORT)
    if not 0 < port <= 65535:
        text = "port is not valid: must be between 1 and 65535, inclusive"
        errors.append(invalid(path.child("port"), port, text))
    if insecure and bundle:
        errors.append(invalid(_INSECURE, True, "may not be true if caBundle is present"))
    return errors


def _decode(bundle: str | None) -> bytes:
    try:
        return ca_bundle.decode(bundle or "")
    except ValueError as error:
        text = f'APIService in version "v1" cannot be handled as a APIService: {error}'
        raise status.bad_request(text) from None
