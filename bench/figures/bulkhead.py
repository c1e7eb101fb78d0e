"""One backend that takes ten seconds beside nine fast ones, 200 requests/s each: do the nine notice?

In turn in each round: the tenth is as fast as the others; it becomes slow and speaks HTTP/1.1 only, so that each of its
requests needs a connection; it becomes slow and speaks HTTP/2, so that they share connections. Two times are looked at:
the first seconds, in which every request finds none that is unused; and when it has been slow for so long that as many
of its requests are in progress and wait as ever may, and the rest is refused.
"""

import contextlib
import operator
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
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
_CLIENTS = 47
"""Each sends every 26.1 ms. Were the 100 ms of the tenth's load a multiple of that, chance would tell once for each run
how the two lie to each other."""
_CONNECTIONS, _STREAMS = 20, 250
"""Of the tenth's load: they can hold 5000 requests, more than the 2048 that the proxy lets be in progress and wait."""
_FAST_SECONDS = 2
"""The tenth's load asks a fast backend for so long: none of its own handshakes falls in what is looked at."""
_PATH = "/apis/{group}/v1/namespaces/default/things/{name}"
_FAST = _PATH.format(group="bench.test", name="one")


@dataclass(frozen=True, slots=True)
class _Times:
    """In seconds since the tenth's load began with its backend."""

    onset: tuple[float, float] = (0.0, 5.0)
    """From its first request; at 5.1 s 1024 of them are in progress."""
    settled: tuple[float, float] = (12.0, 12.0 + SLOW_SECONDS)
    """The first answers come after 10 s, and then in the rhythm of the questions: one whole period."""


@dataclass(slots=True)
class _Taken:
    """Milliseconds at the nine: p99, p95 and median of each round."""

    p99: list[float] = field(default_factory=list)
    p95: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)

    def add(self, requests: Sequence[measure.Timed], began: float, between: tuple[float, float]) -> None:
        taken = [item.milliseconds for item in requests if between[0] <= item.began - began < between[1]]
        for values, share in ((self.p99, 0.99), (self.p95, 0.95), (self.p50, 0.5)):
            values.append(measure.percentile(taken, share))


@dataclass(slots=True)
class _Beside:
    """What the nine see beside one kind of tenth backend."""

    path: str
    onset: _Taken = field(default_factory=_Taken)
    settled: _Taken = field(default_factory=_Taken)
    refused: list[float] = field(default_factory=list)


def figure(stage: Stage) -> Figure:
    times = _Times((0.0, 0.5), (0.5, 1.5)) if stage.options.quick else _Times()
    control = _Beside(_FAST)
    http1 = _Beside(_PATH.format(group="streams.test", name="slow"))
    http2 = _Beside(_PATH.format(group="streams-http2.test", name="slow"))
    with _background(stage.pids["streams"]):
        for _ in range(stage.options.rounds):
            for beside in (control, http1, http2):
                _run(stage, beside, times)
    return _figure(control, http1, http2)


def _run(stage: Stage, beside: _Beside, times: _Times) -> None:
    """All runs are alike but for the tenth backend: how they are begun tells in such figures."""
    nine, tenth = stage.directory / "nine.log", stage.directory / "tenth.log"
    # A proxy of its own: the connections to the slow backend that another run has left would be a head start.
    with stage.running("bulkhead", stage.ours("--port", str(EXTRA), "--unlimited"), EXTRA):
        seconds = times.settled[1] + _FAST_SECONDS + 1
        with _running(stage, _load_of_nine(nine, seconds)) as load:
            time.sleep(1)
            with _running(stage, _load_of_tenth(stage, tenth, beside.path)) as other:
                if load.wait() != 0:
                    raise measure.LoadError("the load on the nine failed")
                if other.poll() is not None:
                    raise measure.LoadError("the load on the tenth backend ended early")
    requests = answered(nine)
    asked = measure.parse_h2load_log(tenth.read_text())
    # Each of its connections sends 20 requests to the fast one, in step; the first of the others comes in the next.
    began = min(item.began for item in asked) + _FAST_SECONDS - 0.5 * _CONNECTIONS / _RATE
    beside.onset.add(requests, began, times.onset)
    beside.settled.add(requests, began, times.settled)
    beside.refused.append(_refused(asked, began, times.settled))


