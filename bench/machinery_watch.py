"""Watch fan-out: how long a write takes to reach every watcher.

Three processes share the machine: the server, one client process with all watchers, and the writer. Writes are due at
fixed times, and each carries the time it was *due*: what the writer or the server delays counts as latency.

    python -m bench.machinery_watch SOCKET WATCHERS ACCEPT      (the client process)
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvloop

from bench.machinery_kit import Connection, Figure, Process, at_most, machine_busy, percentile, request, server
from bench.machinery_server import PATH

WATCHERS, WRITES_PER_SECOND = 1000, 100
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_OBJECTS = 50
_WRITERS = 8
_STAMP = re.compile(rb"sent (\d+)")
_PADDING = "x" * 100
_P99_MILLISECONDS = 250.0
_SETTLE_SECONDS = 10.0


class _Watcher(asyncio.Protocol):
    """One watch. Reads no more of the stream than its time stamps: the client must not be what is measured."""

    def __init__(self, accept: str, latencies: Counter[int]) -> None:
        self.count = 0
        self.total = 0
        self.started = asyncio.get_running_loop().create_future()
        self._accept = accept
        self._rest = b""
        self._latencies = latencies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        target = f"{PATH}?watch=true&allowWatchBookmarks=true"
        cast(asyncio.WriteTransport, transport).write(request("GET", target, headers={"accept": self._accept}))

    def data_received(self, data: bytes) -> None:
        if not self.started.done():
            self.started.set_result(None)
        now = time.monotonic_ns()
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        for stamp in _STAMP.findall(data, 0, end):
            sent = int(stamp)
            self.count += 1
            self.total += sent
            self._latencies[(now - sent) // 1_000_000] += 1


async def _client(socket: str, watchers: int, accept: str) -> None:
    """Open the watches, say so; on each line of input report what has been seen."""
    loop = asyncio.get_running_loop()
    latencies: Counter[int] = Counter()
    protocols: list[_Watcher] = []
    for _ in range(watchers):
        _transport, protocol = await loop.create_unix_connection(lambda: _Watcher(accept, latencies), socket)
        protocols.append(protocol)
    await asyncio.gather(*(protocol.started for protocol in protocols))
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        report = {
            "seen": sorted(Counter((protocol.count, protocol.total) for protocol in protocols).items()),
            "latencies": sorted(latencies.items()),
            "cpu": time.process_time(),
        }
        print(json.dumps(report), flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fanout:
    """What one run gave. Times in milliseconds."""

    writes: int
    complete: bool
    p50: float
    p99: float
    worst: float
    write_p99: float
    server_cpu: float
    """Cores, as `client_cpu` and `others`."""
    client_cpu: float
    others: float
    """What processes that are no part of this took away meanwhile."""

    def figures(self, name: str) -> Sequence[Figure]:
        notes = f"p50 {self.p50:.0f}, worst {self.worst:.0f}, write p99 {self.write_p99:.0f} ms; "
        notes += f"cores used: server {self.server_cpu:.2f}, client {self.client_cpu:.2f}, others {self.others:.2f}"
        return [
            at_most(f"{name}, p99", self.p99, _P99_MILLISECONDS, "ms"),
            Figure(
                name=f"{name}, every event at every watcher",
                value="yes" if self.complete else "no",
                target="yes",
                ok=self.complete,
            ),
            Figure(name=f"{name}, notes", value=notes),
        ]


def measure(process: Process, *, seconds: float, watchers: int = WATCHERS, accept: str = "") -> Fanout:
    """One run against an empty server."""
    command = [sys.executable, "-m", "bench.machinery_watch", str(process.socket), str(watchers), accept]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdin is not None
    assert client.stdout is not None
    try:
        asyncio.run(_prepare(process.socket))
        if client.stdout.readline() != "ready\n":
            raise RuntimeError("the watch client did not start")
        busy, own, cpu, started = machine_busy(), time.process_time(), process.cpu(), time.monotonic()
        sent, write_latencies = uvloop.run(_write(process.socket, seconds))
        cpu, elapsed = process.cpu() - cpu, time.monotonic() - started
        busy, own = machine_busy() - busy, time.process_time() - own
        report = _report(client, [[[len(sent), sum(sent)], watchers]])
    finally:
        client.stdin.close()
        client.wait()
    total = sum(count for _, count in report["latencies"])
    return Fanout(
        writes=len(sent),
        complete=report["seen"] == [[[len(sent), sum(sent)], watchers]],
        p50=_bucket(report["latencies"], total * 0.50),
        p99=_bucket(report["latencies"], total * 0.99),
        worst=_bucket(report["latencies"], total),
        write_p99=percentile(sorted(write_latencies), 0.99),
        server_cpu=cpu / elapsed,
        client_cpu=report["cpu"] / elapsed,
        others=max(0.0, busy - own - cpu - report["cpu"]) / elapsed,
    )


def _report(client: "subprocess.Popen[str]", complete: Any) -> Any:
    """What the client has seen, as soon as that is everything, or after a while anyway."""
    assert client.stdin is not None
    assert client.stdout is not None
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        client.stdin.write("report\n")
        client.stdin.flush()
        report = json.loads(client.stdout.readline())
        if report["seen"] == complete or time.monotonic() > deadline:
            return report
        time.sleep(0.2)


def _bucket(buckets: Sequence[tuple[int, int]], wanted: float) -> float:
    """The upper end of the bucket (one millisecond wide) that holds the `wanted`-th sample."""
    seen = 0
    for milliseconds, count in buckets:
        seen += count
        if seen >= wanted:
            return milliseconds + 1
    return float("inf")


async def _prepare(socket: Path) -> None:
    connection = await Connection.open(socket)
    for number in range(_OBJECTS):
        body = json.dumps({"metadata": {"name": f"sample-{number}"}, "spec": "new"}).encode()
        await connection.call(request("POST", PATH, body))
    connection.close()


async def _write(socket: Path, seconds: float) -> tuple[list[int], list[float]]:
    """The time stamps of all writes (nanoseconds), and how long each took from when it was due (milliseconds)."""
    pool: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(_WRITERS):
        pool.put_nowait(await Connection.open(socket))
    sent: list[int] = []
    latencies: list[float] = []

    async def write(number: int, due: int) -> None:
        connection = await pool.get()
        body = json.dumps({"spec": f"sent {due} {_PADDING}"}).encode()
        headers = {"content-type": "application/merge-patch+json"}
        await connection.call(request("PATCH", f"{PATH}/sample-{number % _OBJECTS}", body, headers))
        pool.put_nowait(connection)
        sent.append(due)
        latencies.append((time.monotonic_ns() - due) / 1e6)

    begin = time.monotonic_ns()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(seconds * WRITES_PER_SECOND)):
            due = begin + number * 1_000_000_000 // WRITES_PER_SECOND
            await asyncio.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
            tasks.create_task(write(number, due))
    while not pool.empty():
        pool.get_nowait().close()
    return sent, latencies


def run(directory: Path, *, seconds: float) -> Sequence[Figure]:
    """The figures of plain watches, and of table watches such as `kubectl get -w` opens."""
    figures: list[Figure] = []
    for name, accept, share in (("watch, JSON", "", 0.75), ("watch, Table", TABLE, 0.25)):
        with server(directory) as process:
            figures += measure(process, seconds=seconds * share, accept=accept).figures(name)
    return figures


if __name__ == "__main__":
    uvloop.run(_client(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
