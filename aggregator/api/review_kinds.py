"""The shapes of the kinds in `authentication.k8s.io/v1` and `authorization.k8s.io/v1` (aggregator.md 9.1)."""

from typing import Final

from apimachinery.field_errors import FieldError, Path, invalid, required
from apimachinery.types import Object
from apiserver.strategy import Strategy

AUTHENTICATION: Final = "authentication.k8s.io"
AUTHORIZATION: Final = "authorization.k8s.io"
VERSION: Final = "v1"

_SPEC = Path.of("spec")


def _text(description: str) -> Object:
    return {"type": "string", "description": description}


def _texts(description: str) -> Object:
    return {"type": "array", "items": {"type": "string"}, "description": description}


def _object(description: str, **properties: Object) -> Object:
    return {"type": "object", "description": description, "properties": properties}


_EXTRA: Final[Object] = {
    "type": "object",
    "description": "Further attributes of the user.",
    "additionalProperties": {"type": "array", "items": {"type": "string"}},
}
_REQUIREMENT: Final[Object] = _object(
    "One requirement of a selector.",
    key=_text("The label or field."),
    operator=_text("How the values count."),
    values=_texts("The values."),
)
_SELECTOR: Final[Object] = _object(
    "Restricts a list; not looked at here.",
    rawSelector=_text("The selector as in a query string."),
    requirements={"type": "array", "items": _REQUIREMENT, "description": "The selector in parts."},
)
_RESOURCE_ATTRIBUTES: Final[Object] = _object(
    "A request on a resource.",
    namespace=_text("The namespace; empty for cluster-scoped resources and for all namespaces."),
    verb=_text("get, list, watch, create, update, patch, delete, deletecollection, or * for all."),
    group=_text("The API group; * for all."),
    version=_text("The API version; * for all."),
    resource=_text("The plural resource; * for all."),
    subresource=_text("The subresource, if any."),
    name=_text("The object's name; empty for all."),
    fieldSelector=_SELECTOR,
    labelSelector=_SELECTOR,
)
_NON_RESOURCE_ATTRIBUTES: Final[Object] = _object(
    "A request on a plain path.", path=_text("The URL path."), verb=_text("The HTTP method in lower case.")
)
_USER_INFO: Final[Object] = _object(
    "Who somebody is.",
    username=_text("The user's name."),
    uid=_text("What tells users of one name apart over time."),
    groups=_texts("The groups the user is in."),
    extra=_EXTRA,
)
_ACCESS_STATUS: Final[Object] = _object(
    "The answer.",
    allowed={"type": "boolean", "description": "Whether the request would be allowed."},
    denied={"type": "boolean", "description": "Whether it would be denied whatever other authorizers say."},
    reason=_text("Why."),
    evaluationError=_text("What could not be found out."),
)
_ATTRIBUTES: Final[dict[str, Object]] = {
    "resourceAttributes": _RESOURCE_ATTRIBUTES,
    "nonResourceAttributes": _NON_RESOURCE_ATTRIBUTES,
}

SELF_ACCESS_SCHEMA: Final = _object(
    "SelfSubjectAccessReview asks whether the caller may do something.",
    spec=_object("The question: exactly one of its members.", **_ATTRIBUTES),
    status=_ACCESS_STATUS,
)
ACCESS_SCHEMA: Final = _object(
    "SubjectAccessReview asks whether a user may do something.",
    spec=_object(
        "The question: exactly one kind of attributes, and who.",
        **_ATTRIBUTES,
        user=_text("The user's name."),
        groups=_texts("The groups the user is in."),
        extra=_EXTRA,
        uid=_text("The user's uid."),
    ),
    status=_ACCESS_STATUS,
)
LOCAL_ACCESS_SCHEMA: Final = {
    **ACCESS_SCHEMA,
    "description": "LocalSubjectAccessReview asks whether a user may do something in one namespace.",
}
_RULES = {"type": "array", "description": "What is allowed; the order has no meaning."}
RULES_SCHEMA: Final = _object(
    "SelfSubjectRulesReview lists what the caller may do in a namespace.",
    spec=_object("The question.", namespace=_text("The namespace to list the rules of.")),
    status=_object(
        "The answer.",
        resourceRules={
            **_RULES,
            "items": _object(
                "Verbs on resources.",
                verbs=_texts("The verbs; * for all."),
                apiGroups=_texts("The API groups; * for all."),
                resources=_texts("The resources; * for all."),
                resourceNames=_texts("The names; empty for all."),
            ),
        },
        nonResourceRules={
            **_RULES,
            "items": _object(
                "Verbs on paths.",
                verbs=_texts("The verbs; * for all."),
                nonResourceURLs=_texts("The paths; * at the end stands for all that follows."),
            ),
        },
        incomplete={"type": "boolean", "description": "Whether other authorizers may allow more."},
        evaluationError=_text("What could not be found out."),
    ),
)
TOKEN_SCHEMA: Final = _object(
    "TokenReview asks who a bearer token stands for.",
    spec=_object(
        "The question.", token=_text("The token."), audiences=_texts("Whom the token should be meant for; ignored.")
    ),
    status=_object(
        "The answer.",
        authenticated={"type": "boolean", "description": "Whether the token counts."},
        user=_USER_INFO,
        audiences=_texts("Always empty: the token counts for this server."),
        error=_text("Why the token could not be looked at."),
    ),
)
SELF_SCHEMA: Final = _object(
    "SelfSubjectReview tells the caller who it is taken for.",
    status=_object("The answer.", userInfo=_USER_INFO),
)


class AccessStrategy(Strategy):
    """What must hold for a question about access."""

    def validate_create(self, new: Object) -> list[FieldError]:
        spec = new.get("spec") or {}
        found: list[FieldError] = []
        resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if resource is not None and path is not None:
            found.append(
                invalid(
                    _SPEC.child("nonResourceAttributes"),
                    path,
                    "cannot be specified in combination with resourceAttributes",
                )
            )
        elif resource is None and path is None:
            found.append(
                invalid(
                    _SPEC.child("resourceAttributes"),
                    None,
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified",
                )
            )
        return found


class SubjectAccessStrategy(AccessStrategy):
    """The same, for a question about somebody."""

    def validate_create(self, new: Object) -> list[FieldError]:
        spec = new.get("spec") or {}
        found = super().validate_create(new)
        if not spec.get("user") and not spec.get("groups"):
            found.append(invalid(_SPEC.child("user"), "", "at least one of user or group must be specified"))
        return found


class LocalAccessStrategy(SubjectAccessStrategy):
    """The same, for a question about one namespace, which is that of the object."""

    def validate_create(self, new: Object) -> list[FieldError]:
        spec = new.get("spec") or {}
        found = super().validate_create(new)
        if spec.get("nonResourceAttributes") is not None:
            path = _SPEC.child("nonResourceAttributes")
            found.append(invalid(path, spec["nonResourceAttributes"], "disallowed on this kind of request"))
        attributes = spec.get("resourceAttributes") or {}
        if attributes.get("namespace", "") != new["metadata"].get("namespace", ""):
            path = _SPEC.child("resourceAttributes", "namespace")
            found.append(invalid(path, attributes.get("namespace", ""), "must match metadata.namespace"))
        return found


class RulesStrategy(Strategy):
    def validate_create(self, new: Object) -> list[FieldError]:
        if (new.get("spec") or {}).get("namespace"):
            return []
        return [required(_SPEC.child("namespace"))]


class TokenStrategy(Strategy):
    def validate_create(self, new: Object) -> list[FieldError]:
        if (new.get("spec") or {}).get("token"):
            return []
        return [required(_SPEC.child("token"))]
