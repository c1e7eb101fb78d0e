"""Bodies of 100 MB, down and up, beside nginx."""

from bench import measure
from bench.stage import LARGE_BYTES, Stage, need
from bench.table import Figure

_SHARE = 0.7
_FLAT_MEGABYTES = 16.0
_DOWN = "/apis/bench.test/v1/namespaces/default/things/large"
_UP = "/apis/streams.test/v1/namespaces/default/things/large"


def figure(stage: Stage) -> Figure:
    speeds: dict[tuple[str, str], list[float]] = {}
    costs: dict[tuple[str, str], list[float]] = {}
    growth = {"nginx": 0.0, "aggregator": 0.0}
    for _ in range(stage.options.rounds):
        for name in growth:
            pids = measure.family(stage.pids[name])
            _transfer(stage, name, "down")
            before = measure.rss_bytes(pids)
            measure.forget_peak(pids)
            for way in ("down", "up"):
                speed, used = _transfer(stage, name, way)
                speeds.setdefault((name, way), []).append(speed)
                costs.setdefault((name, way), []).append(used / LARGE_BYTES * 1e9)
            growth[name] = max(growth[name], (measure.rss_bytes(pids, peak=True) - before) / 1e6)
    middle = {key: measure.median(values) for key, values in speeds.items()}
    shares = {way: middle["aggregator", way] / middle["nginx", way] for way in ("down", "up")}
    flat = growth["aggregator"] <= _FLAT_MEGABYTES
    rows = [
        (
            name,
            *(f"{middle[name, way]:.0f}" for way in ("down", "up")),
            *(f"{measure.median(costs[name, way]):.2f}" for way in ("down", "up")),
            f"{growth[name]:.1f}",
        )
        for name in growth
    ]
    return Figure(
        title="Bodies of 100 MB over one HTTP/1.1 connection",
        columns=("proxy", "down MB/s", "up MB/s", "down CPU s/GB", "up CPU s/GB", "peak memory beyond idle MB"),
        rows=rows,
        target=(
            f"at least {_SHARE} x nginx's throughput (is {shares['down']:.2f} down, {shares['up']:.2f} up),"
            f" memory flat (within {_FLAT_MEGABYTES:.0f} MB)"
        ),
        met=min(shares.values()) >= _SHARE and flat,
    )


def _transfer(stage: Stage, name: str, way: str) -> tuple[float, float]:
    """Megabytes per second, and CPU seconds of the proxy."""
    command = [need("curl"), "--silent", "--fail", "--http1.1", "--cacert", str(stage.directory / "ca.crt")]
    command += ["--header", "Expect:", "--write-out", "%{time_total} %{time_appconnect} %{http_code}"]
    command += ["--output", "/dev/null"]
    port = stage.ports[name]
    if way == "up":
        command += ["--request", "PUT", "--upload-file", str(stage.directory / "large.bin")]
        command.append(f"https://localhost:{port}{_UP}")
    else:
        command.append(f"https://localhost:{port}{_DOWN}")
    output, used = stage.load(name, command)
    total, connected, _ = output.split()
    return LARGE_BYTES / 1e6 / (float(total) - float(connected)), used
