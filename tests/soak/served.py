"""The proxy alone, in a process of its own, so that its memory and descriptors can be watched.

    python -m tests.soak.served [--share] DIRECTORY GROUP=PORT...

With `--share` every request goes over a shared connection, and a backend that has declined is soon asked again.
`DIRECTORY` holds the files of `proxy_kit.PKI`. Prints its port, then one line of JSON for each line it reads, and ends,
with a last line, at the end of its input.
"""

import asyncio
import gc
import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from aggregator.proxy import sharing
from aggregator.proxy.limits import Limits
from aggregator.proxy.routes import RouteTable
from aggregator.proxy.server import Proxy
from apiserver import logs
from tests.unit.aggregator.proxy_kit import PKI, CertificateNames, apiservice, authority, externalname

LIMITS = Limits(
    sweep_seconds=0.1,
    head_seconds=0.6,
    idle_seconds=1.0,
    linger_seconds=0.3,
    connect_seconds=1.0,
    handshake_seconds=2.0,
    body_window_seconds=1.5,
    write_seconds=2.0,
)


class Errors(logging.Handler):
    """Counts what nobody may cause from outside: errors are faults of our own."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += record.levelno >= logging.ERROR


errors = Errors()


def stats(proxy: Proxy) -> dict[str, Any]:
    """What must stay flat, and what must return to nothing."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    metrics = proxy.metrics
    return {
        "rss": resident,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "in_flight": metrics.in_flight,
        "long_running": metrics.long_running,
        "downstream": metrics.downstream_connections(),
        "upstream": metrics.upstream_connections(),
        "errors": errors.count,
    }


async def serve(directory: Path, services: dict[str, int], limits: Limits) -> None:
    pki = PKI(directory, authority())
    bundle = (directory / "ca.crt").read_bytes()
    proxy = Proxy(
        ssl_context=pki.server_context("proxy", ("http/1.1", "h2")), authenticator=CertificateNames(), limits=limits
    )
    await proxy.start()
    routes = [apiservice(port, bundle, name=f"v1.{group}") for group, port in services.items()]
    proxy.plane.install(RouteTable.build(routes, [externalname()]))
    print(proxy.port, flush=True)  # noqa: T201 - the protocol of this program
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(stats(proxy)), flush=True)  # noqa: T201
    await proxy.stop()
    left = [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    print(json.dumps({"left": left}), flush=True)  # noqa: T201


if __name__ == "__main__":
    logs.configure("error", "logfmt")
    logging.getLogger().addHandler(errors)
    arguments = sys.argv[1:]
    limits = LIMITS
    if arguments[0] == "--share":
        del arguments[0]
        limits = replace(LIMITS, own_connections=0, head_bytes=50_000, head_seconds=5.0, idle_seconds=2.0)
        sharing._DECLINED_SECONDS = 0.02
    pairs = [item.partition("=") for item in arguments[1:]]
    uvloop.run(serve(Path(arguments[0]), {group: int(port) for group, _, port in pairs}, limits))
