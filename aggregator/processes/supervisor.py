"""The supervisor: starts the API server and the workers, keeps them running, replaces and ends them in order."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from aggregator import backoffice, settings
from aggregator.base import START_ERRORS
from aggregator.errors import StartError
from aggregator.processes import listening, plain, pulse, sums
from aggregator.processes.channel import Message
from aggregator.processes.child import Child, Kind, config_arguments
from aggregator.processes.slot import Slot
from aggregator.processes.sums import Snapshot
from aggregator.settings import Settings
from apiserver import logs, serving
from apiserver.background import Background
from apiserver.endpoints import Endpoints
from apiserver.health import HealthChecks
from apiserver.lifecycle import Shutdown
from apiserver.version import version_document

API = "api"

log = logs.get("aggregator.supervisor")


async def serve(configured: Settings, config: Path | None, reload: Callable[[], Settings]) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP replaces the workers. `reload` reads the settings again, or raises
    SettingsError. StartError, with one line for the user, when that cannot even begin."""
    failed = False

    def fail() -> None:
        nonlocal failed
        failed = True
        shutdown.request()

    supervisor: Supervisor | None = None
    shutdown = Shutdown(at_once=lambda: supervisor.kill_all() if supervisor is not None else None)
    shutdown.install()
    asked = _on_hangup()
    try:
        async with contextlib.AsyncExitStack() as stack:
            socket = await stack.enter_async_context(backoffice.private_socket(configured))
            supervisor = Supervisor(configured, config, socket, shutdown)
            background = Background(fail)
            if configured.server.metrics_port:
                stack.push_async_callback((await supervisor.serve_plain()).stop)
            stack.push_async_callback(supervisor.stop)
            stack.push_async_callback(background.stop)
            if await _unless(shutdown, supervisor.start(background)):
                background.start("reload on SIGHUP", _reload_when(asked, supervisor, reload))
                log.info(
                    "serving",
                    url=configured.server.external_url,
                    address=configured.server.bind_address,
                    port=supervisor.port,
                    workers=len(supervisor.workers),
                )
            await shutdown.wait()
            await supervisor.announce_end()
    except START_ERRORS as error:
        raise StartError(str(error)) from error
    if failed:
        raise StartError("a part of the server ended, see the log")
    log.info("stopped")


