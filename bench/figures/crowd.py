"""What a crowded backend costs: requests that share HTTP/2 connections beside those that have one of HTTP/1.1 each.

Both times nginx is the backend. On one port it speaks HTTP/1.1 only; on the other one, where it prefers HTTP/2, what is
beyond the connections of its own that every backend gets is shared.
"""

from bench import measure
from bench.measure import Round, median
from bench.ports import BACKEND, BACKEND_HTTP2
from bench.stage import Stage, need
from bench.table import Figure

_RATIO = 1.4
_CLIENTS = 128
_OWN, _SHARED = "one of HTTP/1.1 for each request", "shared ones of HTTP/2 when crowded"
_GROUPS = {_OWN: ("bench.test", BACKEND), _SHARED: ("http2.test", BACKEND_HTTP2)}


def figure(stage: Stage) -> Figure:
    wrk = [need("wrk"), "-t1", f"-c{_CLIENTS}", f"-d{stage.options.seconds:.0f}", "--latency"]
    url = f"https://localhost:{stage.ports['aggregator']}/apis/{{}}/v1/namespaces/default/things/one"
    rounds: dict[str, list[Round]] = {name: [] for name in _GROUPS}
    connections: dict[str, int] = {}
    for _ in range(stage.options.rounds):
        for name, (group, port) in _GROUPS.items():
            output, used = stage.load("aggregator", [*wrk, url.format(group)])
            rounds[name].append(Round(load=measure.parse_wrk(output), cpu_seconds=used))
            connections[name] = measure.connections(stage.pids["aggregator"], port)
    cpu = {name: median(item.cpu_microseconds for item in items) for name, items in rounds.items()}
    ratio = cpu[_SHARED] / cpu[_OWN]
    return Figure(
        title=f"A crowded backend: {_CLIENTS} HTTP/1.1 connections of clients",
        columns=("connections to the backend", "CPU us/request", "x own", "requests/s", "p99 ms", "connections"),
        rows=[
            (
                name,
                f"{cpu[name]:.1f}",
                f"{cpu[name] / cpu[_OWN]:.2f}",
                f"{median(item.load.per_second for item in items):.0f}",
                f"{median(item.load.p99_milliseconds or 0.0 for item in items):.2f}",
                f"{connections[name]}",
            )
            for name, items in rounds.items()
        ],
        target=f"at most {_RATIO} x the CPU time per request of connections of their own (is {ratio:.2f})",
        met=ratio <= _RATIO,
    )
