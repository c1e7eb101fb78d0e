"""A worker: the proxy in a process of its own, which learns its routes from the API server's socket."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.gc_collector import GCCollector

from aggregator import bootstrap, front, reloads
from aggregator.access import Access
from aggregator.base import Base
from aggregator.errors import StartError
from aggregator.processes.channel import Message
from aggregator.processes.part import Part
from aggregator.proxy.server import Proxy
from aggregator.settings import Settings
from apiserver import logs
from apiserver.background import Background

_FEEDBACK_SECONDS = 0.05

log = logs.get("aggregator.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What the supervisor gives a worker. `listening` has the descriptors of all slots."""

    channel: int
    socket: Path
    slot: int
    listening: list[list[int]]


async def run(settings: Settings, wiring: Wiring) -> None:
    """Serve until the supervisor says stop. Raises one of START_ERRORS, and StartError when a part of it failed."""
    failures: list[str] = []
    collectors = CollectorRegistry()
    part = Part(collectors)
    await part.open(wiring.channel)

    def fail() -> None:
        failures.append("a part of the worker ended, see the log")
        part.request_stop()

    background = Background(fail)
    ProcessCollector(registry=collectors)
    GCCollector(registry=collectors)
    async with contextlib.AsyncExitStack() as stack:
        base = Base(settings=settings, stack=stack, background=background, collectors=collectors)
        proxy = await _start(base, part, wiring)
        await part.stop_asked()
        proxy.stop_accepting()
        if part.linger:
            proxy.announce_end()
            await _first(proxy.empty(part.linger), part.hurry())
        await proxy.stop(settings.server.shutdown_grace_seconds)
        part.say_goodbye()
    if failures:
        raise StartError(failures[0])


async def _start(base: Base, part: Part, wiring: Wiring) -> Proxy:
    settings, stack, background = base.settings, base.stack, base.background
    access = Access(settings)
    stack.push_async_callback(access.stop)
    stack.push_async_callback(background.stop)
    files = reloads.reloader(base.collectors)
    proxy = front.build(
        base,
        bootstrap.in_effect(settings),
        files,
        access=access,
        tls=front.upstream_tls(settings),
        socket=wiring.socket,
    )
    access.follow(files)
    feedback = Feedback(part)
    proxy.plane.on_unreachable = proxy.plane.pools.on_trouble = feedback.note
    listeners = Listeners(proxy, wiring.listening)
    part.on("leave", lambda _message: proxy.announce_end())
    part.on("listen", listeners.open_more)
    part.on("unlisten", listeners.close_again)
    background.start("reload of files", files.run())
    if proxy.learner is not None:
        # Who listened before would answer for lack of routes what another worker could answer well.
        proxy.learn()
        await _first(proxy.learner.synced.wait(), part.stop_asked())
    await listeners.open_own(wiring.slot)
    part.send("ready")
    log.info("worker is ready", routes=len(proxy.plane.table.routes()))
    return proxy


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for one of several; the others are given up."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Feedback:
    """Tells the API server which APIServices could not be reached: each at most once per interval."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._names: set[str] = set()

    def note(self, apiservice: str) -> None:
        """Called for each failed request: it only remembers the name."""
        if not self._names:
            asyncio.get_running_loop().call_later(_FEEDBACK_SECONDS, self._send)
        self._names.add(apiservice)

    def _send(self) -> None:
        names = sorted(self._names)
        self._names.clear()
        self._part.send("unreachable", names=names)


class Listeners:
    """The listening sockets of this worker, and of slots that have none at the moment."""

    def __init__(self, proxy: Proxy, descriptors: list[list[int]]) -> None:
        self._proxy = proxy
        self._descriptors = descriptors
        self._more: dict[int, list[asyncio.Server]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open_own(self, slot: int) -> None:
        first, *rest = [_copy(descriptor) for descriptor in self._descriptors[slot]]
        await self._proxy.start(sock=first)
        for bound in rest:
            await self._proxy.listen(bound)

    def open_more(self, message: Message) -> None:
        """Stand in for the worker of a slot."""
        task = asyncio.get_running_loop().create_task(self._open(message["slot"]), name="stand in")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, slot: int) -> None:
        opened = self._more.setdefault(slot, [])
        for descriptor in self._descriptors[slot]:
            listener = await self._proxy.listen(_copy(descriptor))
            if self._more.get(slot) is not opened:
                listener.close()
                return
            opened.append(listener)

    def close_again(self, message: Message) -> None:
        for listener in self._more.pop(message["slot"], ()):
            listener.close()


def _copy(descriptor: int) -> socket.socket:
    """A socket of its own for a listener, which closes it: the descriptor is needed again."""
    with socket.socket(fileno=descriptor) as inherited:
        copy = inherited.dup()
        inherited.detach()
    return copy
