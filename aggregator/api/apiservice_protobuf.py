"""The protobuf form of an APIService, numbered as in kube-aggregator's `apiregistration/v1/generated.proto`."""

from typing import Final

from apimachinery.protobuf.message import Field, Kind, Label, Message, of
from apimachinery.protobuf.meta import OBJECT_META

_SERVICE = Message({1: Field("namespace"), 2: Field("name"), 3: Field("port", Kind.INT32, optional=True)})

_SPEC = Message(
    {
        1: of(_SERVICE, "service"),
        2: Field("group"),
        3: Field("version"),
        4: Field("insecureSkipTLSVerify", Kind.BOOL),
        5: Field("caBundle", Kind.BYTES),
        7: Field("groupPriorityMinimum", Kind.INT32, optional=True),
        8: Field("versionPriority", Kind.INT32, optional=True),
    }
)

_CONDITION = Message(
    {
        1: Field("type", optional=True),
        2: Field("status", optional=True),
        3: Field("lastTransitionTime", Kind.TIME),
        4: Field("reason"),
        5: Field("message"),
    }
)

APISERVICE: Final = Message(
    {
        1: of(OBJECT_META, "metadata"),
        2: of(_SPEC, "spec"),
        3: of(Message({1: of(_CONDITION, "conditions", Label.REPEATED)}), "status"),
    }
)
