"""The health checks that tell whether what is registered automatically has come up (aggregator.md 6.3)."""

from collections.abc import Callable, Iterable

from aggregator.api import conditions
from aggregator.api.ports import Cache
from apimachinery.types import Object


class CompletionCheck:
    """Remembers which APIServices have been available at least once; what was once is never missing again.

    `names` gives the APIServices that are waited for; it is asked at each check, so that it may grow.
    """

    def __init__(self, apiservices: Cache, names: Callable[[], Iterable[str]]) -> None:
        self._names = names
        self._seen: set[str] = set()
        apiservices.add_handler(self._changed)

    def check(self) -> str | None:
        """None, or `missing APIService: [names]`."""
        missing = sorted(set(self._names()) - self._seen)
        return f"missing APIService: [{' '.join(missing)}]" if missing else None

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and conditions.is_true(new):
            self._seen.add(new["metadata"]["name"])
