"""The whole program with one worker and with two: supervisor, API server, workers, as `aggregator serve` starts them.

Clients have a static bearer token, since wrk shows no client certificates: it is looked at with each request. Backend
(nginx) and load (wrk) share the two cores with the workers, so requests per second say nothing about scaling; what is
compared is the work done per CPU second of the workers, and how evenly it is spread over them.

    python -m bench.workers [--rounds 3] [--seconds 3] [--connections 64]
"""

import argparse
import contextlib
import datetime
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench import measure, ports, table
from bench.peers import nginx
from bench.stage import StageError, need
from bench.table import Figure
from pki import write
from pki.plan import development_plan

_PATH = "/apis/example.grafana.app/v0alpha1/namespaces/default/dummy"
_TOKEN = "bench-token"
_GAIN = 1.8
_START_SECONDS = 60.0
_SETTINGS = """\
[server]
bind_address = 127.0.0.1
secure_port = {port}
tls_cert_file = {pki}/aggregator.crt
tls_private_key_file = {pki}/aggregator.key
tls_ca_file = {pki}/ca.crt
client_ca_file = {pki}/client-ca.crt
metrics_bind_address = 127.0.0.1
metrics_port = {metrics_port}
workers = {workers}

[paths]
data = {run}/data

[authentication]
token_file = {run}/tokens

[grafana-apiserver]
proxy_client_cert_file = {pki}/front-proxy-client.crt
proxy_client_key_file = {pki}/front-proxy-client.key
remote_services_file = {run}/services.yaml
apiservice_ca_bundle_file = {pki}/ca.crt
api_socket = {run}/api.sock

[egress]
allow = 127.0.0.0/8, ::1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    per_cpu_second: float
    busiest_share: float
    """Of the CPU time of all workers."""
    per_second: float


def main() -> int:
    """0 when the target is met, 1 when it is missed, 2 when this machine cannot measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        try:
            found = _measure(Path(name), arguments)
        except (StageError, measure.LoadError) as error:
            print(error, file=sys.stderr)
            return 2
    figure = _figure(found, arguments.connections)
    print(table.as_text(figure))
    return 0 if figure.met else 1


def _measure(directory: Path, arguments: argparse.Namespace) -> dict[int, list[_Round]]:
    if len(os.sched_getaffinity(0)) < 2:
        raise StageError("two cores are needed")
    need("wrk")
    _prepare(directory)
    found: dict[int, list[_Round]] = {1: [], 2: []}
    with _program(nginx.command(need("nginx"), directory, "backend"), directory / "backend.out"):
        for _ in range(arguments.rounds):
            for workers, rounds in found.items():
                with _aggregator(directory, workers) as (port, pids):
                    rounds.append(_round(port, pids, arguments))
    return found


def _figure(found: dict[int, list[_Round]], connections: int) -> Figure:
    cpu = {workers: measure.median(item.per_cpu_second for item in rounds) for workers, rounds in found.items()}
    share = {workers: measure.median(item.busiest_share for item in rounds) for workers, rounds in found.items()}
    seen = {workers: measure.median(item.per_second for item in rounds) for workers, rounds in found.items()}
    # The busiest worker is full first: the others then do as much less as they are less busy.
    gain = cpu[2] / cpu[1] / share[2]
    return Figure(
        title=f"Workers under their supervisor, {connections} HTTP/1.1 connections, a bearer token with each request",
        columns=("workers", "requests per CPU second", "busiest worker's share", "requests/s seen"),
        rows=[(str(item), f"{cpu[item]:.0f}", f"{share[item]:.2f}", f"{seen[item]:.0f}") for item in found],
        target=f"2 workers >= {_GAIN} x 1 on two cores (is {gain:.2f})",
        met=gain >= _GAIN,
        notes=(
            "Backend and load generator share the cores, so the gain is worked out: requests per CPU second of two",
            "workers over those of one, divided by the busiest one's share. Memory bandwidth and caches that two full",
            "cores would share are not in it.",
        ),
    )


