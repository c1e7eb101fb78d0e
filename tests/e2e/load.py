"""A steady load of reads, creates and watches over keep-alive connections, and an account of every answer."""

import asyncio
import base64
import json
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
import yaml

DUMMIES = "/apis/example.grafana.app/v0alpha1/namespaces/default/dummy"
_GROUP_VERSION = DUMMIES.partition("/namespaces")[0]
READS = (_GROUP_VERSION, f"{_GROUP_VERSION}/runtime")
_ANSWER_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An answer that a client should never have had. Times are monotonic seconds."""

    what: str
    sent: float
    answered: float
    detail: str


@dataclass(slots=True, kw_only=True)
class Account:
    """What became of the requests."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    created: set[str] = field(default_factory=set)
    """Tokens of creates that were acknowledged."""
    watch_events: int = 0
    watches_ended: int = 0
    slowest: float = 0.0


def client_context(kubeconfig: Path) -> ssl.SSLContext:
    """The credentials of a kubeconfig with embedded certificates."""
    document = yaml.safe_load(kubeconfig.read_text())
    user, cluster = document["users"][0]["user"], document["clusters"][0]["cluster"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode("ascii"))
    pair = kubeconfig.parent / "load-client.pem"
    pair.touch(mode=0o600)
    pair.write_bytes(
        base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
    )
    context.load_cert_chain(pair)
    pair.unlink()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Load:
    """`rate` requests per second from `workers` connections, every tenth a create, beside `watches` watches."""

    def __init__(self, port: int, context: ssl.SSLContext, *, rate: float, workers: int, watches: int) -> None:
        self.account = Account()
        self._port = port
        self._context = context
        self._pause = workers / rate
        self._workers = workers
        self._watches = watches
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`; then every request under way gets its answer."""
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(self._watch(), name=f"watch {n}") for n in range(self._watches)]
            working = [group.create_task(self._work(n), name=f"load {n}") for n in range(self._workers)]
            await asyncio.gather(*working)
            for task in watching:
                task.cancel()

    def stop(self) -> None:
        self._stopped.set()

    async def _work(self, worker: int) -> None:
        connection = _Connection(self._port, self._context)
        number = 0
        due = time.monotonic() + self._pause * worker / self._workers
        while not self._stopped.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + self._pause, time.monotonic() - self._pause)
            number += 1
            if number % 10 == 0:
                await self._create(connection, f"{worker}-{number}")
            else:
                await self._ask(connection, "read", "GET", READS[number % len(READS)], b"", 200)
        connection.close()

    async def _create(self, connection: "_Connection", token: str) -> None:
        metadata = {"generateName": "load-", "labels": {"token": token}}
        body = json.dumps({"apiVersion": "example.grafana.app/v0alpha1", "kind": "DummyResource", "metadata": metadata})
        if await self._ask(connection, "create", "POST", DUMMIES, body.encode(), 201):
            self.account.created.add(token)

    async def _ask(
        self, connection: "_Connection", what: str, method: str, path: str, body: bytes, wanted: int
    ) -> bool:
        sent = time.monotonic()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                status, text = await connection.ask(method, path, body)
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            connection.close()
            status, text = 0, repr(error)
        now = time.monotonic()
        self.account.slowest = max(self.account.slowest, now - sent)
        self.account.answers[f"{what} {status}"] += 1
        if status != wanted:
            self.account.failures.append(Failure(what=what, sent=sent, answered=now, detail=f"{status} {text[:200]}"))
        return status == wanted

    async def _watch(self) -> None:
        while True:
            connection = _Connection(self._port, self._context)
            sent = time.monotonic()
            try:
                status = await connection.open("GET", f"{DUMMIES}?watch=1")
                self.account.answers[f"watch {status}"] += 1
                if status != 200:
                    raise OSError(f"status {status}")
                async for data in connection.body():
                    self.account.watch_events += data.count(b'"type"')
            except h11.RemoteProtocolError:
                pass  # broken off in the middle, as it must be when its server is killed
            except OSError as error:
                detail = Failure(what="watch", sent=sent, answered=time.monotonic(), detail=repr(error))
                self.account.failures.append(detail)
            finally:
                connection.close()
            self.account.watches_ended += 1
            await asyncio.sleep(0.05)


class _Connection:
    """One request at a time; connects anew when the server has closed the connection after a response."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._protocol = h11.Connection(h11.CLIENT)

    async def ask(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        status = await self.open(method, path, body)
        text = b"".join([data async for data in self.body()])
        if self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()
        else:
            self.close()
        return status, text.decode("utf-8", "replace")

    async def open(self, method: str, path: str, body: bytes = b"") -> int:
        """Send a request and read the response's head."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                "localhost", self._port, ssl=self._context, server_hostname="localhost"
            )
            self._protocol = h11.Connection(h11.CLIENT)
        headers = [("Host", "localhost"), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        sends = (h11.Request(method=method, target=path, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        self._writer.write(b"".join(self._protocol.send(event) or b"" for event in sends))
        event = await self._next()
        while not isinstance(event, h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise ConnectionResetError(f"no response: {event!r}")
            event = await self._next()
        return int(event.status_code)

    async def body(self) -> Any:
        while True:
            event = await self._next()
            if isinstance(event, h11.EndOfMessage):
                return
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def _next(self) -> Any:
        assert self._reader is not None
        while True:
            event = self._protocol.next_event()
            if event is not h11.NEED_DATA:
                return event
            try:
                data = await self._reader.read(65536)
            except ConnectionResetError:
                data = b""
            self._protocol.receive_data(data)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None