def _load_of_nine(log: Path, seconds: float) -> list[str]:
    urls = [f"https://localhost:{EXTRA}{_PATH.format(group=group, name='one')}" for group in FAST]
    return paced_command(log, urls, _RATE * len(FAST), _CLIENTS, seconds)


def _load_of_tenth(stage: Stage, log: Path, path: str) -> list[str]:
    """20 requests at once ten times a second."""
    log.unlink(missing_ok=True)
    each = _RATE // _CONNECTIONS
    paths = [_FAST] * (each * _FAST_SECONDS) + [path] * (each * 60)
    listed = stage.directory / "tenth.urls"
    listed.write_text("".join(f"https://localhost:{EXTRA}{item}\n" for item in paths))
    command = [need("h2load"), "--npn-list=h2", "-t1", f"-c{_CONNECTIONS}", f"-m{_STREAMS}", f"--log-file={log}"]
    return [*command, f"--rps={each}", "-D", "60", f"--input-file={listed}"]


def _figure(control: _Beside, http1: _Beside, http2: _Beside) -> Figure:
    slow, first, later = "beside a slow one,", "first 5 s", "12 to 22 s"
    rows = {
        "beside a tenth fast one": (control.settled, control.settled),
        f"{slow} HTTP/1.1, {first}": (http1.onset, control.onset),
        f"{slow} HTTP/1.1, {later}": (http1.settled, control.settled),
        f"{slow} HTTP/2, {first}": (http2.onset, control.onset),
        f"{slow} HTTP/2, {later}": (http2.settled, control.settled),
    }
    # Of each round, and not of the medians: the speed of a machine that is not alone on its host drifts.
    ratios = {
        name: measure.median(map(operator.truediv, taken.p99, beside.p99)) for name, (taken, beside) in rows.items()
    }
    _, aside, *counted = ratios.values()
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
            for name, (taken, _) in rows.items()
        ],
        target=(
            "the nine keep their p99 within 20 % (is "
            + " x, ".join(f"{ratio:.2f}" for ratio in counted)
            + f" x in the last three rows; beside one that speaks HTTP/1.1 only, in its first seconds, where the"
            f" target is not applied, {aside:.2f} x)"
        ),
        met=max(counted) <= _GAIN,
        notes=(_note(http1, http2),),
    )


def _note(http1: _Beside, http2: _Beside) -> str:
    return (
        "The tenth backend gets 200 requests/s over HTTP/2 in all rows, 20 at once ten times a second. The first 5 s"
        " begin with the first request to the slow one, to which there is no connection then; only the handshakes of"
        " the load's own connections are over. While it is slow, no request finds a connection unused. If it speaks"
        " HTTP/1.1 only, each of the first 1024 needs a new one, whose TLS handshake, client certificate included, runs"
        " in the event loop that serves the nine: they notice that. One that speaks HTTP/2, as Go's servers do, gets 16"
        " of those, and then connections that 100 requests share. In either case 1024 requests are in progress after 5"
        " s and 1024 wait, the limits of each APIService; what is more is refused"
        f" ({measure.median(http1.refused):.0%} and {measure.median(http2.refused):.0%} of the slow requests while"
        " settled), and answers make room for those that wait. The rows of the first seconds are compared with the same"
        " seconds of the control. The slow backend has the lowest priority on the core that it shares with the nine and"
        " the load: elsewhere it would not be there. The limit of requests in progress over all backends is off: it"
        " would answer 429 to a user who holds so many, whichever backend they wait for."
    )


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


def _refused(asked: Sequence[measure.Timed], began: float, between: tuple[float, float]) -> float:
    """The share of the requests of that time that were answered 503; the log does not have those that still wait."""
    count = sum(item.status == 503 for item in asked if between[0] <= item.began - began < between[1])
    return count / (_RATE * (between[1] - between[0]))
