"""What the tests of several addresses behind one name share."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

import pytest

from aggregator.proxy import resolver
from aggregator.proxy.limits import Limits
from aggregator.proxy.server import Proxy
from apimachinery.types import Object
from tests.unit.aggregator.proxy_kit import (
    PKI,
    Backend,
    Client,
    Handler,
    answer,
    apiservice,
    backend,
    client,
    proxy,
    read_head,
)

FAST = Limits(sweep_seconds=0.05, hedge_seconds=0.1, resolve_seconds=0.1, connect_seconds=0.5, handshake_seconds=0.5)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def several(*ports: int, host: str = "127.0.0.1") -> Object:
    """An ExternalName whose first address has the port of the APIService."""
    hosts = [f"127.0.0.1:{port}" for port in ports]
    return {"metadata": {"name": "svc", "namespace": "default"}, "spec": {"host": host, "hosts": hosts}}


@contextlib.asynccontextmanager
async def fronted(
    pki: PKI, ports: Sequence[int], *, limits: Limits = FAST, annotations: dict[str, str] | None = None
) -> AsyncIterator[tuple[Proxy, Client]]:
    service = apiservice(ports[0], pki.ca.pem)
    service["metadata"]["annotations"] = annotations or {}
    async with (
        proxy(pki, [service], limits=limits, externalnames=[several(*ports[1:])]) as front,
        client(pki, front) as caller,
    ):
        yield front, caller


def serves(pki: PKI, handler: Handler) -> contextlib.AbstractAsyncContextManager[Backend]:
    return backend(handler, pki.server_context("backend"))


def slow(seconds: float, body: bytes = b"ok") -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            await asyncio.sleep(seconds)
            writer.write(answer(body))

    return handle


def samples(front: Proxy, metric: str) -> dict[tuple[str, ...], float]:
    """Values of a metric by its labels, the name of the APIService left out."""
    return {
        tuple(sample.labels.values())[1:]: sample.value
        for family in front.metrics.collect()
        for sample in family.samples
        if sample.name == metric and sample.labels.get("apiservice") == "v1.test"
    }


class Names:
    """Name lookups that the test decides about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses: dict[str, list[tuple[str, int]]] = {}
        self.lookups = 0
        self.failure: OSError | None = None
        monkeypatch.setattr(resolver, "_lookup", self._lookup)

    async def _lookup(self, host: str, port: int) -> list[tuple[str, int]]:
        self.lookups += 1
        if self.failure is not None:
            raise self.failure
        found = self.addresses.get(host)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found


@contextlib.asynccontextmanager
async def named(
    pki: PKI, names: Names, *addresses: tuple[str, int], limits: Limits = FAST
) -> AsyncIterator[tuple[Proxy, Client]]:
    names.addresses["example"] = list(addresses)
    external = {"metadata": {"name": "svc", "namespace": "default"}, "spec": {"host": "example"}}
    async with (
        proxy(pki, [apiservice(1, pki.ca.pem)], limits=limits, externalnames=[external]) as front,
        client(pki, front) as caller,
    ):
        yield front, caller


# Retries


def dies_without_a_word(after: int = 0) -> Handler:
    """Serves so many requests per connection and then closes it under the next one."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(after):
            await read_head(reader)
            writer.write(answer(b"bad"))
        await read_head(reader)

    return handle


# Limits


def annotated(**settings: str) -> dict[str, str]:
    return {f"aggregator.grafana.app/{name.replace('_', '-')}": value for name, value in settings.items()}
