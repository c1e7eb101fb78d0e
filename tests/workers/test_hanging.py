"""Processes that neither answer nor end are noticed; a whole program that stood still is not taken for one."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.waiting import wait_until
from tests.workers.program import IMPATIENT_SECONDS, LOCAL, REMOTE, WORKERS, Impatient, alive

RESTARTS = "aggregator_process_restarts_total"


@pytest.fixture
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Impatient]:
    started = Impatient(tmp_path_factory.mktemp("hanging"), "")
    try:
        started.start()
        yield started
    finally:
        started.end()
        # Shown by pytest when the test has failed.
        print(started.logs())  # noqa: T201


@pytest.mark.parametrize("name", ["worker-0", "api"])
async def test_a_process_that_hangs_is_killed_and_replaced(program: Impatient, name: str) -> None:
    before = program.processes()
    (stopped,) = program.stop_processes(name)
    await asyncio.to_thread(wait_until, lambda: not alive(stopped), seconds=20)
    assert f'msg="process hangs, killing it" process={name} pid={stopped} silent_seconds=' in program.log()
    await asyncio.to_thread(wait_until, lambda: program.processes().get(name, stopped) != stopped, seconds=20)
    await program.until_ready()
    await asyncio.to_thread(wait_until, lambda: program.metric("aggregator_workers_ready") == 2, seconds=20)
    answers = [await asyncio.to_thread(program.request, "GET", path) for path in (REMOTE, LOCAL) * 6]
    assert {answer.code for answer in answers} == {200}
    assert program.metric(RESTARTS, f'process="{name}"') == program.metric(RESTARTS) == 1
    after = program.processes()
    assert all(before[other] == after[other] for other in ("api", *WORKERS) if other != name)


async def test_a_program_that_stood_still_as_a_whole_goes_on(program: Impatient) -> None:
    """As after a suspended machine or a paused container."""
    before = program.processes()
    os.kill(program.pid("aggregator"), signal.SIGSTOP)
    stopped = program.stop_processes(*before)
    await asyncio.sleep(IMPATIENT_SECONDS + 2)
    os.kill(program.pid("aggregator"), signal.SIGCONT)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    await asyncio.sleep(IMPATIENT_SECONDS)
    assert program.request("GET", REMOTE).code == 200
    assert program.processes() == before
    assert program.metric(RESTARTS) == 0
    assert "process hangs" not in program.log()
