"""Health checks and the answers of `/healthz`, `/livez` and `/readyz` (aggregator.md 7.1)."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from apimachinery.options import Query

Check = Callable[[], str | None]
"""None when healthy, else what is wrong. Called on every request: it must be quick and must not block."""

ENDPOINTS = ("healthz", "livez", "readyz")


@dataclass(frozen=True, slots=True)
class _Registered:
    name: str
    check: Check
    endpoints: tuple[str, ...]
    informational: bool
    group: str


class HealthChecks:
    """Named checks in the order in which they were added."""

    def __init__(self) -> None:
        self._checks: dict[str, _Registered] = {}

    def add(
        self,
        name: str,
        check: Check,
        *,
        endpoints: Collection[str] = ENDPOINTS,
        informational: bool = False,
        group: str = "",
    ) -> None:
        """Add a check; ValueError when the name is taken.

        An informational check has its own path, but does not count in the result of an endpoint. `?exclude=` leaves a
        check out by its name or by its group.
        """
        if name in self._checks:
            raise ValueError(f"health check {name!r} exists already")
        self._checks[name] = _Registered(name, check, tuple(endpoints), informational, group)

    def respond(self, endpoint: str, subpath: str, query: Query) -> tuple[int, str]:
        """Code and text for `/<endpoint>` or, with a `subpath`, for one check."""
        checks = [entry for entry in self._checks.values() if endpoint in entry.endpoints]
        if subpath:
            return _single(checks, subpath)
        counted = [entry for entry in checks if not entry.informational]
        return _all(endpoint, counted, query)


def _single(checks: Iterable[_Registered], name: str) -> tuple[int, str]:
    found = next((entry for entry in checks if entry.name == name), None)
    if found is None:
        return 404, "404 page not found\n"
    fault = _run(found)
    return (200, "ok") if fault is None else (500, f"internal server error: {fault}\n")


def _all(endpoint: str, checks: Collection[_Registered], query: Query) -> tuple[int, str]:
    excluded = {name for name in query.get("exclude", ()) if name}
    unknown = sorted(excluded - {entry.name for entry in checks} - {entry.group for entry in checks})
    lines: list[str] = []
    healthy = True
    for entry in checks:
        if entry.name in excluded:
            lines.append(f"[+]{entry.name} excluded: ok")
        elif entry.group in excluded:
            lines.append(f"[+]{entry.name} excluded with {entry.group}: ok")
        elif _run(entry) is None:
            lines.append(f"[+]{entry.name} ok")
        else:
            healthy = False
            # Anonymous callers may look here: what exactly is wrong stays behind the check's own path and in the log.
            lines.append(f"[-]{entry.name} failed: reason withheld")
    if unknown:
        quoted = ",".join(f'"{name}"' for name in unknown)
        lines.append(f"warn: some health checks cannot be excluded: no matches for {quoted}")
    if healthy and "verbose" not in query:
        return 200, "ok"
    verdict = "passed" if healthy else "failed"
    return (200 if healthy else 500), "\n".join([*lines, f"{endpoint} check {verdict}", ""])


def _run(entry: _Registered) -> str | None:
    try:
        return entry.check()
    except Exception as error:
        # A check that breaks is a failed check, not a failed request.
        return repr(error)
