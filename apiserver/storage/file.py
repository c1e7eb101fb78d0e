"""The store that keeps every object in a readable file of its own (see `layout` for where)."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiofiles.os import wrap

from apimachinery.gvk import GroupResource
from apiserver.storage.base import Event, Key, StorageError, Stored
from apiserver.storage.ceiling import Ceiling
from apiserver.storage.committer import Change, Committer, Failure
from apiserver.storage.core import CoreStore
from apiserver.storage.directory import DataDirectoryError, DirectoryLock, describe
from apiserver.storage.fanout import DEFAULT_LIMITS, HistoryLimits
from apiserver.storage.files import FileSystem
from apiserver.storage.loading import Loaded, Loader
from apiserver.storage.memory import FIRST_REVISION
from apiserver.storage.operation import Operation, decide
from apiserver.storage.table import Table

_REAL_FILES: Final = FileSystem()
_LARGEST_BATCH: Final = 128
"""Bounds the latency of the first write in a batch, and the number of open files."""

_LONGEST_LOOK: Final = 1024
"""How many waiting writes are looked at for one batch, so that a queue for one key is not walked again and again."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A write that waits for its outcome: the stored object, or the exception that its caller shall see."""

    operation: Operation
    outcome: asyncio.Future[Stored | Exception]

    def answer(self, outcome: Stored | Exception) -> None:
        # A caller that was cancelled waits no longer; what was begun for it is finished all the same.
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class FileStore(CoreStore):
    """Durable: a write is answered, and seen by readers and watchers, only after its file and directory are synced.

    One task makes all commits. It takes the writes that are waiting, at most one per key, decides them against what
    readers see, makes them durable together and then publishes them: so compare-and-swap is exact, syncs are shared,
    and a caller that is cancelled cannot leave memory and disk disagreeing.

    When the disk fails in a way that leaves the old or the new state on it (`Failure.unsettled`), the caller gets
    StorageError and memory stays the truth: the old state is written again, at once and before every following batch
    until that succeeds.
    """

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        directory: Path,
        *,
        on_damaged: Callable[[Path, str], None],
        files: FileSystem = _REAL_FILES,
        limits: HistoryLimits = DEFAULT_LIMITS,
    ) -> AsyncIterator["FileStore"]:
        """Own `directory` (created if missing) until the context ends, which finishes waiting writes and ends watches.

        `on_damaged` is told, before the store is handed out, of each file that could not be used: the path it was
        renamed to, and why. DataDirectoryError when the directory cannot be used, DataDirectoryInUseError (one of
        them) when another process has it.
        """
        lock = DirectoryLock(directory)
        executor = ThreadPoolExecutor(1, thread_name_prefix="storage")
        try:
            loader = Loader(files, os.fspath(directory), FIRST_REVISION)
            try:
                loaded = await wrap(loader.load)(executor=executor)
            except OSError as error:
                where = error.filename or directory
                raise DataDirectoryError(f"data directory {where} cannot be read: {describe(error)}") from error
            for path, reason in loaded.damaged:
                on_damaged(Path(path), reason)
            store = cls(directory, loaded, executor, files, limits)
            try:
                yield store
            finally:
                await store.close()
        finally:
            # Waits for a call that is under way: the lock must not be let go while a thread still writes.
            executor.shutdown()
            lock.release()

    def __init__(
        self, directory: Path, loaded: Loaded, executor: ThreadPoolExecutor, files: FileSystem, limits: HistoryLimits
    ) -> None:
        """For `open`: it holds the directory's lock and owns `executor`."""
        super().__init__(revision=loaded.revision, limits=limits)
        self._tables.update(_tables(loaded))
        self._executor = executor
        self._committer = Committer(files, os.fspath(directory))
        self._ceiling = Ceiling(files, os.fspath(directory), loaded.ceiling)
        self._taken = loaded.revision
        """The newest revision given to a write, failed ones included: a failed write may be on the disk."""
        self._unsettled: set[Key] = set()
        self._waiting: deque[_Waiting] = deque()
        self._batch: list[tuple[_Waiting, Event]] = []
        self._wakeup = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="storage-commits")

    async def close(self) -> None:
        """Finish the waiting writes, then refuse more and end the watches. `open` does this at its end."""
        self._closing = True
        self._wakeup.set()
        try:
            await asyncio.wait((self._task,))
        finally:
            self._task.cancel()
            self._fanout.close()
            self._executor.shutdown()
            self._committer.close()
        self._task.result()

    async def _write(self, operation: Operation) -> Stored:
        if self._closing or self._task.done():
            raise StorageError("the store is closed")
        waiting = _Waiting(operation, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wakeup.set()
        outcome = await waiting.outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _run(self) -> None:
        try:
            while not self._closing or self._waiting:
                await self._wakeup.wait()
                self._wakeup.clear()
                while self._waiting:
                    # Every task that is ready to write gets its turn to join the batch.
                    await asyncio.sleep(0)
                    self._batch = self._next_batch()
                    await self._commit(self._batch)
            await self._settle()
            await wrap(self._write_revision)(executor=self._executor)
        finally:
            self._closing = True
            for waiting in self._waiting:
                waiting.answer(StorageError("the store is closed"))
            for waiting, _ in self._batch:
                waiting.answer(StorageError("the store was stopped while it wrote; the outcome is not known"))

    def _next_batch(self) -> list[tuple[_Waiting, Event]]:
        """Decide waiting writes, at most one change per key; further writes of these keys wait for its outcome."""
        batch: list[tuple[_Waiting, Event]] = []
        keys: set[Key] = set()
        later: list[_Waiting] = []
        for _ in range(min(len(self._waiting), _LONGEST_LOOK)):
            if len(batch) == _LARGEST_BATCH:
                break
            waiting = self._waiting.popleft()
            key = waiting.operation.key
            if key in keys:
                later.append(waiting)
            elif not waiting.outcome.done():
                try:
                    event = decide(waiting.operation, self._current(key), self._taken + 1)
                except Exception as error:  # whatever a write's own content leads to belongs to its caller alone
                    waiting.answer(error)
                    continue
                self._taken = event.revision
                keys.add(key)
                batch.append((waiting, event))
        self._waiting.extendleft(reversed(later))
        return batch

    async def _commit(self, batch: Sequence[tuple[_Waiting, Event]]) -> None:
        await self._settle()
        if not batch:
            return
        failures = await self._apply(self._persist, [_change(event) for _, event in batch])
        done = [(waiting, event) for (waiting, event), failure in zip(batch, failures, strict=True) if failure is None]
        self._unsettled.difference_update(event.current.key for _, event in done)
        self._publish(event for _, event in done)
        for waiting, event in done:
            waiting.answer(event.current)
        if len(done) == len(batch):
            return
        failed = [(*item, failure) for item, failure in zip(batch, failures, strict=True) if failure is not None]
        self._unsettled.update(event.current.key for _, event, failure in failed if failure.unsettled)
        # First the old state is back on the disk, then the caller hears that its write did not happen.
        await self._settle()
        for waiting, event, failure in failed:
            error = StorageError(f"{event.current.key} could not be written: {describe(failure.error)}")
            error.__cause__ = failure.error
            waiting.answer(error)

    def _persist(self, changes: Sequence[Change]) -> list[Failure | None]:
        try:
            self._ceiling.reserve(self._taken)
        except OSError as error:
            return [Failure(error, unsettled=False) for _ in changes]
        return self._committer.commit(changes)

    async def _apply(
        self, function: Callable[[Sequence[Change]], list[Failure | None]], changes: Sequence[Change]
    ) -> list[Failure | None]:
        try:
            return await wrap(function)(changes, executor=self._executor)
        except Exception as error:  # a defect; memory stays the truth, and the writers are told
            return [Failure(error, unsettled=True) for _ in changes]

    async def _settle(self) -> None:
        """Write what memory holds for the keys of which the disk may hold something else."""
        unsettled = list(self._unsettled)
        for start in range(0, len(unsettled), _LARGEST_BATCH):
            keys = unsettled[start : start + _LARGEST_BATCH]
            failures = await self._apply(self._committer.commit, [Change(key, self._current(key)) for key in keys])
            settled = (key for key, failure in zip(keys, failures, strict=True) if failure is None)
            self._unsettled.difference_update(settled)

    def _write_revision(self) -> None:
        try:
            self._ceiling.settle(self._taken)
        except OSError:
            # What the file says is higher than this and therefore still true.
            pass


def _change(event: Event) -> Change:
    return Change(event.current.key, None if event.type == "DELETED" else event.current)


def _tables(loaded: Loaded) -> dict[GroupResource, Table]:
    by_resource: dict[GroupResource, list[Stored]] = {}
    for stored in loaded.items:
        by_resource.setdefault(stored.key.resource, []).append(stored)
    return {resource: Table(items) for resource, items in by_resource.items()}