async def _unless(shutdown: Shutdown, work: Coroutine[Any, Any, None]) -> bool:
    """Do some work, unless the end is asked for first; whether it was done."""
    doing, ending = asyncio.ensure_future(work), asyncio.ensure_future(shutdown.wait())
    try:
        await asyncio.wait((doing, ending), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
            return True
        return False
    finally:
        for task in (doing, ending):
            task.cancel()
        await asyncio.gather(doing, ending, return_exceptions=True)


def _on_hangup() -> asyncio.Event:
    """Set by SIGHUP, from the very start: a signal that nobody listens to ends a process."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    return asked


async def _reload_when(asked: asyncio.Event, supervisor: "Supervisor", reload: Callable[[], Settings]) -> None:
    while True:
        await asked.wait()
        asked.clear()
        try:
            reload()
        except settings.SettingsError as error:
            log.error("wrong settings, nothing is reloaded", error=str(error))
            continue
        await supervisor.replace_workers()


class Supervisor:
    """The processes of one program."""

    def __init__(self, configured: Settings, config: Path | None, socket: Path, shutdown: Shutdown) -> None:
        self._settings = configured
        self._config = config
        self._socket = socket
        server = configured.server
        self._listening = listening.open_sockets(server.bind_address, server.secure_port, server.workers)
        self.port: int = self._listening[0][0].getsockname()[1]
        self._collectors = CollectorRegistry()
        ProcessCollector(registry=self._collectors)
        self._restarts = Counter(
            "aggregator_process_restarts",
            "Times that a process of the aggregator was started again after it had ended by itself.",
            ("process",),
            registry=self._collectors,
        )
        ready = Gauge("aggregator_workers_ready", "Workers that serve clients.", registry=self._collectors)
        ready.set_function(lambda: sum(slot.serving for slot in self.workers))
        self._remains: Snapshot = []
        health = HealthChecks()
        health.add("ping", lambda: None)
        health.add("shutdown", shutdown.check, endpoints=("readyz",))
        health.add("api-server", lambda: self._fault(self.api), endpoints=("readyz", "healthz"))
        health.add("workers", lambda: self._fault(*self.workers), endpoints=("readyz", "healthz"))
        self._endpoints = Endpoints(health=health, collectors=self._collectors, version=version_document())
        self.api = self._slot(API, "api")
        self.workers = [self._slot(f"worker-{number}", "proxy", number) for number in range(server.workers)]
        self._stand_ins: dict[int, Child] = {}
        """By slot without a worker: who accepts the connections of its sockets meanwhile."""
        self._scrapes: set[asyncio.Task[None]] = set()

    # Start

    def _slot(self, name: str, kind: Kind, number: int = 0) -> Slot:
        arguments = ["--socket", str(self._socket), *config_arguments(self._config)]
        descriptors: list[int] = []
        if kind == "proxy":
            by_slot = [[bound.fileno() for bound in sockets] for sockets in self._listening]
            descriptors = [descriptor for one in by_slot for descriptor in one]
            arguments += ["--slot", str(number), "--listen", ";".join(",".join(map(str, one)) for one in by_slot)]

        async def spawn() -> Child:
            return await Child.start(name, kind, arguments, descriptors, self._told, self._changed)

        restarts = self._restarts.labels(name)
        return Slot(name, spawn, restarted=restarts.inc)

    async def serve_plain(self) -> serving.Server:
        """Open the port for metrics and health. ListenError."""
        server = self._settings.server
        app = plain.plain_app(self._endpoints, self._socket, self.gather)
        return await serving.serve(app, host=server.metrics_bind_address, port=server.metrics_port, name="metrics")

    async def start(self, background: Background) -> None:
        """Start the API server, which issues what certificates are missing, then the workers. StartError."""
        background.start("pulse", pulse.watch(self._all))
        await self._begin(self.api, background)
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self.workers:
                    group.create_task(self._begin(slot, background), name=f"start {slot.name}")
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None

    async def _begin(self, slot: Slot, background: Background) -> None:
        try:
            await slot.start()
        except OSError as error:
            raise StartError(f"cannot start the process {slot.name}: {error.strerror}") from error
        # At once: a worker that is still learning its routes waits for an API server that may have ended meanwhile.
        background.start(f"keep {slot.name}", slot.keep())

    # What the processes tell

    def _told(self, child: Child, message: Message) -> None:
        if message["type"] == "unreachable" and self.api.current is not None:
            self.api.current.send("unreachable", names=message["names"])
        elif message["type"] == "scrape":
            task = asyncio.get_running_loop().create_task(self._scraped(child, message["id"]), name="scrape")
            self._scrapes.add(task)
            task.add_done_callback(self._scrapes.discard)

    async def _scraped(self, child: Child, number: int) -> None:
        """The API server was asked for metrics: it gets those of all."""
        body, _ = sums.render(await self.gather())
        child.send("scraped", id=number, text=body.decode())

    def _changed(self, child: Child) -> None:
        """A process is ready, leaving or gone. What the last kind has counted stays."""
        if child.gone.is_set():
            self._remains = sums.total([self._remains, sums.lasting(child.metrics)])
            child.metrics = []
        if self.api.current is not None:
            self.api.current.send("workers", ready=sum(slot.serving for slot in self.workers))
        for number, slot in enumerate(self.workers):
            slot.was_ready = slot.was_ready or slot.serving
            self._stand_in(number, slot)

    def _stand_in(self, number: int, slot: Slot) -> None:
        """While a slot has no worker, another one accepts the connections that the kernel has put there."""
        holder = self._stand_ins.get(number)
        if slot.serving:
            if holder is not None:
                del self._stand_ins[number]
                holder.send("unlisten", slot=number)
        elif slot.was_ready and (holder is None or not holder.serving):
            found = next((other.current for other in self.workers if other.serving), None)
            if found is not None:
                self._stand_ins[number] = found
                found.send("listen", slot=number)

    def _fault(self, *slots: Slot) -> str | None:
        return None if any(slot.serving for slot in slots) else "not running"

    # Metrics

    async def gather(self) -> Snapshot:
        """What all processes have counted, those that are gone included."""
        running = self._all()
        await asyncio.gather(*(child.ask_metrics() for child in running))
        own = sums.snapshot(self._collectors)
        return sums.total([own, *(child.metrics for child in running), self._remains])

    # Reload and end

    async def replace_workers(self) -> None:
        """Replace one worker after the other; no request fails. Stops at the first that cannot be replaced."""
        log.info("replacing the workers")
        for slot in self.workers:
            if not await slot.replace(self._settings.server.shutdown_grace_seconds):
                return
        log.info("workers replaced")

    async def announce_end(self) -> None:
        """Not ready any more; clients are asked to leave for as long as the settings want."""
        for child in self._all():
            child.send("leave")
        await asyncio.sleep(self._settings.server.shutdown_delay_seconds)

    async def stop(self) -> None:
        """End the workers, then the API server."""
        for bound in (bound for sockets in self._listening for bound in sockets):
            bound.close()
        grace = self._settings.server.shutdown_grace_seconds
        api = self.api.processes()
        for child in api:
            child.send("end_watches")
        await asyncio.gather(*(child.stop(grace) for slot in self.workers for child in slot.processes()))
        await asyncio.gather(*(child.stop(grace) for child in api))
        for task in list(self._scrapes):
            task.cancel()

    def kill_all(self) -> None:
        for child in self._all():
            child.kill_now()

    def _all(self) -> list[Child]:
        return [child for slot in (self.api, *self.workers) for child in slot.processes()]
