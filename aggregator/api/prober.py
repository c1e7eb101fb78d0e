"""Asking an aggregated server whether it serves its API (aggregator.md 3.2 row 7)."""

import asyncio
from dataclasses import dataclass

from aggregator.api.ports import AGGREGATOR_USER, FETCH_ERRORS, AskStatus
from aggregator.api.probe import Attempt
from aggregator.upstream.backend import Backend
from apiserver.http1 import RequestTimeout


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLimits:
    """Bounds of one check; times in seconds."""

    attempts: int = 5
    timeout: float = 5.0
    grace: float = 1.0
    """How much longer than `timeout` an attempt may take before it is given up, whatever it is doing."""
    head_start: float = 0.25
    """How long the first attempt is alone. A healthy server answers it, which saves four handshakes per check."""


class Prober:
    """Checks a backend by several concurrent requests, of which one good answer is enough."""

    def __init__(self, ask_status: AskStatus, limits: ProbeLimits | None = None) -> None:
        self._ask_status = ask_status
        self._limits = limits or ProbeLimits()

    async def check(self, backend: Backend, *, once: bool = False) -> list[Attempt]:
        """The attempts in order of arrival; the first one that passes is the last.

        `once` makes a single attempt per address, which is enough to see that a server is still away, and cheap.
        """
        tasks: list[asyncio.Task[Attempt]] = []

        alternatives = backend.alternatives()

        def launch(count: int) -> None:
            for _ in range(count):
                name = f"probe {backend.apiservice} #{len(tasks) + 1}"
                chosen = alternatives[len(tasks) % len(alternatives)]
                tasks.append(asyncio.create_task(self._attempt(chosen), name=name))

        attempts: list[Attempt] = []
        try:
            launch(len(alternatives) if once else 1)
            if once:
                await self._collect(set(tasks), attempts)
                return attempts
            done, _ = await asyncio.wait(tasks, timeout=self._limits.head_start)
            attempts.extend(task.result() for task in done)
            if not any(attempt.passed for attempt in attempts):
                launch(max(self._limits.attempts, len(alternatives)) - 1)
                await self._collect(set(tasks) - done, attempts)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return attempts

    @staticmethod
    async def _collect(pending: set[asyncio.Task[Attempt]], attempts: list[Attempt]) -> None:
        while pending and not any(attempt.passed for attempt in attempts):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            attempts.extend(task.result() for task in done)

    async def _attempt(self, backend: Backend) -> Attempt:
        path = backend.discovery_path
        url = f"https://{backend.authority}{path}"
        limits = self._limits
        try:
            async with asyncio.timeout(limits.timeout + limits.grace):
                code = await self._ask_status(backend, path, headers=AGGREGATOR_USER, timeout=limits.timeout)
        except TimeoutError:
            return Attempt(url=url, timed_out=True)
        except RequestTimeout:
            return Attempt(url=url, error=f'Get "{url}": no answer within {limits.timeout:g} s')
        except FETCH_ERRORS as error:
            return Attempt(url=url, error=f'Get "{url}": {error or type(error).__name__}')
        return Attempt(url=url, code=code)
