"""From what a check of an APIService saw to its Available condition (aggregator.md 3.2, 3.5). Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aggregator.api.conditions import Condition
from aggregator.upstream.backend import ResolveError

LOCAL = Condition(status="True", reason="Local", message="Local APIServices are always available")
PASSED = Condition(status="True", reason="Passed", message="all checks passed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request of a check. Exactly one of `code` (an answer came) and `error` (none came) is set, or `timed_out`."""

    url: str
    code: int = 0
    error: str = ""
    timed_out: bool = False

    @property
    def passed(self) -> bool:
        """Redirects and 304 are failures: nobody but the service itself may answer for it."""
        return 200 <= self.code < 300

    @property
    def fault(self) -> str:
        """Why the attempt failed; empty when it passed."""
        if self.passed:
            return ""
        if self.timed_out:
            return f"timed out waiting for {self.url}"
        detail = f"bad status from {self.url}: {self.code}" if self.code else self.error
        return f"failing or missing response from {self.url}: {detail}"


def unresolved(error: ResolveError) -> Condition:
    """The condition of an APIService whose server's address cannot be found out."""
    known = error.reason == "ServiceNotFound"
    return Condition(status="False" if known else "Unknown", reason=error.reason, message=error.message)


def check_failed(message: str) -> Condition:
    return Condition(status="False", reason="FailedDiscoveryCheck", message=message)


def verdict(attempts: Sequence[Attempt]) -> Condition:
    """The condition after these attempts, in order of arrival: one success is enough, else the last fault counts."""
    if any(attempt.passed for attempt in attempts):
        return PASSED
    return check_failed(attempts[-1].fault if attempts else "no discovery check was made")


def differs(current: Mapping[str, Any] | None, wanted: Condition) -> bool:
    """Whether a stored condition says anything else than `wanted`; its transition time does not matter."""
    if current is None:
        return True
    fields = ("status", "reason", "message")
    return any(current.get(field) != getattr(wanted, field) for field in fields)


def became_unavailable(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
    """A transition from True to anything else: what the unavailability counter counts."""
    return (before or {}).get("status") == "True" and (after or {}).get("status") != "True"
