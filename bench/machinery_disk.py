"""Durable creates: the file store beside what the disk allows, in the same run and on fresh directories.

The limit is the same work without a store: for each batch of files create, write, fsync, rename, then fsync of the
directory, with as many files in a batch as there are clients and the same number of threads for the fsyncs. Rounds
alternate, the best of each is compared: what disturbs a disk makes it slower, never faster.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import uvloop

from apimachinery.gvk import GroupResource
from apimachinery.types import Object
from apiserver.storage.base import Key
from apiserver.storage.committer import PARALLEL_SYNCS
from apiserver.storage.file import FileStore
from bench.machinery_kit import Connection, Figure, Process, request, server
from bench.machinery_server import PATH

_CLIENTS = 32
_PER_SECOND = 1000.0
_SHARE = 0.8
_RESOURCE = GroupResource("bench.test", "samples")


def _object(name: str) -> Object:
    return {
        "apiVersion": "bench.test/v1",
        "kind": "Sample",
        "metadata": {"name": name, "namespace": "default", "uid": "0" * 36},
        "spec": "x" * 850,
    }


def _limit(directory: Path, seconds: float) -> float:
    """Files a second, without a store."""
    directory.mkdir()
    data = orjson.dumps(_object("some-name"), option=orjson.OPT_INDENT_2)
    written = 0

    def sync(descriptor: int) -> None:
        os.fsync(descriptor)
        os.close(descriptor)

    with ThreadPoolExecutor(PARALLEL_SYNCS) as pool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            names = [str(directory / f"{written + number}") for number in range(_CLIENTS)]
            descriptors = []
            for name in names:
                descriptors.append(os.open(f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
                os.write(descriptors[-1], data)
            list(pool.map(sync, descriptors))
            for name in names:
                os.rename(f"{name}.tmp", name)
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            sync(descriptor)
            written += _CLIENTS
    return written / seconds


async def _store(directory: Path, seconds: float) -> float:
    """Creates a second of 32 clients that each wait for their answer."""
    written = 0
    async with FileStore.open(directory, on_damaged=lambda path, reason: None) as store:
        end = time.monotonic() + seconds

        async def client(number: int) -> None:
            nonlocal written
            count = 0
            while time.monotonic() < end:
                name = f"sample-{number}-{count}"
                await store.create(Key(_RESOURCE, "default", name), _object(name))
                count += 1
            written += count

        async with asyncio.TaskGroup() as tasks:
            for number in range(_CLIENTS):
                tasks.create_task(client(number))
    return written / seconds


async def _http(process: Process, seconds: float) -> tuple[float, float]:
    """Creates a second through the HTTP server, with all its checks; microseconds of its CPU time for each."""
    socket, used = process.socket, process.cpu()
    written = 0
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        nonlocal written
        connection = await Connection.open(socket)
        count = 0
        while time.monotonic() < end:
            body = orjson.dumps({"metadata": {"name": f"sample-{number}-{count}"}, "spec": "x" * 550})
            await connection.call(request("POST", PATH, body))
            count += 1
        connection.close()
        written += count

    async with asyncio.TaskGroup() as tasks:
        for number in range(_CLIENTS):
            tasks.create_task(client(number))
    return written / seconds, (process.cpu() - used) / written * 1e6


def run(directory: Path, *, seconds: float) -> Sequence[Figure]:
    """The figures; `seconds` is for all of it."""
    share, rounds = seconds / 9, 3
    limits, stores, https = [], [], []
    costs = []
    for number in range(rounds):
        limits.append(_limit(directory / f"limit-{number}", share))
        stores.append(uvloop.run(_store(directory / f"store-{number}", share)))
        with server(directory, directory / f"http-{number}") as process:
            rate, cost = uvloop.run(_http(process, share))
            https.append(rate)
            costs.append(cost)
    limit, store, http = max(limits), max(stores), max(https)
    target = min(_PER_SECOND, _SHARE * limit)
    return [
        Figure(
            name=f"durable creates of 1 kB, {_CLIENTS} clients of the store",
            value=f"{store:.0f} /s",
            target=f">= {target:.0f} /s",
            ok=store >= target,
        ),
        Figure(name="the same files without a store: what the disk allows", value=f"{limit:.0f} /s"),
        Figure(
            name=f"durable creates of 1 kB, {_CLIENTS} clients over HTTP",
            value=f"{http:.0f} /s",
            target=f">= {target:.0f} /s",
            ok=http >= target,
        ),
        Figure(name="  CPU of the server for each, threads that sync included", value=f"{min(costs):.0f} us"),
    ]
