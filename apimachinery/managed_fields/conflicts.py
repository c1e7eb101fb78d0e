"""The words for conflicts (rest.md A4.3)."""

from collections.abc import Sequence

from apimachinery import status
from apimachinery.managed_fields import paths
from apimachinery.managed_fields.managers import Manager
from apimachinery.managed_fields.ownership import Conflict


def api_error(conflicts: Sequence[Conflict]) -> status.APIError:
    """409 with every field as a cause."""
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {conflict.manager}",
            "field": paths.text_of(conflict.path),
        }
        for conflict in conflicts
    ]
    return status.APIError(409, "Conflict", message_of(conflicts), {"causes": causes})


def message_of(conflicts: Sequence[Conflict]) -> str:
    if len(conflicts) == 1:
        return f"Apply failed with 1 conflict: conflict with {conflicts[0].manager}: {paths.text_of(conflicts[0].path)}"
    by_manager: dict[Manager, list[str]] = {}
    for conflict in conflicts:
        by_manager.setdefault(conflict.manager, []).append(paths.text_of(conflict.path))
    lines: list[str] = []
    for manager in sorted(by_manager, key=lambda one: one.identity):
        lines.append(f"conflicts with {manager}:")
        lines.extend(f"- {path}" for path in by_manager[manager])
    return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
