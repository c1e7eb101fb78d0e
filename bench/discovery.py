"""What discovery and OpenAPI of many servers cost: `python -m bench.discovery [--seconds 60]`.

Everything on this host: the real aggregator, and aggregated servers in a process of their own.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry

from aggregator.api.externalname import RESOURCE
from aggregator.api.openapi_aggregator import OpenAPIAggregator
from aggregator.api.openapi_fetch import OpenAPIFetcher
from aggregator.api.refs import APISERVICES, EXTERNALNAMES
from aggregator.upstream.tls import UpstreamTLS
from apimachinery.authorization import AlwaysAllow
from apimachinery.types import Object
from apiserver.app import AppConfig, build_app
from apiserver.auth.trusted import trusted_headers
from apiserver.discovery import LocalDiscovery
from apiserver.endpoints import Endpoints
from apiserver.health import HealthChecks
from apiserver.metrics import ServerMetrics
from apiserver.registry import Registry
from apiserver.rest.context import Context
from apiserver.rest.dispatch import Verbs
from apiserver.storage.memory import MemoryStore
from bench.machinery_kit import Figure, at_most, request
from tests.support import backends
from tests.support.asgi import Client
from tests.support.backends import Backends
from tests.support.local_stack import Answer, LocalStack
from tests.support.registration import SERVER_NAME, availability, register
from tests.support.waiting import wait_until
from tests.unit.aggregator.api_kit import (
    Certificates,
    MemoryClient,
    apiservice,
    externalname,
    fetch_with,
    informer,
    make_certificates,
    running,
    until,
)

_SERVICES = 100
_REQUESTS = 4000
_TICK_SECONDS = 0.01
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Local:
    documents: Mapping[str, bytes] = {}
    hashes: Mapping[str, str] = {}
    v2_json = b'{"swagger":"2.0","info":{"title":"bench","version":"1"},"paths":{"/apis/x/v1/":{}},"definitions":{}}'


async def _stalls(certificates: Certificates, servers: Backends) -> list[Figure]:
    """How late a timer in the aggregator's process is while a large document arrives and is merged."""
    client = MemoryClient()
    apiservices, externalnames = informer(client, APISERVICES), informer(client, EXTERNALNAMES)
    client.put(EXTERNALNAMES, externalname("backends"))
    subject = OpenAPIAggregator(
        local=_Local(),
        apiservices=apiservices,
        externalnames=externalnames,
        fetcher=OpenAPIFetcher(fetch_with(UpstreamTLS())),
    )
    late: list[float] = []

    async def tick() -> None:
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(_TICK_SECONDS)
            late.append(time.perf_counter() - begin - _TICK_SECONDS)

    def size(group: str) -> int:
        answer = subject.respond("/openapi/v2", "application/json", "")
        return len(answer.body) if answer is not None and group.encode() in answer.body else 0

    figures: list[Figure] = []
    async with running(apiservices.run(), externalnames.run(), subject.run(), tick()):
        await until(subject.synced.is_set)
        late.clear()
        await asyncio.sleep(3)
        figures.append(Figure(name="event loop late by, while nothing happens", value=f"{1000 * max(late):.3g} ms"))
        for group, kinds in (("small.example", 4), ("large.example", 290)):
            port = servers.add(group, kinds=kinds, fields=30)
            obj: Object = apiservice(group, service="backends", port=port, ca=certificates.ca)
            await asyncio.sleep(0.1)
            late.clear()
            begin = time.perf_counter()
            client.put(APISERVICES, {**obj, "status": {"conditions": [{"type": "Available", "status": "True"}]}})
            while not size(group):
                await asyncio.sleep(0.05)
            name = f"event loop late by, while {size(group) / 1e6:.2g} MB of v2 and v3 are taken over"
            figures.append(at_most(name, 1000 * max(late), 50, "ms"))
            figures.append(Figure(name="  taken over in", value=f"{time.perf_counter() - begin:.2g} s"))
    return figures


