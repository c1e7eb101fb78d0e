"""Memory of idle watches: the proxy's, and that of the same TLS connections with nothing else (`bench.peers.bare`).

A backend that speaks HTTP/2 gets most of them as streams of connections that they share.
"""

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path
from typing import cast

import uvloop

from bench import measure
from bench.ports import BARE, EXTRA
from bench.stage import Stage, StageError
from bench.table import Figure

WATCHES = 10_000
_QUICK = 500
_KILOBYTES = 60.0
_SPARE_FILES = 300
_AT_ONCE = 64
_SHARING = 100
"""Watches on one connection to the backend, if it speaks HTTP/2."""


def figure(stage: Stage) -> Figure:
    wanted = _QUICK if stage.options.quick else WATCHES
    # A proxied watch is two sockets of one process.
    count = min(wanted, (measure.raise_file_limit() - _SPARE_FILES) // 2)
    own = _measured(stage, "streams.test", 1, count)
    shared = _measured(stage, "streams-http2.test", _SHARING, count)
    rows = (
        ("proxy, all", own[0], shared[0]),
        ("TLS connections alone", own[1], shared[1]),
        ("proxy beyond TLS", own[0] - own[1], shared[0] - shared[1]),
    )
    notes = [
        "TLS alone: two connections for each watch of a backend that speaks HTTP/1.1 only; for one that speaks HTTP/2"
        f" the client's, and towards the backend one for {_SHARING} watches."
    ]
    if count < wanted:
        notes.append(f"{count} watches: this machine lets a process open no more files.")
    return Figure(
        title=f"{count} idle watches through the proxy",
        columns=("kB of each watch", "HTTP/1.1 backend", "HTTP/2 backend"),
        rows=[(name, f"{one:.1f}", f"{other:.1f}") for name, one, other in rows],
        target=f"at most {_KILOBYTES:.0f} kB beyond TLS",
        met=max(rows[-1][1:]) <= _KILOBYTES,
        notes=notes,
    )


def _measured(stage: Stage, group: str, share: int, count: int) -> tuple[float, float]:
    """Kilobytes of a watch through the proxy, and of its TLS alone when so many share one of the backend's."""
    path = f"/apis/{group}/v1/things?watch=1"
    bare = [sys.executable, "-m", "bench.peers.bare", str(stage.directory), "--shared", str(share)]
    tls = _kilobytes(stage, "bare", bare, BARE, path, count)
    return _kilobytes(stage, "aggregator", stage.ours("--port", str(EXTRA)), EXTRA, path, count), tls


def _kilobytes(stage: Stage, name: str, command: list[str], port: int, path: str, count: int) -> float:
    with stage.running(name, command, port, core=stage.proxy_core) as pid:
        with _watching(stage, port, path, 50):
            pass
        before = measure.rss_bytes([pid])
        with _watching(stage, port, path, count):
            return (measure.rss_bytes([pid]) - before) / 1000 / count


class _watching:
    """So many watches are open, each has had its first event."""

    def __init__(self, stage: Stage, port: int, path: str, count: int) -> None:
        client = [sys.executable, "-m", "bench.figures.watches", str(stage.directory), str(port), path, str(count)]
        self._command = ["taskset", "-c", str(stage.load_core), *client]

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise StageError("the watching client failed")

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


class _Watch(asyncio.Protocol):
    __slots__ = ("path", "started")

    def __init__(self, path: str) -> None:
        self.path = path
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        request = f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        cast(asyncio.WriteTransport, transport).write(request.encode())

    def data_received(self, data: bytes) -> None:
        if b"BOOKMARK" in data and not self.started.done():
            self.started.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.started.done():
            self.started.set_exception(exc or ConnectionError("closed"))


async def _watch(directory: Path, port: int, path: str, count: int) -> None:
    measure.raise_file_limit()
    context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    loop = asyncio.get_running_loop()
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one() -> asyncio.BaseTransport:
        async with limit:
            transport, watch = await loop.create_connection(
                lambda: _Watch(path), "127.0.0.1", port, ssl=context, server_hostname="localhost"
            )
            await watch.started
            return transport

    transports = await asyncio.gather(*(one() for _ in range(count)))
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for transport in transports:
        cast(asyncio.WriteTransport, transport).abort()


if __name__ == "__main__":
    uvloop.run(_watch(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
