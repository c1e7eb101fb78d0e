"""Slow answers at half load: what is offered is half of what our own proxy can do, the same to every proxy."""

from collections.abc import Sequence
from pathlib import Path

from bench import measure
from bench.stage import PATH, Stage, need
from bench.table import Figure

_RATIO = 2.0
_CLIENTS = 32


def figure(stage: Stage) -> Figure:
    wrk = [need("wrk"), "-t1", "-c16", "-d2", "--latency", f"https://localhost:{stage.ports['aggregator']}{PATH}"]
    most = measure.parse_wrk(stage.load("aggregator", wrk)[0]).per_second
    rate = most / 2
    names = [name for name in stage.pids if name not in ("backend", "streams")]
    tails: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(stage.options.rounds):
        for name in names:
            taken = paced(stage, [f"https://localhost:{stage.ports[name]}{PATH}"], rate)
            tails[name].append((measure.percentile(taken, 0.5), measure.percentile(taken, 0.99)))
    middle = {name: measure.median(item[1] for item in items) for name, items in tails.items()}
    ratio = middle["aggregator"] / middle["nginx"]
    return Figure(
        title=f"Tail latency at half load, {rate:.0f} requests/s over {_CLIENTS} HTTP/1.1 connections",
        columns=("proxy", "p50 ms", "p99 ms", "x nginx"),
        rows=[
            (
                name,
                f"{measure.median(item[0] for item in tails[name]):.2f}",
                f"{middle[name]:.2f}",
                f"{middle[name] / middle['nginx']:.2f}",
            )
            for name in names
        ],
        target=f"at most {_RATIO:.0f} x nginx's p99 (is {ratio:.2f})",
        met=ratio <= _RATIO,
        notes=(
            "Paced by h2load with a fixed rate on each connection. A request waits for the one before it on its"
            " connection and its time counts from when it was sent (coordinated omission), so a stall longer than"
            f" {_CLIENTS / rate * 1000:.0f} ms counts for less than it should; both proxies are measured alike.",
        ),
    )


def paced(stage: Stage, urls: Sequence[str], rate: float, clients: int = _CLIENTS) -> list[float]:
    """Milliseconds of each request of a run of HTTP/1.1 at `rate` requests/s in all, the first second left out.
    LoadError when any was answered anything but 200."""
    log = stage.directory / "paced.log"
    measure.run_load(paced_command(log, urls, rate, clients, stage.options.seconds), cores=[stage.load_core])
    return [item.milliseconds for item in answered(log)]


def paced_command(log: Path, urls: Sequence[str], rate: float, clients: int, seconds: float) -> list[str]:
    """h2load at a fixed rate on each of its connections; a second to warm up comes on top."""
    # It appends: what it writes must not meet an older run's.
    log.unlink(missing_ok=True)
    command = [need("h2load"), "--h1", "-t1", f"-c{clients}", "-D", f"{seconds:.0f}", "--warm-up-time", "1"]
    return [*command, f"--rps={rate / clients:.3f}", f"--log-file={log}", *urls]


def answered(log: Path) -> list[measure.Timed]:
    """The requests of such a run. LoadError when any was answered anything but 200."""
    rows = measure.parse_h2load_log(log.read_text())
    bad = sorted({item.status for item in rows if item.status != 200})
    if bad or not rows:
        raise measure.LoadError(f"paced load: answered {bad or 'nothing'}")
    return rows
