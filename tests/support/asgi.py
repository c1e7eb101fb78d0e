"""A small in-process HTTP client for ASGI applications; watches are read while they run."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass
class Reply:
    code: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls `app` as `user` (sent as front-proxy headers, which a trusting server believes)."""

    def __init__(self, app: ASGIApp, user: str = "admin", groups: tuple[str, ...] = ("system:masters",)) -> None:
        self.app = app
        self._identity = [("x-remote-user", user), *(("x-remote-group", group) for group in groups)] if user else []

    def _scope(self, method: str, target: str, headers: dict[str, str]) -> dict[str, Any]:
        path, _, query = target.partition("?")
        sent = [*self._identity, ("host", "test"), *headers.items()]
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }

    async def __call__(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        incoming: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]
        reply = Reply()
        chunks: list[bytes] = []
        gone = asyncio.Event()

        async def receive() -> Message:
            if incoming:
                return incoming.pop(0)
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply.code = message["status"]
                reply.headers = [(name.decode(), value.decode()) for name, value in message["headers"]]
            else:
                chunks.append(message.get("body", b""))

        await asyncio.wait_for(self.app(self._scope(method, target, headers or {}), receive, send), 10)
        reply.body = b"".join(chunks)
        return reply

    @asynccontextmanager
    async def watch(self, target: str, headers: dict[str, str] | None = None) -> AsyncIterator["Stream"]:
        """An open watch; the client leaves with the context."""
        stream = Stream()

        async def receive() -> Message:
            if not stream.asked:
                stream.asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await stream.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                stream.code = message["status"]
                stream.started.set()
            else:
                stream.feed(message.get("body", b""), ended=not message.get("more_body", False))

        async def run() -> None:
            await self.app(self._scope("GET", target, headers or {}), receive, send)

        task = asyncio.create_task(run(), name="watch")
        try:
            await asyncio.wait_for(stream.started.wait(), 5)
            yield stream
        finally:
            stream.left.set()
            await asyncio.wait_for(task, 5)


class Stream:
    def __init__(self) -> None:
        self.code = 0
        self.asked = False
        self.started = asyncio.Event()
        self.left = asyncio.Event()
        self.ended = False
        self._buffer = b""
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()

    def feed(self, data: bytes, *, ended: bool) -> None:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._lines.put_nowait(line)
        if ended:
            self._lines.put_nowait(None)

    async def event(self, timeout: float = 3) -> Any:
        """The next event, or None at the end of the stream."""
        line = await asyncio.wait_for(self._lines.get(), timeout)
        return None if line is None else json.loads(line)

    async def quiet(self, seconds: float = 0.1) -> bool:
        """Whether nothing arrives for a while."""
        await asyncio.sleep(seconds)
        return self._lines.empty()
