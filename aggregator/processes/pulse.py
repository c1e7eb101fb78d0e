"""Notices a process that neither ends nor does anything: it is killed, and its place is filled again."""

import asyncio
from collections.abc import Callable, Iterable

from aggregator.processes.child import Child
from apiserver import logs

INTERVAL_SECONDS = 3.0
ALLOWED = 5
"""So many questions in a row may stay without an answer: 15 seconds, far more than a busy event loop stands still."""

log = logs.get("aggregator.supervisor")


async def watch(processes: Callable[[], Iterable[Child]]) -> None:
    """Ask each process that serves whether it is there, and kill those that do not answer, until cancelled.

    Starting and leaving processes have deadlines of their own. What is counted are questions, not seconds: when the
    whole machine or container stood still, so did the supervisor, and no more than one question is missing.
    """
    while True:
        for child in processes():
            if child.serving:
                _ask(child)
        await asyncio.sleep(INTERVAL_SECONDS)


def _ask(child: Child) -> None:
    if child.unanswered >= ALLOWED:
        seconds = child.unanswered * INTERVAL_SECONDS
        log.error("process hangs, killing it", process=child.name, pid=child.pid, silent_seconds=round(seconds, 1))
        child.kill_now()
        return
    child.unanswered += 1
    child.send("ping")
