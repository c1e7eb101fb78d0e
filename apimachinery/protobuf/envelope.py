"""The envelope of a body: four magic bytes, then which kind it is and the bytes of its message."""

from typing import Final

from apimachinery.protobuf.message import Field, Message, of, read
from apimachinery.protobuf.wire import ProtobufError
from apimachinery.types import Object

PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
"""The media type."""

PREFIX: Final = b"k8s\x00"

_TYPE_META: Final = Message({1: Field("apiVersion"), 2: Field("kind")})
_TYPE: Final = Message({1: of(_TYPE_META, "typeMeta")})
_RAW_NUMBER: Final = 2


def decode(data: bytes, message: Message) -> Object:
    """The object in a body, with the `apiVersion` and `kind` that the envelope names.

    ProtobufError when the body is not an envelope or does not hold the message.
    """
    if not data:
        raise ProtobufError("empty data")
    if not data.startswith(PREFIX):
        expected = f"[{' '.join(map(str, PREFIX))}]"
        raise ProtobufError(f"provided data does not appear to be a protobuf message, expected prefix {expected}")
    if len(data) == len(PREFIX):
        raise ProtobufError("empty body")
    content = memoryview(data)[len(PREFIX) :]
    type_meta = read(_TYPE, content).get("typeMeta", {})
    return {**type_meta, **read(Message({_RAW_NUMBER: of(message, "object")}), content).get("object", {})}
