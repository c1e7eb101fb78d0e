"""Request bodies: how much is read, which media types are understood, and what they say (rest.md A1.1)."""

from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request

from apimachinery import codec, protobuf, status
from apimachinery.protobuf import PROTOBUF
from apimachinery.protobuf.meta import DELETE_OPTIONS
from apiserver.resource import Resource

BODY_LIMIT: Final = 3 * 1024 * 1024
"""Largest request body in bytes."""
_TEXT_TYPES: Final = (codec.JSON, codec.YAML)
_SHOWN_BYTES: Final = 30


@dataclass(frozen=True, slots=True)
class Document:
    """What a body says, and a sentence for each key that it repeats (found only when somebody wants to know)."""

    content: Any
    duplicates: list[str] = field(default_factory=list)


async def read_body(request: Request) -> bytes:
    """The request body; APIError 413 as soon as it is known to be over the limit."""
    too_large = status.request_entity_too_large(f"limit is {BODY_LIMIT}")
    declared = request.headers.get("content-length", "0")
    # Twenty digits hold every length; Python refuses to read numbers of thousands of digits.
    if len(declared) > 20 or (declared.isdecimal() and int(declared) > BODY_LIMIT):
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


def media_type_of(request: Request) -> str:
    return codec.body_media_type(request.headers.get("content-type", ""))


def body_types(resource: Resource) -> tuple[str, ...]:
    """The media types in which an object of this resource may be sent."""
    return _TEXT_TYPES if resource.protobuf is None else (*_TEXT_TYPES, PROTOBUF)


async def read_object(request: Request, resource: Resource, field_validation: str) -> Document:
    """The object in the body of a create or update; APIError 413, 415, and 400 for what does not decode."""
    media_type, accepted = media_type_of(request), body_types(resource)
    if media_type not in accepted:
        raise status.unsupported_media_type(accepted)
    body = await read_body(request)
    try:
        if media_type == PROTOBUF and resource.protobuf is not None:
            return Document(protobuf.decode(body, resource.protobuf))
        content = codec.decode_body(body, media_type)
    except (protobuf.ProtobufError, status.APIError) as error:
        message = f"the object provided is unrecognized (must be of type {resource.kind}): {error} ({_summary(body)})"
        raise status.bad_request(message) from None
    if field_validation == "Ignore":
        return Document(content)
    return Document(content, codec.duplicate_fields(body, media_type))


async def read_delete_options(request: Request) -> Any:
    """The options in the body of a delete, None without a body; every resource takes them as protobuf too."""
    body = await read_body(request)
    if not body.strip():
        return None
    media_type = media_type_of(request)
    if media_type == PROTOBUF:
        try:
            return protobuf.decode(body, DELETE_OPTIONS)
        except protobuf.ProtobufError as error:
            raise status.bad_request(str(error)) from None
    if media_type not in _TEXT_TYPES:
        raise status.unsupported_media_type((*_TEXT_TYPES, PROTOBUF))
    return codec.decode_body(body, media_type)


def _summary(body: bytes) -> str:
    """The beginning of a body, for an error: as text when it looks like JSON, else as hexadecimal digits."""
    if not body:
        return "<empty>"
    more = " ..." if len(body) > _SHOWN_BYTES else ""
    shown = body[:_SHOWN_BYTES]
    return (shown.decode(errors="replace") if shown.startswith(b"{") else shown.hex()) + more
