"""Watch fan-out: how long a write takes to reach every watcher.

Three processes share the machine: the server, one client process with all watchers, and the writer. Writes are due at
fixed times, and each carries the time it was *due*: what the writer or the server delay counts as latency.

    python -m bench.machinery_watch SOCKET WATCHERS      (the client process)
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
from typing import Any

import uvloop

from bench.machinery_kit import Connection, Figure, Process, at_most, percentile, request
from bench.machinery_server import PATH

WATCHERS, WRITES_PER_SECOND, SECONDS = 1000, 100, 20
_OBJECTS = 50
_WRITERS = 8
_SENT = re.compile(rb'"spec":"sent (\d+)')
_PADDING = "x" * 100
_P99_MILLISECONDS = 250.0


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
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write")
        query = "?watch=true&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
        transport.write(request("GET", PATH + query.partition("&")[0] + "&allowWatchBookmarks=true", headers={"accept": self._accept}))

    def data_received(self, data: bytes) -> None:
        if not self.started.done():
            self.started.set_result(None)
        now = time.monotonic_ns()
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        for stamp in _SENT.findall(data, 0, end):
            sent = int(stamp)
            self.count += 1
            self.total += sent
            self._latencies[(now - sent) // 1_000_000] += 1


async def _client(socket: str, watchers: int, accept: str) -> None:
    """Open the watches, say so, count until told to stop, report."""
    loop = asyncio.get_running_loop()
    latencies: Counter[int] = Counter()
    protocols = []
    for _ in range(watchers):
        _transport, protocol = await loop.create_unix_connection(lambda: _Watcher(accept, latencies), socket)
        protocols.append(protocol)
    await asyncio.gather(*(protocol.started for protocol in protocols))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    report = {
        "counts": [protocol.count for protocol in protocols],
        "totals": [protocol.total for protocol in protocols],
        "latencies": sorted(latencies.items()),
        "cpu": time.process_time(),
    }
    print(json.dumps(report), flush=True)
