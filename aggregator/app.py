"""The composition root of the program in one process: API server and proxy, started and ended in order."""

import asyncio
import contextlib

from aggregator import backoffice, front, reloads
from aggregator.backoffice import BackOffice
from aggregator.base import START_ERRORS, Base
from aggregator.errors import StartError
from aggregator.proxy.server import Proxy
from aggregator.settings import Settings
from apiserver import logs, serving
from apiserver.background import Background
from apiserver.endpoints import Endpoints, plain_app
from apiserver.lifecycle import Shutdown

log = logs.get("aggregator")


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. StartError, with one line for the user, when that cannot even begin."""
    shutdown = Shutdown()
    shutdown.install()
    failed = False

    def fail() -> None:
        nonlocal failed
        failed = True
        shutdown.request()

    try:
        async with contextlib.AsyncExitStack() as stack:
            base = Base(settings=settings, stack=stack, background=Background(fail))
            office, proxy = await _start(base, shutdown)
            await shutdown.wait()
            proxy.announce_end()
            await asyncio.sleep(settings.server.shutdown_delay_seconds)
            office.local.verbs.watcher.close()
    except START_ERRORS as error:
        raise StartError(str(error)) from error
    if failed:
        raise StartError("a part of the server ended, see the log")
    log.info("stopped")


async def _start(base: Base, shutdown: Shutdown) -> tuple[BackOffice, Proxy]:
    settings, background = base.settings, base.background
    base.health.add("ping", lambda: None)
    base.health.add("shutdown", shutdown.check, endpoints=("readyz",))
    socket = await base.stack.enter_async_context(backoffice.private_socket(settings))
    office = await backoffice.start(base, socket)
    files = reloads.reloader(base.collectors)
    proxy = front.build(base, office.credentials, files, access=office.access, tls=office.tls, socket=socket)
    proxy.plane.on_unreachable = proxy.plane.pools.on_trouble = office.report_failure
    if proxy.learner is not None:
        office.hooks.add("apiservice-registration-controller", proxy.learner.synced.wait)
    await _listen(base, proxy, office.endpoints)
    background.start("post-start hooks", office.hooks.run(), ends=True)
    backoffice.follow_files(base, office, files)
    background.start("reload of files", files.run())
    log.info("serving", url=settings.server.external_url, address=settings.server.bind_address, port=proxy.port)
    return office, proxy


async def _listen(base: Base, proxy: Proxy, endpoints: Endpoints) -> None:
    """Open the ports: the plain one first, so that probes can watch the start."""
    server, stack = base.settings.server, base.stack
    if server.metrics_port:
        plain = await serving.serve(
            plain_app(endpoints), host=server.metrics_bind_address, port=server.metrics_port, name="metrics"
        )
        stack.push_async_callback(plain.stop)
    await proxy.start(server.bind_address, server.secure_port)
    stack.push_async_callback(proxy.stop, server.shutdown_grace_seconds)
