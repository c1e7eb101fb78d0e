"""What the tests of controllers share: objects, a client on memory, and small aggregated servers on real sockets."""

import asyncio
import copy
import datetime
import itertools
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aggregator.api import discovery_sources
from aggregator.api.ca_bundle import encode
from aggregator.api.discovery_sources import Source
from aggregator.api.externalname import external_name
from aggregator.api.ports import Fetch
from aggregator.upstream.backend import Backend, backend_for
from aggregator.upstream.fetch import fetch
from aggregator.upstream.tls import UpstreamTLS
from apimachinery import status
from apimachinery.gvk import GroupResource
from apimachinery.types import Object
from apiserver.client import ResourceRef, WatchEvent
from apiserver.http1 import Response
from apiserver.informer import Informer


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    """Wait until a condition holds; fails the test when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Run coroutines during a block; they are cancelled and awaited at its end, and must not have failed."""
    tasks = [asyncio.create_task(one, name=f"kit {number}") for number, one in enumerate(work)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        done, pending = await asyncio.wait(tasks, timeout=5)
    assert not pending, "work goes on after it was cancelled"
    assert [task.exception() for task in done if not task.cancelled() and task.exception() is not None] == []


def apiservice(
    group: str, version: str = "v1", *, service: str = "", port: int = 443, ca: bytes = b"", priority: int = 1000
) -> Object:
    """An APIService; `service` names an ExternalName in the namespace `default`, none makes it a local one."""
    spec: Object = {"group": group, "version": version, "groupPriorityMinimum": priority, "versionPriority": 15}
    if service:
        spec["service"] = {"namespace": "default", "name": service, "port": port}
    if ca:
        spec["caBundle"] = encode(ca)
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}"},
        "spec": spec,
        "status": {},
    }


def externalname(name: str, host: str = "127.0.0.1") -> Object:
    return external_name("default", name, host)


class MemoryClient:
    """A client of nothing but dictionaries, with revisions, conflicts and watches as an API server has them."""

    def __init__(self) -> None:
        self.objects: dict[tuple[ResourceRef, str, str], Object] = {}
        self.writes: list[tuple[str, str]] = []
        self.refuse: list[status.APIError] = []
        """Errors that the next writes fail with, one each."""
        self._revisions = itertools.count(1)
        self._revision = 0
        self._watches: list[tuple[ResourceRef, asyncio.Queue[WatchEvent]]] = []

    def put(self, ref: ResourceRef, obj: Object) -> Object:
        """Create or replace an object as somebody else would, without a trace in `writes`."""
        metadata = obj["metadata"]
        key = (ref, metadata.get("namespace", ""), metadata["name"])
        return self._store(key, obj)

    def drop(self, ref: ResourceRef, name: str, namespace: str = "") -> None:
        old = self.objects.pop((ref, namespace, name))
        self._send(ref, WatchEvent("DELETED", self._stamped(old)))

    def find(self, ref: ResourceRef, name: str, namespace: str = "") -> Object | None:
        return self.objects.get((ref, namespace, name))

    async def get(self, ref: ResourceRef, namespace: str, name: str) -> Object:
        found = self.objects.get((ref, namespace, name))
        if found is None:
            raise status.not_found(GroupResource(ref.group, ref.plural), name)
        return found

    async def list(self, ref: ResourceRef, namespace: str = "") -> Object:
        items = [obj for key, obj in self.objects.items() if key[0] == ref]
        return {"metadata": {"resourceVersion": str(self._revision)}, "items": items}

    @asynccontextmanager
    async def watch(
        self, ref: ResourceRef, namespace: str = "", *, resource_version: str
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        entry = (ref, queue)
        self._watches.append(entry)

        async def events() -> AsyncIterator[WatchEvent]:
            while True:
                yield await queue.get()

        try:
            yield events()
        finally:
            self._watches.remove(entry)

    async def create(self, ref: ResourceRef, namespace: str, obj: Object) -> Object:
        self._note("create", obj)
        key = (ref, namespace, obj["metadata"]["name"])
        if key in self.objects:
            raise status.already_exists(GroupResource(ref.group, ref.plural), key[2])
        return self._store(key, obj)

    async def update(self, ref: ResourceRef, namespace: str, obj: Object) -> Object:
        return self._update("update", ref, namespace, obj, "spec")

    async def update_status(self, ref: ResourceRef, namespace: str, obj: Object) -> Object:
        return self._update("update_status", ref, namespace, obj, "status")

    async def delete(
        self,
        ref: ResourceRef,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        current = await self.get(ref, namespace, name)
        self._note("delete", current)
        if uid not in (None, current["metadata"]["uid"]):
            raise status.conflict(GroupResource(ref.group, ref.plural), name)
        self.drop(ref, name, namespace)

    async def apply(self, ref: ResourceRef, namespace: str, obj: Object, *, field_manager: str) -> Object:
        self._note(f"apply as {field_manager}", obj)
        return self.put(ref, obj)

    def _update(self, verb: str, ref: ResourceRef, namespace: str, obj: Object, part: str) -> Object:
        self._note(verb, obj)
        key = (ref, namespace, obj["metadata"]["name"])
        current = self.objects.get(key)
        if current is None:
            raise status.not_found(GroupResource(ref.group, ref.plural), key[2])
        if obj["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"]:
            raise status.conflict(GroupResource(ref.group, ref.plural), key[2])
        return self._store(key, {**current, part: obj[part]})

    def _note(self, verb: str, obj: Object) -> None:
        self.writes.append((verb, obj["metadata"]["name"]))
        if self.refuse:
            raise self.refuse.pop(0)

    def _store(self, key: tuple[ResourceRef, str, str], obj: Object) -> Object:
        known = self.objects.get(key)
        stamped = self._stamped(obj)
        stamped["metadata"]["uid"] = known["metadata"]["uid"] if known else f"uid-{self._revision}"
        self.objects[key] = stamped
        self._send(key[0], WatchEvent("MODIFIED" if known else "ADDED", stamped))
        return stamped

    def _stamped(self, obj: Object) -> Object:
        self._revision = next(self._revisions)
        stamped = copy.deepcopy(obj)
        stamped["metadata"]["resourceVersion"] = str(self._revision)
        return stamped

    def _send(self, ref: ResourceRef, event: WatchEvent) -> None:
        for watched, queue in self._watches:
            if watched == ref:
                queue.put_nowait(event)


def informer(client: MemoryClient, ref: ResourceRef) -> Informer:
    return Informer(client, ref)


@dataclass(frozen=True)
class Certificates:
    """A certificate authority and the certificate of a server that it issued."""

    ca: bytes
    server_file: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server_file)
        return context


def make_certificates(directory: Path, *names: str) -> Certificates:
    """Certificates for a server of these DNS names."""
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = datetime.datetime.now(datetime.UTC)

    def builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )

    authority = (
        builder(authority_name, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]), server_key)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = directory / "server.pem"
    file.write_bytes(server.public_bytes(pem) + private)
    return Certificates(authority.public_bytes(pem), file)


