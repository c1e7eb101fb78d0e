"""JSON Merge Patch, RFC 7386."""

from typing import Any

from apimachinery.json_values import copy_json


def apply(target: Any, patch: Any) -> Any:
    """The merged value: objects merge member by member, `null` removes a member, anything else replaces.

    Neither argument is changed and the result shares nothing with them.
    """
    if not isinstance(patch, dict):
        return copy_json(patch)
    # RFC 7386 section 2: a target that is no object counts as an empty one, so nulls vanish from new objects too.
    members = target if isinstance(target, dict) else {}
    result: dict[str, Any] = {}
    for key, value in members.items():
        if key not in patch:
            result[key] = copy_json(value)
        elif patch[key] is not None:
            result[key] = apply(value, patch[key])
    for key, value in patch.items():
        if key not in members and value is not None:
            result[key] = apply(None, value)
    return result
