"""CPU time per request over HTTP/1.1 and over HTTP/2, every proxy in turn."""

from collections.abc import Callable

from bench import measure
from bench.measure import Load, Round, median
from bench.stage import PATH, Options, Stage, need
from bench.table import Figure, skipped

_HTTP1_RATIO = 1.4
_COLUMNS = ("proxy", "CPU us/request", "x nginx", "requests/s", "p99 ms", "RSS MB")


def http1(stage: Stage, connections: int = 16) -> Figure:
    """Keep-alive connections, one request at a time on each."""
    wrk = need("wrk")

    def load(port: int, options: Options) -> list[str]:
        command = [wrk, "-t1", f"-c{connections}", f"-d{options.seconds:.0f}", "--latency"]
        return [*command, f"https://localhost:{port}{PATH}"]

    rounds = _rounds(stage, load, measure.parse_wrk)
    base = _cpu(rounds["nginx"])
    ratio = _cpu(rounds["aggregator"]) / base
    return Figure(
        title=f"HTTP/1.1 keep-alive, {connections} connections",
        columns=_COLUMNS,
        rows=_rows(stage, rounds),
        target=f"at most {_HTTP1_RATIO} x nginx's CPU time per request (is {ratio:.2f})",
        met=ratio <= _HTTP1_RATIO,
    )


def http2(stage: Stage, connections: int = 8, streams: int = 16) -> Figure:
    """Many streams on few connections."""
    h2load = need("h2load")

    def load(port: int, options: Options) -> list[str]:
        command = [h2load, "--npn-list=h2", "-t1", f"-c{connections}", f"-m{streams}", "-D", f"{options.seconds:.0f}"]
        return [*command, f"https://localhost:{port}{PATH}"]

    title, goal = f"HTTP/2, {connections} connections with {streams} streams", "at most Go ReverseProxy's CPU time"
    rounds = _rounds(stage, load, measure.parse_h2load)
    if "Go ReverseProxy" not in rounds:
        return skipped(title, goal, "No Go toolchain on this machine.")
    ratio = _cpu(rounds["aggregator"]) / _cpu(rounds["Go ReverseProxy"])
    return Figure(
        title=title,
        columns=_COLUMNS,
        rows=_rows(stage, rounds),
        target=f"{goal} per request (is {ratio:.2f} x)",
        met=ratio <= 1,
    )


def _rounds(
    stage: Stage, command: Callable[[int, Options], list[str]], parse: Callable[[str], Load]
) -> dict[str, list[Round]]:
    """Rounds alternate between the proxies, so that what else the machine does meets all of them."""
    names = [name for name in stage.pids if name not in ("backend", "streams")]
    found: dict[str, list[Round]] = {name: [] for name in names}
    for _ in range(stage.options.rounds):
        for name in names:
            output, used = stage.load(name, command(stage.ports[name], stage.options))
            found[name].append(Round(load=parse(output), cpu_seconds=used))
    return found


def _cpu(rounds: list[Round]) -> float:
    return median(item.cpu_microseconds for item in rounds)


def _rows(stage: Stage, rounds: dict[str, list[Round]]) -> list[tuple[str, ...]]:
    base = _cpu(rounds["nginx"])
    rows: list[tuple[str, ...]] = []
    for name, items in rounds.items():
        tails = [item.load.p99_milliseconds for item in items if item.load.p99_milliseconds is not None]
        rows.append(
            (
                name,
                f"{_cpu(items):.1f}",
                f"{_cpu(items) / base:.2f}",
                f"{median(item.load.per_second for item in items):.0f}",
                f"{median(tails):.2f}" if tails else "",
                f"{measure.rss_bytes(measure.family(stage.pids[name])) / 1e6:.1f}",
            )
        )
    return rows
