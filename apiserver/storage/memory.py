"""A store that forgets everything when the process ends: for tests, and for servers whose objects need not last."""

from typing import Final

from apiserver.storage.base import StorageError, Stored
from apiserver.storage.core import CoreStore
from apiserver.storage.fanout import DEFAULT_LIMITS, HistoryLimits
from apiserver.storage.operation import Operation, decide

FIRST_REVISION: Final = 1
"""The revision of an empty store. Not 0: that means "any" to clients, and informers start over when a list says it."""


class MemoryStore(CoreStore):
    """Writes are immediate. `close` ends the watches and refuses further writes."""

    def __init__(self, *, limits: HistoryLimits = DEFAULT_LIMITS) -> None:
        super().__init__(revision=FIRST_REVISION, limits=limits)

    async def close(self) -> None:
        self._fanout.close()

    async def _write(self, operation: Operation) -> Stored:
        if self._fanout.closed:
            raise StorageError("the store is closed")
        event = decide(operation, self._current(operation.key), self.revision + 1)
        self._publish([event])
        return event.current
