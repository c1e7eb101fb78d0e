"""Aggregated API servers of a few lines each, all in one process of their own: cheap, and broken on demand.

`python -m tests.support.backends` reads a JSON object from each line of its standard input and answers it with a line.
"""

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import orjson
import uvloop

from apimachinery import discovery
from apimachinery.discovery import APIResource, version_document
from apimachinery.gvk import GroupVersion
from apimachinery.openapi import root, v2, v3
from apimachinery.openapi.model import ResourceModel
from apimachinery.types import Object

Kind = Literal["modern", "legacy"]
Mode = Literal["healthy", "hang", "silent", "refuse"]
"""`hang`: reads requests and never answers. `silent`: accepts, and not even TLS begins. `refuse`: does not listen."""

VERSION = "v1"
_VERBS = ("create", "delete", "get", "list", "patch", "update", "watch")
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_FIELD = "A field of a kind; the sentence is about as long as such sentences are in documents of real servers."


def models(group: str, kinds: int, fields: int) -> list[ResourceModel]:
    """Kinds of a group; `fields` makes their schemas longer."""
    properties = {f"field{number}": {"type": "string", "description": _FIELD} for number in range(fields)}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    prefix = group.partition(".")[0].capitalize()
    return [
        ResourceModel(
            group=group,
            version=VERSION,
            kind=f"{prefix}Thing{number}",
            list_kind=f"{prefix}Thing{number}List",
            plural=f"{prefix.lower()}thing{number}s",
            singular=f"{prefix.lower()}thing{number}",
            namespaced=True,
            verbs=_VERBS,
            schema=schema,
            description=f"A thing of {group}.",
        )
        for number in range(kinds)
    ]


def documents(
    group: str, *, kind: Kind = "modern", kinds: int = 2, fields: int = 3, shared: str = ""
) -> dict[str, bytes]:
    """Body by path. `shared` is the type of a definition that all servers have under one name."""
    group_version = GroupVersion(group, VERSION)
    described = models(group, kinds, fields)
    resources = [
        APIResource(
            name=model.plural,
            singular=model.singular,
            kind=model.kind,
            namespaced=True,
            verbs=model.verbs,
            group=group,
            version=VERSION,
        )
        for model in described
    ]
    swagger = v2.build(described, title=group, version=VERSION)
    if shared:
        _share(swagger, described, shared)
    found: dict[str, Any] = {
        group_version.path: discovery.resource_list(group_version, resources),
        "/openapi/v2": swagger,
        **{f"{group_version.path}/{model.plural}": _empty_list(model) for model in described},
    }
    if kind == "modern":
        document = orjson.dumps(v3.build(group_version, described, title=group, version=VERSION))
        key = group_version.path.removeprefix("/")
        digest = discovery.etag(document).strip('"')
        entry = {"metadata": {"name": group}, "versions": [version_document(VERSION, resources)]}
        found["/apis"] = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [entry]}
        found["/openapi/v3"] = root.root({key: digest})
        found[f"/openapi/v3/{key}"] = document
    return {path: body if isinstance(body, bytes) else orjson.dumps(body) for path, body in found.items()}


def _share(swagger: Object, described: Sequence[ResourceModel], type_: str) -> None:
    """Have every kind refer to a definition whose name other servers give to something else."""
    swagger["definitions"]["com.example.Shared"] = {"type": type_, "description": f"Shared as {type_}."}
    for schema in swagger["definitions"].values():
        kinds = schema.get("x-kubernetes-group-version-kind", [])
        if any(kind["kind"] == model.kind for kind in kinds for model in described):
            schema["properties"]["shared"] = {"$ref": "#/definitions/com.example.Shared"}


def _empty_list(model: ResourceModel) -> Object:
    api_version = str(model.group_version)
    return {"kind": model.list_kind, "apiVersion": api_version, "metadata": {"resourceVersion": "1"}, "items": []}


class _Backend:
    def __init__(self, bodies: Mapping[str, bytes], tls: ssl.SSLContext) -> None:
        self.bodies = bodies
        self.tags = {path: discovery.etag(body).encode() for path, body in bodies.items()}
        self.mode: Mode = "healthy"
        self.port = 0
        self._tls = tls
        self._listener: asyncio.Server | None = None
        self.connections: set[asyncio.Transport] = set()

    async def turn(self, mode: Mode) -> None:
        self.mode = mode
        for transport in list(self.connections):
            transport.abort()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if mode == "refuse":
            return
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self),
            "127.0.0.1",
            self.port,
            ssl=None if mode == "silent" else self._tls,
            reuse_address=True,
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    def answer(self, head: bytes) -> bytes | None:
        """The bytes of the answer; None for none."""
        if self.mode != "healthy":
            return None
        target = head.split(b" ", 2)[1].decode().partition("?")[0]
        body = self.bodies.get(target)
        if body is None:
            return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
        tag = self.tags[target]
        if tag in head:
            return b"HTTP/1.1 304 Not Modified\r\netag: %b\r\n\r\n" % tag
        content_type = _AGGREGATED if target == "/apis" else "application/json"
        return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\netag: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            content_type.encode(),
            tag,
            len(body),
            body,
        )


class _Connection(asyncio.Protocol):
    def __init__(self, backend: _Backend) -> None:
        self._backend = backend
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._backend.connections.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._backend.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._received = (self._received + data).split(b"\r\n\r\n")
        for head in heads:
            answer = self._backend.answer(head)
            if answer is None or self._transport is None:
                return
            self._transport.write(answer)
            if b"connection: close" in head.lower():
                self._transport.close()


async def _serve(certificate: str) -> None:
    """Obey the orders on standard input until it ends."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    backends: dict[str, _Backend] = {}
    orders = asyncio.StreamReader(limit=1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        order = json.loads(line)
        mode: Mode = order.pop("mode", "healthy")
        group = order["group"]
        if group not in backends:
            backends[group] = _Backend(documents(**order), tls)
        await backends[group].turn(mode)
        sys.stdout.write(f"{backends[group].port}\n")
        sys.stdout.flush()


class Backends:
    """The process, from outside."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def add(self, group: str, **options: Any) -> int:
        """Serve a group; the options are those of `documents`. The port."""
        return self._order({"group": group, **options})

    def turn(self, group: str, mode: Mode) -> None:
        self._order({"group": group, "mode": mode})

    @property
    def pid(self) -> int:
        return self._process.pid

    def _order(self, order: Mapping[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def running(certificate: Path) -> Iterator[Backends]:
    """The process, with a file of a certificate and its key for all servers; ended when the block is left."""
    command = [sys.executable, "-m", "tests.support.backends", str(certificate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Backends(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=10)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
