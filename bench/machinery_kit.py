"""What the measurements of `bench.machinery` share: a server process, a cheap HTTP client, results."""

import contextlib
import os
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter, open_unix_connection
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HEADERS = {"host": "bench", "x-remote-user": "bench", "x-remote-group": "system:masters"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table. `ok` is None for a figure without a target."""

    name: str
    value: str
    target: str = ""
    ok: bool | None = None


def at_most(name: str, value: float, limit: float, unit: str) -> Figure:
    return Figure(name=name, value=f"{value:.3g} {unit}", target=f"<= {limit:g} {unit}", ok=value <= limit)


class Process:
    """A server process and what the system charged to it."""

    def __init__(self, socket: Path, pid: int) -> None:
        self.socket = socket
        self._pid = pid
        self._clock = ~pid << 3 | 2
        """The clock id of another process' CPU time, as clock_getcpuclockid(3) makes it."""

    def cpu(self) -> float:
        """CPU seconds of the process so far."""
        return time.clock_gettime(self._clock)

    def memory(self) -> int:
        """Resident bytes of its own (not of shared libraries)."""
        _size, resident, shared, *_ = Path(f"/proc/{self._pid}/statm").read_text().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def server(directory: Path, data: Path | None = None) -> Iterator[Process]:
    """A server process with its socket in `directory`."""
    socket = directory / "bench.sock"
    command = [sys.executable, "-m", "bench.machinery_server", str(socket), *([str(data)] if data else [])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 20
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            time.sleep(0.05)
        yield Process(socket, process.pid)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def request(method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of an HTTP/1.1 request."""
    fields = {**HEADERS, **(headers or {}), "content-length": str(len(body))}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


class Connection:
    """A keep-alive connection, one request at a time."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, socket: Path) -> "Connection":
        return cls(*await open_unix_connection(socket, limit=1 << 24))

    async def call(self, data: bytes) -> bytes:
        """The body of the answer; RuntimeError unless it is 2xx."""
        self._writer.write(data)
        head = await self._reader.readuntil(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await self._reader.readexactly(size)
        if not head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(f"{head.split(b' ', 2)[1].decode()}: {body[:300].decode(errors='replace')}")
        return body

    def close(self) -> None:
        self._writer.close()


def machine_busy() -> float:
    """CPU seconds that all processors together have been busy, or were withheld from this machine, so far."""
    user, nice, system, _idle, _waiting, *interrupts = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def percentile(sorted_values: Sequence[float], fraction: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * fraction))]
