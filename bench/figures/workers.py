"""Two processes on one port beside one: what they do per CPU second, and how evenly the kernel spreads connections."""

import contextlib
import time

from bench import measure
from bench.ports import EXTRA
from bench.stage import PATH, Stage, need
from bench.table import Figure

_GAIN = 1.8
_CONNECTIONS = 64


def figure(stage: Stage) -> Figure:
    single = [_run(stage, 1) for _ in range(stage.options.rounds)]
    double = [_run(stage, 2) for _ in range(stage.options.rounds)]
    alone = measure.median(item[0] for item in single)
    each = measure.median(item[0] for item in double)
    even = measure.median(item[1] for item in double)
    gain = 2 * each / alone * even
    return Figure(
        title=f"Scaling with workers, {_CONNECTIONS} HTTP/1.1 connections",
        columns=("workers", "requests per CPU second", "busiest worker's share"),
        rows=[("1", f"{alone:.0f}", "1.00"), ("2", f"{each:.0f}", f"{0.5 / even:.2f}")],
        target=f"2 workers do at least {_GAIN} x the work of 1 (is {gain:.2f})",
        met=gain >= _GAIN,
        notes=(
            "Worked out, not seen: two workers and their load do not fit on two cores at once. The gain is twice the"
            " requests per CPU second of two workers over those of one, times how evenly the work was spread (the"
            " busiest worker is full first). Memory bandwidth and caches that full cores share are not in it.",
        ),
    )


def _run(stage: Stage, count: int) -> tuple[float, float]:
    """Requests per CPU second, and the mean share of a worker over that of the busiest."""
    with contextlib.ExitStack() as stack:
        command = stage.ours("--port", str(EXTRA), "--reuse-port")
        cores = (stage.proxy_core, stage.load_core)
        pids = [stack.enter_context(stage.running("worker", command, EXTRA, core=cores[i])) for i in range(count)]
        # Only then has the last one read its modules: nothing of its start is counted.
        while measure.listeners(EXTRA) < count:
            time.sleep(0.05)
        wrk = [need("wrk"), "-t1", f"-c{_CONNECTIONS}", "--latency", f"https://localhost:{EXTRA}{PATH}"]
        measure.run_load([*wrk, "-d1"], cores=cores)
        before = [measure.cpu_seconds([pid]) for pid in pids]
        output = measure.run_load([*wrk, f"-d{stage.options.seconds:.0f}"], cores=cores)
        used = [measure.cpu_seconds([pid]) - start for pid, start in zip(pids, before, strict=True)]
    return measure.parse_wrk(output).requests / sum(used), sum(used) / count / max(used)
