"""The API server in a process of its own: store, controllers, certificates, and the socket that workers ask."""

import asyncio
import contextlib
import itertools
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from aggregator import backoffice, reloads
from aggregator.backoffice import BackOffice
from aggregator.base import Base
from aggregator.errors import StartError
from aggregator.processes.channel import Message
from aggregator.processes.part import Part
from aggregator.settings import Settings
from apiserver import memory, metrics
from apiserver.background import Background

_SCRAPE_SECONDS = 5.0


async def run(settings: Settings, channel: int, socket: Path) -> None:
    """Serve until the supervisor says stop. Raises one of START_ERRORS, and StartError when a part of it failed."""
    failures: list[str] = []

    def fail() -> None:
        failures.append("a part of the API server ended, see the log")
        part.request_stop()

    background = Background(fail)
    async with contextlib.AsyncExitStack() as stack:
        base = Base(settings=settings, stack=stack, background=background)
        part = Part(base.collectors)
        await part.open(channel)
        office = await _start(base, part, socket)
        part.send("ready")
        await part.stop_asked()
        office.local.verbs.watcher.close()
        part.say_goodbye()
    if failures:
        raise StartError(failures[0])


async def _start(base: Base, part: Part, socket: Path) -> BackOffice:
    state = _Told()
    base.health.add("ping", lambda: None)
    base.health.add("shutdown", lambda: "process is shutting down" if state.leaving else None, endpoints=("readyz",))
    base.health.add("workers", lambda: None if state.workers else "none is ready", endpoints=("readyz", "healthz"))
    part.on("leave", state.leave)
    part.on("workers", state.count)
    scrapes = _Scrapes(part)
    office = await backoffice.start(base, socket, scrapes.wrap)
    part.on("scraped", scrapes.answered)
    part.on("unreachable", lambda message: _report(office, message))
    part.on("end_watches", lambda _message: office.local.verbs.watcher.close())
    if office.local.controllers is not None:
        # What this hook means in one process: the proxy has learned its routes.
        office.hooks.add("apiservice-registration-controller", state.first_worker.wait)
    base.background.start("post-start hooks", office.hooks.run(), ends=True)
    files = reloads.reloader(base.collectors)
    backoffice.follow_files(base, office, files)
    base.background.start("reload of files", files.run())
    base.background.start("memory", memory.keep_small())
    return office


def _report(office: BackOffice, message: Message) -> None:
    for name in message["names"]:
        office.report_failure(name)


class _Told:
    """What the supervisor has said about the rest of the program."""

    def __init__(self) -> None:
        self.leaving = False
        self.workers = 0
        self.first_worker = asyncio.Event()

    def leave(self, _message: Message) -> None:
        self.leaving = True

    def count(self, message: Message) -> None:
        self.workers = message["ready"]
        if self.workers:
            self.first_worker.set()


class _Scrapes:
    """Answers `/metrics` with what all processes have counted, which the supervisor knows."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[str]] = {}

    def wrap(self, app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] == "/metrics" and scope["method"] == "GET":
                await (await self._response())(scope, receive, send)
            else:
                await app(scope, receive, send)

        return wrapped

    async def _response(self) -> PlainTextResponse:
        number = next(self._numbers)
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        self._part.send("scrape", id=number)
        try:
            async with asyncio.timeout(_SCRAPE_SECONDS):
                text = await asked
        except TimeoutError:
            return PlainTextResponse("the metrics cannot be had at the moment\n", 503)
        finally:
            del self._asked[number]
        return PlainTextResponse(text, headers={"content-type": metrics.CONTENT_TYPE})

    def answered(self, message: Message) -> None:
        asked = self._asked.get(message["id"])
        if asked is not None and not asked.done():
            asked.set_result(message["text"])
