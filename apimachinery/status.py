"""`Status` documents and the one exception that carries them (rest.md A2)."""

from collections.abc import Iterable, Sequence
from typing import Any

from apimachinery.field_errors import FieldError, quote
from apimachinery.gvk import GroupKind, GroupResource
from apimachinery.types import Object


class APIError(Exception):
    """A failure that a client is meant to see; `status` is the document it gets, `code` its HTTP status."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    @property
    def status(self) -> Object:
        document: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            document["reason"] = self.reason
        if self.details is not None:
            document["details"] = self.details
        document["code"] = self.code
        return document

    @property
    def retry_after_seconds(self) -> int | None:
        return (self.details or {}).get("retryAfterSeconds")


def success(resource: GroupResource, name: str, uid: str) -> Object:
    """The answer to an immediate delete."""
    details: Object = {"name": name}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.resource
    if uid:
        details["uid"] = uid
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def from_document(document: Object) -> APIError:
    """The error that a received failure `Status` describes."""
    return APIError(
        int(document.get("code", 500)),
        str(document.get("reason", "")),
        str(document.get("message", "")),
        document.get("details"),
    )


def _details(resource: GroupResource, name: str, **more: Any) -> Object:
    details: Object = {}
    if name:
        details["name"] = name
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.resource
    details.update(more)
    return details


def not_found(resource: GroupResource, name: str) -> APIError:
    return APIError(404, "NotFound", f"{resource} {quote(name)} not found", _details(resource, name))


def already_exists(resource: GroupResource, name: str, *, being_deleted: bool = False) -> APIError:
    prefix = "object is being deleted: " if being_deleted else ""
    message = f"{prefix}{resource} {quote(name)} already exists"
    return APIError(409, "AlreadyExists", message, _details(resource, name))


def generate_name_exhausted(resource: GroupResource, name: str) -> APIError:
    why = "the server was not able to generate a unique name for the object"
    message = f"{resource} {quote(name)} already exists, {why}"
    return APIError(409, "AlreadyExists", message, _details(resource, name, retryAfterSeconds=1))


OBJECT_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: GroupResource, name: str, message: str = OBJECT_MODIFIED) -> APIError:
    text = f"Operation cannot be fulfilled on {resource} {quote(name)}: {message}"
    return APIError(409, "Conflict", text, _details(resource, name))


def invalid(kind: GroupKind, name: str, errors: Sequence[FieldError]) -> APIError:
    """422 with every field error as a cause; the one place where field errors become a Status."""
    distinct = {str(error): error for error in errors}
    texts = list(distinct)
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details: Object = {}
    if name:
        details["name"] = name
    if kind.group:
        details["group"] = kind.group
    if kind.kind:
        details["kind"] = kind.kind
    details["causes"] = [error.cause() for error in distinct.values()]
    return APIError(422, "Invalid", f"{kind} {quote(name)} is invalid: {joined}", details)


def patch_not_applicable() -> APIError:
    return APIError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def bad_request(message: str) -> APIError:
    return APIError(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> APIError:
    return APIError(401, "Unauthorized", message)


def forbidden(resource: GroupResource, name: str, message: str) -> APIError:
    """403 for a resource; `message` is the part after `is forbidden: `."""
    subject = f"{resource} {quote(name)}" if name else str(resource)
    return APIError(403, "Forbidden", f"{subject} is forbidden: {message}", _details(resource, name))


def forbidden_path(message: str) -> APIError:
    return APIError(403, "Forbidden", f"forbidden: {message}", {})


def method_not_allowed(resource: GroupResource, verb: str) -> APIError:
    message = f"{verb} is not supported on resources of kind {quote(str(resource))}"
    return APIError(405, "MethodNotAllowed", message, _details(resource, ""))


def not_acceptable(message: str) -> APIError:
    return APIError(406, "NotAcceptable", message)


def only_media_types(accepted: Iterable[str]) -> APIError:
    return not_acceptable(f"only the following media types are accepted: {', '.join(accepted)}")


def unsupported_media_type(accepted: Iterable[str]) -> APIError:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return APIError(415, "UnsupportedMediaType", message)


def request_entity_too_large(message: str) -> APIError:
    return APIError(413, "RequestEntityTooLarge", f"Request entity too large: {message}")


def expired(message: str) -> APIError:
    return APIError(410, "Expired", message)


def too_old_resource_version(asked: int, oldest: int) -> APIError:
    return expired(f"too old resource version: {asked} ({oldest})")


def timeout(message: str, retry_after_seconds: int = 0) -> APIError:
    details: Object = {"retryAfterSeconds": retry_after_seconds} if retry_after_seconds else {}
    return APIError(504, "Timeout", f"Timeout: {message}", details)


def too_large_resource_version(asked: int, current: int) -> APIError:
    details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    return APIError(504, "Timeout", f"Timeout: Too large resource version: {asked}, current: {current}", details)


def internal_error(message: str) -> APIError:
    details = {"causes": [{"message": message}]}
    return APIError(500, "InternalError", f"Internal error occurred: {message}", details)


def service_unavailable(message: str, retry_after_seconds: int = 0) -> APIError:
    details: Object | None = {"retryAfterSeconds": retry_after_seconds} if retry_after_seconds else None
    return APIError(503, "ServiceUnavailable", message, details)


def paths_not_installed() -> APIError:
    """503 before 404: unknown paths while the server is still learning its routes."""
    message = "the request has been made before all known HTTP paths have been installed, please try again"
    return service_unavailable(message, retry_after_seconds=5)
