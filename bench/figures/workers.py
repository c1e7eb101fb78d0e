"""Two processes on one port beside one: what they do per CPU second, and how evenly the kernel spreads connections."""

import contextlib
import time

from bench import measure
from bench.ports import EXTRA
from bench.stage import PATH, Stage, need
from bench.table import Figure

_GAIN = 1.8
_FEW, _MANY = 64, 256


def figure(stage: Stage) -> Figure:
    rows: list[tuple[str, ...]] = []
    gains: dict[int, float] = {}
    for connections in (_FEW, _MANY):
        pairs = [(_run(stage, 1, connections), _run(stage, 2, connections)) for _ in range(stage.options.rounds)]
        # Of each round, and not of the medians: the speed of a machine that is not alone on its host drifts.
        gains[connections] = measure.median(2 * each / alone * even for (alone, _), (each, even) in pairs)
        alone = measure.median(single[0] for single, _ in pairs)
        each = measure.median(double[0] for _, double in pairs)
        even = measure.median(double[1] for _, double in pairs)
        rows.append((f"{connections}", f"{alone:.0f}", f"{each:.0f}", f"{0.5 / even:.2f}", f"{gains[connections]:.2f}"))
    return Figure(
        title="Scaling with workers, HTTP/1.1 connections",
        columns=("connections", "requests per CPU second of 1", "of 2", "busiest worker's share", "gain"),
        rows=rows,
        target=f"2 workers do at least {_GAIN} x the work of 1 with {_MANY} connections (is {gains[_MANY]:.2f})",
        met=gains[_MANY] >= _GAIN,
        notes=(
            "Worked out, not seen: two workers and their load do not fit on two cores at once. The gain is twice the"
            " requests per CPU second of two workers over those of one, times how evenly the work was spread (the"
            " busiest worker is full first). Memory bandwidth and caches that full cores share are not in it. The"
            f" kernel draws a worker for each connection: of {_FEW} the busier one has 35 on average, of {_MANY} it has"
            " 134, so with few connections the gain is what the draw makes of it, 1.8 at best on average.",
        ),
    )


def _run(stage: Stage, count: int, connections: int) -> tuple[float, float]:
    """Requests per CPU second, and the mean share of a worker over that of the busiest."""
    with contextlib.ExitStack() as stack:
        command = stage.ours("--port", str(EXTRA), "--reuse-port")
        cores = (stage.proxy_core, stage.load_core)
        pids = [stack.enter_context(stage.running("worker", command, EXTRA, core=cores[i])) for i in range(count)]
        # Only then has the last one read its modules: nothing of its start is counted.
        while measure.listeners(EXTRA) < count:
            time.sleep(0.05)
        wrk = [need("wrk"), "-t1", f"-c{connections}", "--latency", f"https://localhost:{EXTRA}{PATH}"]
        measure.run_load([*wrk, "-d1"], cores=cores)
        before = [measure.cpu_seconds([pid]) for pid in pids]
        output = measure.run_load([*wrk, f"-d{stage.options.seconds:.0f}"], cores=cores)
        used = [measure.cpu_seconds([pid]) - start for pid, start in zip(pids, before, strict=True)]
    return measure.parse_wrk(output).requests / sum(used), sum(used) / count / max(used)