@dataclass
class Request:
    path: str
    headers: dict[str, str]


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


HANG = Reply(status=0)
"""The request is read and never answered."""
ENDLESS = Reply(status=-1)
"""The answer has no end."""
GARBAGE = Reply(status=-2)
"""The answer is not HTTP."""

Handler = Callable[[Request], Reply]


def json_reply(document: Any, content_type: str = "application/json", **headers: str) -> Reply:
    return Reply(200, orjson.dumps(document), {"content-type": content_type, **headers})


def routes(table: Mapping[str, Reply]) -> Handler:
    """Answer by path, 404 otherwise."""
    return lambda request: table.get(request.path, Reply(404))


@dataclass
class Server:
    """An aggregated server; `handler` may be replaced while it runs."""

    handler: Handler
    port: int = 0
    requests: list[Request] = field(default_factory=list)

    def asked(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            pairs = (line.split(": ", 1) for line in lines[1:] if line)
            request = Request(lines[0].split(" ")[1], {name.lower(): value for name, value in pairs})
            self.requests.append(request)
            await self._answer(self.handler(request), writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        if reply is HANG:
            await asyncio.sleep(3600)
        elif reply is GARBAGE:
            writer.write(b"\x00\x01\x02 this is not HTTP\r\n\r\n")
        elif reply is ENDLESS:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"[" * 65536)
                await writer.drain()
                # A transport whose peer is gone may swallow writes without ever pausing.
                await asyncio.sleep(0.001)
        else:
            headers = {"content-length": str(len(reply.body)), **reply.headers}
            if reply.status == 304:
                del headers["content-length"]
            lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in headers.items())]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def serving(handler: Handler, certificates: Certificates, *, port: int = 0) -> AsyncIterator[Server]:
    """Serve TLS on a free port of 127.0.0.1, or on a given one."""
    server = Server(handler)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(server.serve(reader, writer), name="kit connection")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(accept, "127.0.0.1", port, ssl=certificates.server_context())
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


def source_of(*groups: str) -> Source:
    """One service that serves version v1 of these groups."""
    (source,) = discovery_sources.sources(apiservice(group, service="svc") for group in groups).values()
    return source


def backend(server: Server, certificates: Certificates) -> Backend:
    """A running server as the backend of one.example."""
    obj = apiservice("one.example", service="svc", port=server.port, ca=certificates.ca)
    found = backend_for(obj, lambda namespace, name: externalname(name))
    assert isinstance(found, Backend)
    return found


def fetch_with(tls: UpstreamTLS) -> Fetch:
    """Fetch with these TLS contexts."""

    async def bound(
        backend: Backend, path: str, *, headers: Sequence[tuple[str, str]], timeout: float, max_body: int
    ) -> Response:
        return await fetch(backend, tls, path, headers, timeout=timeout, max_body=max_body)

    return bound
