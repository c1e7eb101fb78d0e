"""What a figure is made of: the load generators' output, and what the operating system charged to processes."""

import contextlib
import os
import re
import resource
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_SCALE = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class LoadError(Exception):
    """A load generator failed, or was answered errors: its figures would be about something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load generator says of one run."""

    requests: int
    per_second: float
    p99_milliseconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One run of a load against one proxy."""

    load: Load
    cpu_seconds: float

    @property
    def cpu_microseconds(self) -> float:
        """Of the proxy, per request."""
        return self.cpu_seconds * 1e6 / self.load.requests


def parse_wrk(output: str) -> Load:
    """The output of `wrk --latency`. LoadError."""
    counted = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", output)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", output)
    if counted is None or tail is None or "Non-2xx" in output or "Socket errors" in output:
        raise LoadError(f"the load failed:\n{output}")
    requests, seconds = int(counted[1]), float(counted[2]) * _SCALE[counted[3]] / 1000
    return Load(requests=requests, per_second=requests / seconds, p99_milliseconds=float(tail[1]) * _SCALE[tail[2]])


def parse_h2load(output: str) -> Load:
    """The output of h2load over HTTP/2. LoadError, also when the server chose another protocol."""
    protocol = re.search(r"^Application protocol: (\S+)", output, re.MULTILINE)
    if protocol is None or protocol[1] != "h2":
        raise LoadError(f"not HTTP/2 but {protocol[1] if protocol is not None else 'nothing'}:\n{output}")
    speed = re.search(r"finished in [\d.]+(?:us|ms|s|m), ([\d.]+) req/s", output)
    counted = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    if speed is None or counted is None or codes is None:
        raise LoadError(f"the load failed:\n{output}")
    bad = [int(item) for item in (*counted.groups()[1:], *codes.groups()[1:])]
    if any(bad) or int(counted[1]) == 0:
        raise LoadError(f"the load failed:\n{output}")
    return Load(requests=int(counted[1]), per_second=float(speed[1]))


@dataclass(frozen=True, slots=True)
class Timed:
    """One request in a log of h2load: when it began, in seconds of the epoch, and how long it took."""

    began: float
    status: int
    milliseconds: float


def parse_h2load_log(text: str) -> list[Timed]:
    """Each request in a file of `h2load --log-file`. A last line that is still being written is left out."""
    rows = (line.split("\t") for line in text.splitlines(keepends=True) if line.endswith("\n"))
    return [Timed(int(began) / 1e6, int(status), int(taken) / 1000) for began, status, taken in rows]


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all do not exceed. ValueError when there are none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time since the processes began; the clock has steps of 10 ms."""
    return sum(map(_cpu_seconds, pids))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pids: Iterable[int], *, peak: bool = False) -> int:
    """Resident memory now, or its highest since `forget_peak`."""
    name = "VmHWM" if peak else "VmRSS"
    found = 0
    for pid in pids:
        match = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        found += int(match[1]) * 1024 if match is not None else 0
    return found


def forget_peak(pids: Iterable[int]) -> None:
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def listeners(port: int) -> int:
    """How many sockets listen on a port of 127.0.0.1."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def connections(pid: int, port: int) -> int:
    """How many established connections to a port of 127.0.0.1 a process has."""
    own = set()
    for item in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closing some this moment.
        with contextlib.suppress(FileNotFoundError):
            own.add(os.readlink(item))
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" and f"socket:[{row[9]}]" in own for row in rows)


def run_load(command: Sequence[str], *, cores: Sequence[int]) -> str:
    """The standard output of a load generator pinned to cores. LoadError."""
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
    ended = subprocess.run(pinned, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise LoadError(f"{command[0]} failed: {ended.stderr or ended.stdout}")
    return ended.stdout


def raise_file_limit() -> int:
    """Open as many files as this process may; that number."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
