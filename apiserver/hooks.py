"""Post-start hooks: named first steps, each a health check until it is done (aggregator.md 7.2)."""

import asyncio
from collections.abc import Awaitable, Callable

from apiserver import logs
from apiserver.health import HealthChecks

log = logs.get("hooks")


class PostStartHooks:
    """Add hooks before `run`; adding one later is a RuntimeError."""

    def __init__(self, health: HealthChecks) -> None:
        self._health = health
        self._hooks: dict[str, Callable[[], Awaitable[object]]] = {}
        self._done: set[str] = set()
        self._started = False

    def add(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        """Have `run` awaited after the start; the check `poststarthook/<name>` fails until it has returned."""
        if self._started:
            raise RuntimeError(f"hook {name!r} was added after the start")
        if name in self._hooks:
            raise ValueError(f"hook {name!r} exists already")
        self._hooks[name] = run
        self._health.add(f"poststarthook/{name}", lambda: None if self.done(name) else "not finished")

    def done(self, name: str) -> bool:
        return name in self._done

    @property
    def all_done(self) -> bool:
        return self._started and len(self._done) == len(self._hooks)

    async def run(self) -> None:
        """Run all hooks at the same time; an error of one ends the others and is raised."""
        self._started = True
        async with asyncio.TaskGroup() as group:
            for name, run in self._hooks.items():
                group.create_task(self._run(name, run), name=f"hook {name}")

    async def _run(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        await run()
        self._done.add(name)
        log.debug("hook finished", hook=name)
