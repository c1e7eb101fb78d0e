"""Lists of many objects: CPU time of the server process per answer, and memory per stored object."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import orjson
import uvloop

from bench.machinery_kit import Connection, Figure, Process, at_most, request, server
from bench.machinery_server import PATH
from bench.machinery_watch import TABLE

_OBJECTS = 10_000
_JSON_BYTES = 1000
_WRITERS = 8
_ROUNDS = 5
_ENVELOPE = 470
"""What the server adds to an object: metadata, managed fields."""


async def _fill(socket: Path) -> None:
    numbers = iter(range(_OBJECTS))

    async def write(connection: Connection) -> None:
        for number in numbers:
            metadata = {"name": f"sample-{number}", "labels": {"shard": str(number % 10)}}
            body = json.dumps({"metadata": metadata, "spec": "x" * (_JSON_BYTES - _ENVELOPE)})
            await connection.call(request("POST", PATH, body.encode()))

    connections = [await Connection.open(socket) for _ in range(_WRITERS)]
    async with asyncio.TaskGroup() as tasks:
        for connection in connections:
            tasks.create_task(write(connection))
    for connection in connections:
        connection.close()


async def _cpu(process: Process, target: str, **headers: str) -> tuple[float, bytes]:
    """Milliseconds of CPU time per answer, and the last answer."""
    connection = await Connection.open(process.socket)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    data = request("GET", target, headers=fields)
    body = await connection.call(data)
    before = process.cpu()
    for _ in range(_ROUNDS):
        body = await connection.call(data)
    used = process.cpu() - before
    connection.close()
    return used / _ROUNDS * 1000, body


async def _figures(process: Process) -> Sequence[Figure]:
    before = process.memory()
    started = process.cpu()
    await _fill(process.socket)
    create_cpu = (process.cpu() - started) / _OBJECTS * 1e6
    memory = process.memory() - before
    plain, body = await _cpu(process, PATH)
    items = orjson.loads(body)["items"]
    if len(items) != _OBJECTS:
        raise RuntimeError(f"{len(items)} objects were listed")
    size = len(body) / _OBJECTS
    zipped, _ = await _cpu(process, PATH, accept_encoding="gzip")
    table, _ = await _cpu(process, PATH, accept=TABLE)
    selected, _ = await _cpu(process, f"{PATH}?labelSelector=shard%3D3")
    page, _ = await _cpu(process, f"{PATH}?limit=500")
    one, _ = await _cpu(process, f"{PATH}/sample-77")
    after = process.memory() - before
    name = f"list of {_OBJECTS} objects of {size:.0f} B"
    return [
        at_most(f"{name}, JSON", plain, 150, "ms of CPU"),
        at_most(f"{name}, Table", table, 300, "ms of CPU"),
        at_most("memory per stored object / its JSON", memory / _OBJECTS / size, 3, "times"),
        Figure(
            name="the same after the lists, with buffers that the allocator keeps",
            value=f"{after / _OBJECTS / size:.3g} times",
        ),
        Figure(
            name="other answers, notes",
            value=f"list with gzip {zipped:.0f} ms, by label {selected:.0f} ms, page of 500 {page:.1f} ms, "
            f"get {one * 1000:.0f} us, create {create_cpu:.0f} us of CPU",
        ),
    ]


def run(directory: Path) -> Sequence[Figure]:
    """The figures of one server with all its objects in memory."""
    with server(directory) as process:
        return uvloop.run(_figures(process))
