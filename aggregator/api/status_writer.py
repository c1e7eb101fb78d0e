"""Writing the Available condition of APIServices: only when it says something new, and over conflicts."""

from collections.abc import Callable

from aggregator.api import conditions, probe, references
from aggregator.api.availability_metrics import AvailabilityMetrics
from aggregator.api.conditions import Condition
from aggregator.api.refs import APISERVICES
from apimachinery import status
from apimachinery.types import Object
from apiserver import logs
from apiserver.client import Client

_WRITE_ATTEMPTS = 5

log = logs.get("availability")


class StatusWriter:
    """`now` is a clock in epoch seconds."""

    def __init__(self, *, client: Client, metrics: AvailabilityMetrics, now: Callable[[], float]) -> None:
        self._client = client
        self._metrics = metrics
        self._now = now

    async def write(self, apiservice: Object, condition: Condition) -> bool:
        """Make `condition` the APIService's; False when that changed or went away meanwhile and must be checked anew.

        APIError when the write is refused for another reason than a conflict, or when conflicts do not end.
        """
        name = apiservice["metadata"]["name"]
        latest = apiservice
        for _ in range(_WRITE_ATTEMPTS - 1):
            try:
                await self._write_once(latest, condition)
                return True
            except status.APIError as error:
                if error.reason == "NotFound":
                    return False
                if error.reason != "Conflict":
                    raise
            try:
                latest = await self._client.get(APISERVICES, "", name)
            except status.APIError as error:
                if error.reason == "NotFound":
                    return False
                raise
            if references.spec(latest) != references.spec(apiservice):
                return False
        await self._write_once(latest, condition)
        return True

    async def _write_once(self, apiservice: Object, condition: Condition) -> None:
        name = apiservice["metadata"]["name"]
        before = conditions.get(apiservice)
        if probe.differs(before, condition):
            new = conditions.with_condition(apiservice.get("status"), condition, self._now())
            await self._client.update_status(APISERVICES, "", {**apiservice, "status": new})
            after = {"status": condition.status}
            if probe.became_unavailable(before, after):
                self._metrics.count_unavailable(name, condition.reason)
            (log.info if condition.status == "True" else log.warning)(
                "apiservice availability",
                name=name,
                available=condition.status,
                reason=condition.reason,
                detail=condition.message,
            )
        self._metrics.set_available(name, condition.status == "True")
