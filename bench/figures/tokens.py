"""What requests with bearer tokens cost beside those of connections with an identity: most clients in pods have one."""

from collections.abc import Callable

from bench import measure
from bench.measure import Load, Round, median
from bench.ports import EXTRA
from bench.stage import PATH, Stage, need
from bench.table import Figure

_HTTP1_RATIO = 1.4
TOKEN = "x" * 1024
"""As long as the token of a service account."""


def figure(stage: Stage, connections: int = 16) -> Figure:
    """HTTP/1.1 and HTTP/2 with the same token in each request."""
    wrk = [need("wrk"), "-t1", f"-c{connections}", f"-d{stage.options.seconds:.0f}", "--latency"]
    h2load = [need("h2load"), "--npn-list=h2", "-t1", "-c8", "-m16", "-D", f"{stage.options.seconds:.0f}"]
    field = ["-H", f"Authorization: Bearer {TOKEN}"]
    file = stage.directory / "tokens.csv"
    file.write_text(f"{TOKEN},bench,1\n")
    rows: list[tuple[str, ...]] = []
    with stage.running("tokens", stage.ours("--port", str(EXTRA), "--token-file", str(file)), EXTRA) as pid:
        stage.pids["tokens"], stage.ports["tokens"] = pid, EXTRA
        try:
            http1 = _rounds(stage, [*wrk, *field], measure.parse_wrk)
            http2 = _rounds(stage, [*h2load, *field], measure.parse_h2load)
        finally:
            del stage.pids["tokens"], stage.ports["tokens"]
    for protocol, found in (("HTTP/1.1", http1), ("HTTP/2", http2)):
        base = found["nginx"]
        rows += [(protocol, name, f"{cpu:.1f}", f"{cpu / base:.2f}") for name, cpu in found.items()]
    ratio = http1["tokens"] / http1["nginx"]
    return Figure(
        title=f"Bearer tokens of {len(TOKEN)} bytes: {connections} connections, over HTTP/2 8 with 16 streams",
        columns=("protocol", "proxy", "CPU us/request", "x nginx"),
        rows=rows,
        target=f"at most {_HTTP1_RATIO} x nginx's CPU time per request over HTTP/1.1 (is {ratio:.2f})",
        met=ratio <= _HTTP1_RATIO,
        notes=(
            "The same requests to all. `aggregator` has an identity for each connection and drops the token; `tokens`"
            " is the aggregator with a token file. nginx passes the token on unread.",
        ),
    )


def _rounds(stage: Stage, command: list[str], parse: Callable[[str], Load]) -> dict[str, float]:
    """CPU microseconds per request."""
    names = ("nginx", "aggregator", "tokens")
    found: dict[str, list[Round]] = {name: [] for name in names}
    for _ in range(stage.options.rounds):
        for name in names:
            output, used = stage.load(name, [*command, f"https://localhost:{stage.ports[name]}{PATH}"])
            found[name].append(Round(load=parse(output), cpu_seconds=used))
    return {name: median(item.cpu_microseconds for item in rounds) for name, rounds in found.items()}
