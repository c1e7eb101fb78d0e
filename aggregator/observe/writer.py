"""Lines on their way to a file: a bounded queue, and a thread that formats and writes in batches."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from apiserver import logs

log = logs.get("aggregator.observe")

T = TypeVar("T")

FLUSH_SECONDS: Final = 0.2
"""How long a line may wait for others to be written with."""
_AT_ONCE: Final = 64
"""Lines formatted without a pause: so long the event loop may have to wait for the interpreter."""
_PAUSE_SECONDS: Final = 0.001
"""A pause of no length does not let the event loop in: measured, the 99th percentile was three times as high."""
_BATCH_BYTES: Final = 256 * 1024
_COMPLAIN_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 3.0


class Output(Protocol):
    def write(self, data: bytes) -> None:
        """Whole lines. OSError when they could not be written."""

    def close(self) -> None: ...


class LineWriter(Generic[T]):
    """Takes items from the event loop's thread, and writes what `render` makes of them.

    `put` costs an append. When the queue is full, items are dropped and counted, or, if `block`, `put` waits: then a
    disk that hangs stops the whole process, which is what somebody may want who must not miss a line.
    """

    def __init__(
        self,
        output: Output,
        render: Callable[[T], bytes],
        *,
        name: str,
        items: int,
        held_bytes: int = 0,
        block: bool = False,
    ) -> None:
        """`held_bytes` bounds the sum of the `weight`s of waiting items; 0 for no such bound."""
        self.dropped = 0
        """Items that found the queue full."""
        self.failed = 0
        """Items that could not be written, or not be formatted."""
        self._output = output
        self._render = render
        self._name = name
        self._items = items
        self._held_bytes = held_bytes
        self._block = block
        self._queue: deque[tuple[T, int]] = deque()
        # Each counter has one writer, so that their difference needs no lock.
        self._weight_in = 0
        self._weight_out = 0
        self._wake = threading.Event()
        self._room = threading.Event()
        self._stopping = False
        self._complained = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T, weight: int = 0) -> None:
        """Have an item written. Only one thread may call this."""
        if self._full(weight):
            if not self._block or self._stopping:
                self.dropped += 1
                return
            self._wait_for_room(weight)
        self._weight_in += weight
        self._queue.append((item, weight))
        if len(self._queue) * 2 == self._items:
            self._wake.set()

    def stop(self) -> None:
        """Write what is waiting and end; lines that a dead disk does not take within seconds are lost."""
        self._stopping = True
        self._wake.set()
        self._room.set()
        self._thread.join(_STOP_SECONDS)

    def _full(self, weight: int) -> bool:
        if len(self._queue) >= self._items:
            return True
        held = self._weight_in - self._weight_out
        return bool(weight and self._held_bytes and held and held + weight > self._held_bytes)

    def _wait_for_room(self, weight: int) -> None:
        while self._full(weight) and not self._stopping:
            self._room.clear()
            self._wake.set()
            self._room.wait(FLUSH_SECONDS)

    def _run(self) -> None:
        reported = 0
        while True:
            stopping = self._stopping
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            while self._queue:
                self._write(self._collect())
                self._room.set()
            if self.dropped > reported and self._may_complain():
                log.error("lines dropped: the queue was full", log=self._name, lines=self.dropped - reported)
                reported = self.dropped
            if stopping:
                self._output.close()
                return

    def _collect(self) -> list[bytes]:
        lines: list[bytes] = []
        size = 0
        while self._queue and size < _BATCH_BYTES:
            item, weight = self._queue.popleft()
            self._weight_out += weight
            try:
                line = self._render(item)
            except Exception:
                self.failed += 1
                log.exception("a line could not be formatted", log=self._name)
                continue
            lines.append(line)
            size += len(line)
            if len(lines) % _AT_ONCE == 0:
                time.sleep(_PAUSE_SECONDS)
        return lines

    def _write(self, lines: list[bytes]) -> None:
        try:
            self._output.write(b"".join(lines))
        except OSError as error:
            self.failed += len(lines)
            if self._may_complain():
                log.error("cannot write", log=self._name, error=str(error), lines=self.failed)

    def _may_complain(self) -> bool:
        now = time.monotonic()
        if self._complained and now - self._complained < _COMPLAIN_SECONDS:
            return False
        self._complained = now
        return True