def _prepare(directory: Path) -> None:
    directory.chmod(0o755)
    pki = directory / "pki"
    write.issue(pki, development_plan(), now=datetime.datetime.now(datetime.UTC))
    for source, target in (
        ("example-apiserver.crt", "backend.crt"),
        ("example-apiserver.key", "backend.key"),
        # What the backend believes clients by: the aggregator comes with its front proxy certificate.
        ("front-proxy-ca.crt", "ca.crt"),
    ):
        shutil.copy(pki / source, directory / target)
    filler = [{"metadata": {"name": f"thing-{number}"}, "spec": {"size": number}} for number in range(37)]
    (directory / "body.json").write_text(json.dumps({"kind": "DummyResourceList", "items": filler})[:2047] + "\n")
    nginx.write(directory)


@contextlib.contextmanager
def _aggregator(directory: Path, workers: int) -> Iterator[tuple[int, list[int]]]:
    """The port, and the process ids of the workers, once all of them serve."""
    with tempfile.TemporaryDirectory(prefix="run-", dir=directory) as name:
        run = Path(name)
        (run / "tokens").write_text(f'{_TOKEN},bench,bench,"system:masters"\n')
        (run / "tokens").chmod(0o600)
        service = {"group": "example.grafana.app", "version": "v0alpha1", "host": "127.0.0.1", "port": ports.BACKEND}
        (run / "services.yaml").write_text(yaml.safe_dump([service]))
        port, metrics_port = _free_ports()
        values = {"pki": directory / "pki", "run": run, "workers": workers, "port": port, "metrics_port": metrics_port}
        (run / "aggregator.ini").write_text(_SETTINGS.format(**values))
        command = [sys.executable, "-m", "aggregator", "serve", "--config", str(run / "aggregator.ini")]
        with _program(command, run / "log") as process:
            _await_workers(process, directory / "pki" / "ca.crt", port, metrics_port, workers, run / "log")
            pids = [pid for pid in measure.family(process.pid) if b"\0proxy\0" in _command_line(pid)]
            if len(pids) != workers:
                raise StageError(f"{len(pids)} workers run instead of {workers}")
            yield port, pids


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@contextlib.contextmanager
def _program(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=Path(__file__).parents[1])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _await_workers(
    process: subprocess.Popen[bytes], ca: Path, port: int, metrics_port: int, workers: int, log: Path
) -> None:
    """Wait until every worker serves and the backend's API is available. StageError."""
    context = ssl.create_default_context(cafile=str(ca))
    request = urllib.request.Request(f"https://localhost:{port}{_PATH}", headers={"Authorization": f"Bearer {_TOKEN}"})
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as response:
                ready = f"\naggregator_workers_ready {workers}.0\n" in response.read().decode()
            with urllib.request.urlopen(request, context=context, timeout=5) as response:
                if ready and response.status == 200:
                    return
        if time.monotonic() > deadline or process.poll() is not None:
            raise StageError(f"the aggregator does not answer:\n{log.read_text()}")
        time.sleep(0.1)


def _round(port: int, pids: list[int], arguments: argparse.Namespace) -> _Round:
    wrk = [need("wrk"), "-t1", f"-c{arguments.connections}", "--latency", "-H", f"Authorization: Bearer {_TOKEN}"]
    cores = sorted(os.sched_getaffinity(0))
    url = f"https://localhost:{port}{_PATH}"
    measure.run_load([*wrk, "-d1", url], cores=cores)
    before = [measure.cpu_seconds([pid]) for pid in pids]
    load = measure.parse_wrk(measure.run_load([*wrk, f"-d{arguments.seconds}", url], cores=cores))
    used = [measure.cpu_seconds([pid]) - start for pid, start in zip(pids, before, strict=True)]
    return _Round(
        per_cpu_second=load.requests / sum(used), busiest_share=max(used) / sum(used), per_second=load.per_second
    )


if __name__ == "__main__":
    raise SystemExit(main())
