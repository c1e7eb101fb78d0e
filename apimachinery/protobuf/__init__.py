"""Request bodies in Kubernetes' protobuf form, read into plain objects (rest.md A1.1).

Is: the `k8s\\0` envelope, a decoder of the wire format that is driven by declared messages, and the messages that every
API server meets (metadata, options, reviews). Is not: encoding, and not the messages of a concrete kind: a resource
declares its own. May import: the rest of apimachinery, orjson.
"""

from apimachinery.protobuf.envelope import PREFIX, PROTOBUF, decode
from apimachinery.protobuf.message import Field, Kind, Label, Message
from apimachinery.protobuf.wire import ProtobufError

__all__ = ["PREFIX", "PROTOBUF", "Field", "Kind", "Label", "Message", "ProtobufError", "decode"]
