"""The server that `bench.machinery` measures: one kind, the real application behind the real HTTP server.

    python -m bench.machinery_server SOCKET [DATA]

Serves on the unix socket SOCKET until standard input ends; objects are in memory, or durable below DATA.
"""

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry

from apimachinery.authorization import Policy
from apimachinery.table import AGE_COLUMN, NAME_COLUMN, Column
from apiserver.app import AppConfig, build_app
from apiserver.auth.trusted import trusted_headers
from apiserver.discovery import LocalDiscovery
from apiserver.endpoints import Endpoints
from apiserver.health import HealthChecks
from apiserver.metrics import ServerMetrics
from apiserver.registry import Registry
from apiserver.resource import Resource
from apiserver.rest.context import Context
from apiserver.rest.dispatch import Verbs
from apiserver.serving import serve
from apiserver.storage.base import Store
from apiserver.storage.file import FileStore
from apiserver.storage.memory import MemoryStore

SAMPLE = Resource(
    group="bench.test",
    version="v1",
    kind="Sample",
    plural="samples",
    singular="sample",
    namespaced=True,
    schema={"type": "object", "properties": {"spec": {"type": "string"}}},
    columns=(NAME_COLUMN, Column("Spec", "string", lambda obj, _now: obj.get("spec", "")), AGE_COLUMN),
)
PATH = "/apis/bench.test/v1/namespaces/default/samples"


async def _serve(socket: Path, store: Store) -> None:
    registry, verbs, collectors = Registry([SAMPLE]), Verbs(Context(store=store)), CollectorRegistry()
    app = build_app(
        AppConfig(
            registry=registry,
            verbs=verbs,
            authenticate=trusted_headers,
            authorizer=Policy(),
            endpoints=Endpoints(health=HealthChecks(), collectors=collectors, version={}),
            metrics=ServerMetrics(collectors),
            documents=[LocalDiscovery(registry)],
        )
    )
    server = await serve(app, unix_path=socket)
    try:
        await asyncio.to_thread(sys.stdin.read)
    finally:
        verbs.watcher.close()
        await server.stop(1.0)


async def _run(socket: Path, data: Path | None) -> None:
    if data is None:
        await _serve(socket, MemoryStore())
    else:
        async with FileStore.open(data, on_damaged=lambda path, reason: None) as store:
            await _serve(socket, store)


def main(arguments: list[str]) -> None:
    socket, *data = map(Path, arguments)
    runner = _run(socket, data[0] if data else None)
    profile = os.environ.get("BENCH_PROFILE")
    if not profile:
        uvloop.run(runner)
        return
    import cProfile

    profiler = cProfile.Profile(time.process_time)
    with contextlib.suppress(KeyboardInterrupt):
        profiler.runcall(uvloop.run, runner)
    profiler.dump_stats(profile)


if __name__ == "__main__":
    main(sys.argv[1:])
