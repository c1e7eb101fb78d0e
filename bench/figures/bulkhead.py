"""One backend that takes ten seconds beside nine fast ones, 200 requests/s each: do the nine notice?

Three situations, in turn in each round: the tenth is as fast as the others; it has just become slow, so that each of
its requests needs a new connection; it has been slow for so long that as many of its requests are in progress and wait
as ever may, and the rest is refused.
"""

import contextlib
import operator
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import measure
from bench.figures.tail import answered, paced_command
from bench.peers.ours import FAST
from bench.peers.streams_asked import SLOW_SECONDS
from bench.ports import EXTRA
from bench.stage import Stage, need
from bench.table import Figure

_RATE = 200
_GAIN = 1.2
_CLIENTS = 45
_CONNECTIONS, _STREAMS = 20, 250
"""Of the tenth's load: they can hold 5000 requests, more than the 2048 that the proxy lets be in progress and wait."""
_CONTROL, _ONSET, _SETTLED = (
    "beside a tenth fast one",
    "beside the slow one, first 5 s",
    "beside the slow one, 12 to 22 s",
)


@dataclass(frozen=True, slots=True)
class _Times:
    """In seconds since the slow load began."""

    onset: tuple[float, float] = (0.5, 5.0)
    """The first half second would tell of the handshakes of its clients, and at 5.1 s 1024 requests are in progress."""
    settled: tuple[float, float] = (12.0, 12.0 + SLOW_SECONDS)
    """The first answers come after 10 s, and then in the rhythm of the questions: one whole period."""


@dataclass(slots=True)
class _Taken:
    """Milliseconds at the nine: p99, p95 and median of each round."""

    p99: list[float] = field(default_factory=list)
    p95: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)

    def add(self, requests: Sequence[measure.Timed], between: tuple[float, float]) -> None:
        taken = [item.milliseconds for item in requests if between[0] <= item.began < between[1]]
        for values, share in ((self.p99, 0.99), (self.p95, 0.95), (self.p50, 0.5)):
            values.append(measure.percentile(taken, share))


def figure(stage: Stage) -> Figure:
    times = _Times((0.5, 1.0), (1.0, 2.0)) if stage.options.quick else _Times()
    rows = {name: _Taken() for name in (_CONTROL, _ONSET, _SETTLED)}
    refused: list[float] = []
    ours = stage.ours("--port", str(EXTRA), "--unlimited")
    with stage.running("bulkhead", ours, EXTRA), _background(stage.pids["streams"]):
        for _ in range(stage.options.rounds):
            # Both runs are alike but for the answer of the tenth: how they are begun tells in such figures.
            with _nine_meanwhile(stage, times.settled[1]) as nine, _tenth(stage, "bench.test", "one"):
                began = time.time()
                rows[_CONTROL].add(nine(), _after(began, times.settled))
            with _nine_meanwhile(stage, times.settled[1]) as nine, _tenth(stage, "streams.test", "slow") as slow:
                began = time.time()
                requests = nine()
                rows[_ONSET].add(requests, _after(began, times.onset))
                rows[_SETTLED].add(requests, _after(began, times.settled))
                refused.append(_refused(slow, _after(began, times.settled)))
    return _figure(rows, measure.median(refused))


def _figure(rows: dict[str, _Taken], refused: float) -> Figure:
    control = rows[_CONTROL].p99
    # Of each round, and not of the medians: the speed of a machine that is not alone on its host drifts.
    ratios = {name: measure.median(map(operator.truediv, taken.p99, control)) for name, taken in rows.items()}
    return Figure(
        title="Bulkhead: nine fast backends at 200 requests/s each beside one that takes 10 s",
        columns=("the nine", "p50 ms", "p95 ms", "p99 ms", "p99 of the rounds", "x control"),
        rows=[
            (
                name,
                f"{measure.median(taken.p50):.2f}",
                f"{measure.median(taken.p95):.2f}",
                f"{measure.median(taken.p99):.2f}",
                f"{min(taken.p99):.2f} to {max(taken.p99):.2f}",
                f"{ratios[name]:.2f}",
            )
            for name, taken in rows.items()
        ],
        target=(
            f"with the slow one settled the nine keep their p99 within 20 % (is {ratios[_SETTLED]:.2f} x;"
            f" in its first seconds, where the target is not applied, {ratios[_ONSET]:.2f} x)"
        ),
        met=ratios[_SETTLED] <= _GAIN,
        notes=(
            "The tenth backend gets 200 requests/s over HTTP/2 in all three rows, 20 at once ten times a"
            " second. While it is slow, each of the first 1024 needs a new connection with a TLS handshake,"
            " client certificate included, in the event loop that serves the nine: they notice that, in the"
            " first five seconds of such an outage. After that 1024 requests are in progress and 1024 wait, the"
            f" limits of each APIService; what is more is refused ({refused:.0%} of the slow requests while"
            " settled), and answers free connections for those that wait. The slow backend has the lowest"
            " priority on the core that it shares with the nine and the load: elsewhere it would not be there."
            " The limit of requests in progress over all backends is off: it would answer 429 to a user who"
            " holds so many, whichever backend they wait for.",
        ),
    )


@contextlib.contextmanager
def _nine_meanwhile(stage: Stage, seconds: float) -> Iterator[Callable[[], list[measure.Timed]]]:
    """The load on the nine backends, a second after its start: what waits for its end and tells of its requests."""
    log = stage.directory / "nine.log"
    urls = [f"https://localhost:{EXTRA}/apis/{group}/v1/namespaces/default/things/one" for group in FAST]
    with _running(stage, paced_command(log, urls, _RATE * len(FAST), _CLIENTS, seconds + 1)) as running:

        def ended() -> list[measure.Timed]:
            if running.wait() != 0:
                raise measure.LoadError("the load on the nine failed")
            return answered(log)

        time.sleep(1)
        yield ended


@contextlib.contextmanager
def _tenth(stage: Stage, group: str, name: str) -> Iterator[Path]:
    """The load on the tenth backend, and the log it writes."""
    log = stage.directory / "tenth.log"
    log.unlink(missing_ok=True)
    command = [need("h2load"), "--npn-list=h2", "-t1", f"-c{_CONNECTIONS}", f"-m{_STREAMS}", f"--log-file={log}"]
    command += [f"--rps={_RATE / _CONNECTIONS:.0f}", "-D", "60"]
    command.append(f"https://localhost:{EXTRA}/apis/{group}/v1/namespaces/default/things/{name}")
    with _running(stage, command) as running:
        yield log
        if running.poll() is not None:
            raise measure.LoadError("the load on the tenth backend ended early")


@contextlib.contextmanager
def _running(stage: Stage, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    pinned = ["taskset", "-c", str(stage.load_core), *command]
    running = subprocess.Popen(pinned, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.terminate()
        running.wait()


@contextlib.contextmanager
def _background(pid: int) -> Iterator[None]:
    """A process runs only where nobody else wants to."""
    os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


def _after(began: float, seconds: tuple[float, float]) -> tuple[float, float]:
    return began + seconds[0], began + seconds[1]


def _refused(log: Path, between: tuple[float, float]) -> float:
    """The share of the requests of that time that were answered 503; the log does not have those that still wait."""
    rows = measure.parse_h2load_log(log.read_text())
    count = sum(item.status == 503 for item in rows if between[0] <= item.began < between[1])
    return count / (_RATE * (between[1] - between[0]))
