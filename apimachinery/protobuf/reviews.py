"""The reviews of `authentication.k8s.io/v1` and `authorization.k8s.io/v1`, numbered as in the `generated.proto` files
of `k8s.io/api`. They are virtual: a client sends a question in `spec` and reads the answer in `status`.
"""

from typing import Final

from apimachinery.protobuf.message import Field, Kind, Label, Message, of
from apimachinery.protobuf.meta import LABEL_SELECTOR_REQUIREMENT, OBJECT_META


def _review(spec: Message | None, status: Message, *, status_number: int = 3) -> Message:
    fields = {1: of(OBJECT_META, "metadata"), status_number: of(status, "status")}
    return Message(fields if spec is None else {**fields, 2: of(spec, "spec")})


USER_INFO: Final = Message(
    {
        1: Field("username"),
        2: Field("uid"),
        3: Field("groups", label=Label.REPEATED),
        4: Field("extra", Kind.STRINGS, label=Label.MAP),
    }
)

TOKEN_REVIEW: Final = _review(
    Message({1: Field("token"), 2: Field("audiences", label=Label.REPEATED)}),
    Message(
        {
            1: Field("authenticated", Kind.BOOL),
            2: of(USER_INFO, "user"),
            3: Field("error"),
            4: Field("audiences", label=Label.REPEATED),
        }
    ),
)

SELF_SUBJECT_REVIEW: Final = _review(None, Message({1: of(USER_INFO, "userInfo")}), status_number=2)

_SELECTOR = Message(
    {1: Field("rawSelector"), 2: of(LABEL_SELECTOR_REQUIREMENT, "requirements", Label.REPEATED)},
)

RESOURCE_ATTRIBUTES: Final = Message(
    {
        1: Field("namespace"),
        2: Field("verb"),
        3: Field("group"),
        4: Field("version"),
        5: Field("resource"),
        6: Field("subresource"),
        7: Field("name"),
        8: of(_SELECTOR, "fieldSelector"),
        9: of(_SELECTOR, "labelSelector"),
    }
)

NON_RESOURCE_ATTRIBUTES: Final = Message({1: Field("path"), 2: Field("verb")})

_ACCESS_REVIEW_STATUS = Message(
    {
        1: Field("allowed", Kind.BOOL, optional=True),
        2: Field("reason"),
        3: Field("evaluationError"),
        4: Field("denied", Kind.BOOL),
    }
)

SUBJECT_ACCESS_REVIEW: Final = _review(
    Message(
        {
            1: of(RESOURCE_ATTRIBUTES, "resourceAttributes"),
            2: of(NON_RESOURCE_ATTRIBUTES, "nonResourceAttributes"),
            3: Field("user"),
            4: Field("groups", label=Label.REPEATED),
            5: Field("extra", Kind.STRINGS, label=Label.MAP),
            6: Field("uid"),
        }
    ),
    _ACCESS_REVIEW_STATUS,
)

SELF_SUBJECT_ACCESS_REVIEW: Final = _review(
    Message(
        {
            1: of(RESOURCE_ATTRIBUTES, "resourceAttributes"),
            2: of(NON_RESOURCE_ATTRIBUTES, "nonResourceAttributes"),
        }
    ),
    _ACCESS_REVIEW_STATUS,
)

_RESOURCE_RULE = Message(
    {
        1: Field("verbs", label=Label.REPEATED),
        2: Field("apiGroups", label=Label.REPEATED),
        3: Field("resources", label=Label.REPEATED),
        4: Field("resourceNames", label=Label.REPEATED),
    }
)
_NON_RESOURCE_RULE = Message(
    {1: Field("verbs", label=Label.REPEATED), 2: Field("nonResourceURLs", label=Label.REPEATED)}
)

SELF_SUBJECT_RULES_REVIEW: Final = _review(
    Message({1: Field("namespace")}),
    Message(
        {
            1: of(_RESOURCE_RULE, "resourceRules", Label.REPEATED),
            2: of(_NON_RESOURCE_RULE, "nonResourceRules", Label.REPEATED),
            3: Field("incomplete", Kind.BOOL, optional=True),
            4: Field("evaluationError"),
        }
    ),
)