async def _not_modified(socket: Path, pid: int) -> Figure:
    """CPU of one `/apis` with a matching ETag at the API server, behind the proxy."""
    reader, writer = await asyncio.open_unix_connection(socket)

    async def call(headers: dict[str, str]) -> bytes:
        writer.write(request("GET", "/apis", headers={"accept": _AGGREGATED, **headers}))
        head = await reader.readuntil(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(length[0][15:]) if length and b" 304 " not in head else 0)
        return head

    head = await call({})
    etag = next(line[5:].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"etag:")).decode()
    begin = _cpu_seconds(pid)
    for _ in range(_REQUESTS):
        if b" 304 " not in await call({"if-none-match": etag}):
            raise RuntimeError("not answered with 304")
    used = _cpu_seconds(pid) - begin
    writer.close()
    name = "/apis aggregated, 304, CPU of the whole API server (one connection, its socket)"
    return at_most(name, 1000 * used / _REQUESTS, 0.3, "ms")


async def _not_modified_app() -> Figure:
    """CPU of one `/apis` with a matching ETag in the application of the API server, from ASGI to ASGI."""
    collectors, registry = CollectorRegistry(), Registry([RESOURCE])
    app = build_app(
        AppConfig(
            registry=registry,
            verbs=Verbs(Context(store=MemoryStore())),
            authenticate=trusted_headers,
            authorizer=AlwaysAllow(),
            endpoints=Endpoints(health=HealthChecks(), collectors=collectors, version={}),
            metrics=ServerMetrics(collectors),
            documents=[LocalDiscovery(registry)],
        )
    )
    client = Client(app)
    etag = (await client("GET", "/apis", headers={"accept": _AGGREGATED})).header("etag")
    headers = {"accept": _AGGREGATED, "if-none-match": etag, "user-agent": "kubectl/v1.32.0"}
    costs = []
    for _ in range(_REQUESTS):
        begin = time.thread_time()
        reply = await client("GET", "/apis", headers=headers)
        costs.append(time.thread_time() - begin)
        if reply.code != 304:
            raise RuntimeError("not answered with 304")
    name = "  of which in its application, from ASGI to ASGI"
    return Figure(name=name, value=f"{1000 * statistics.fmean(costs):.2g} ms")


def _steady(pid: int, servers: Backends, seconds: float) -> list[Figure]:
    begin, others = _cpu_seconds(pid), _cpu_seconds(servers.pid)
    time.sleep(seconds)
    used = 100 * (_cpu_seconds(pid) - begin) / seconds
    theirs = 100 * (_cpu_seconds(servers.pid) - others) / seconds
    return [
        at_most(f"{_SERVICES} healthy APIServices, CPU of the aggregator over {seconds:g} s", used, 2, "% of a core"),
        Figure(name="  all servers together", value=f"{theirs:.2g} % of a core"),
    ]


def _programs(directory: Path, certificates: Certificates, servers: Backends, seconds: float) -> list[Figure]:
    stack = LocalStack(directory)
    stack.start()
    try:
        found = {f"b{number}.example": servers.add(f"b{number}.example") for number in range(_SERVICES)}
        register(stack.request, found, certificates.ca)
        wait_until(lambda: set(availability(stack.request, list(found)).values()) == {"True"}, seconds=60)
        idle = 10.0
        time.sleep(idle)
        pid = stack.pid("aggregator")
        steady = _steady(pid, servers, seconds)
        asked = [_timed(stack) for _ in range(50)]
        whole = Figure(name="/apis aggregated in full, through the proxy, new connection", value=_milliseconds(asked))
        return [
            *steady,
            asyncio.run(_not_modified(stack.api_socket, pid)),
            asyncio.run(_not_modified_app()),
            whole,
        ]
    finally:
        stack.stop()


def _timed(stack: LocalStack) -> float:
    begin = time.perf_counter()
    answer: Answer = stack.request("GET", "/apis", headers={"accept": _AGGREGATED})
    if answer.code != 200:
        raise RuntimeError(f"/apis answered with {answer.code}")
    return time.perf_counter() - begin


def _milliseconds(values: list[float]) -> str:
    return f"median {1000 * statistics.median(values):.1f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long the steady state is watched")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        certificates = make_certificates(directory, SERVER_NAME)
        with backends.running(certificates.server_file) as servers:
            figures = uvloop.run(_stalls(certificates, servers))
            figures += _programs(directory / "stack", certificates, servers, wanted.seconds)
    for figure in figures:
        verdict = "" if figure.ok is None else "ok" if figure.ok else "MISSED"
        print(f"{figure.name:<80} {figure.value:>18}  {figure.target:<16} {verdict}")
    return 0 if all(figure.ok is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
