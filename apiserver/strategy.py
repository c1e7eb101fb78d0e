"""What may change in an object and when: the rules of a kind, apart from its shape (schema) and its keeping (store)."""

from collections.abc import Mapping, Sequence

from apimachinery.field_errors import FieldError
from apimachinery.names import validate_dns1123_subdomain
from apimachinery.types import Object


class Strategy:
    """The rules of a resource. Override only what differs.

    `prepare_*` may mutate `new` (it is the server's own copy), never `old`. `validate_*` return every fault at once.
    Schema defaults are applied before `prepare_*`; schema and metadata validation run apart from `validate_*`.
    """

    allow_unconditional_update: bool = True
    """Whether a PUT without resourceVersion may overwrite. False for custom resources and APIServices."""

    tracks_generation: bool = True
    """Whether `metadata.generation` counts changes outside of metadata and status."""

    has_status: bool = False
    """Whether `status` is only written through the status subresource."""

    reset_fields: Mapping[str, tuple[str, ...]] | None = None
    """Dotted paths of fields that a write through a subresource (`""`: to the object itself) leaves as they are.

    Nobody comes to manage such fields through such a write, and applying them neither changes anything nor conflicts.
    None: with `has_status`, `status` for the object itself and everything else for the status subresource. Must agree
    with what `prepare_update` and `prepare_status_update` put back.
    """

    def validate_name(self, name: str) -> Sequence[str]:
        """The faults of an object name, each the detail text of an `Invalid value` error."""
        return validate_dns1123_subdomain(name)

    def default(self, obj: Object) -> None:
        """Fill in defaults that the schema cannot express, in place. Runs on every write, before `prepare_*`."""

    def prepare_create(self, new: Object) -> None:
        """Bring a new object into the form in which it is stored."""
        if self.has_status:
            new.pop("status", None)

    def prepare_update(self, new: Object, old: Object) -> None:
        """Bring an updated object into the form in which it is stored; with `has_status`, status stays as stored."""
        if self.has_status:
            if "status" in old:
                new["status"] = old["status"]
            else:
                new.pop("status", None)

    def validate_create(self, new: Object) -> list[FieldError]:
        """The faults of a new object beyond schema and metadata."""
        return []

    def warnings(self, new: Object) -> list[str]:
        """Sentences for whoever writes an object that is in order but may not do what is wanted. It may be invalid."""
        return []

    def validate_update(self, new: Object, old: Object) -> list[FieldError]:
        """The faults of an updated object beyond schema and metadata."""
        return self.validate_create(new)

    def prepare_status_update(self, new: Object, old: Object) -> None:
        """Keep everything but status as stored (called for the status subresource)."""
        status = new.get("status")
        metadata = {**old["metadata"], "resourceVersion": new["metadata"].get("resourceVersion", "")}
        new.clear()
        new.update({**old, "metadata": metadata})
        if status is None:
            new.pop("status", None)
        else:
            new["status"] = status

    def validate_status_update(self, new: Object, old: Object) -> list[FieldError]:
        """The faults of a status update."""
        return []
