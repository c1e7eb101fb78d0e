"""A local stack whose aggregator runs in several processes, and what the tests look at."""

import asyncio
import contextlib
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.callers import Callers, Kubeconfig
from tests.support.local_stack import LocalStack
from tests.support.waiting import wait_until

REMOTE = "/apis/example.grafana.app/v0alpha1/namespaces/default/dummy"
LOCAL = "/apis/apiregistration.k8s.io/v1/apiservices"
WORKERS = ("worker-0", "worker-1")
IMPATIENT_SECONDS = 4.0


class Program(LocalStack):
    """The supervisor is the process `aggregator` of the stack."""

    def __init__(self, directory: Path, server_settings: str) -> None:
        super().__init__(directory, f"\n[server]\nworkers = 2\n{server_settings}\n")
        self.policy = directory / "policy.yaml"
        """Allows nothing more than no policy does; in effect where the settings name it."""
        self.policy.write_text("roles: []\n")

    def start_aggregator(self) -> None:
        """Returns when all workers serve: one would be enough to be ready."""
        super().start_aggregator()
        wait_until(lambda: self.metric("aggregator_workers_ready") == len(WORKERS), seconds=30)

    def stop_processes(self, *names: str) -> list[int]:
        """Let processes hang: they neither answer nor end."""
        pids = [self.processes()[name] for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        return pids

    def processes(self) -> dict[str, int]:
        """Process ids of what the supervisor runs, by name. While a worker is replaced, its name is the newer one's."""
        supervisor = self.pid("aggregator")
        found: dict[str, int] = {}
        try:
            children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        except FileNotFoundError:
            return found
        for pid in sorted(map(int, children)):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "--name" in arguments:
                    found[arguments[arguments.index("--name") + 1]] = pid
        return found

    def kill(self, name: str) -> int:
        pid = self.processes()[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def plain(self, path: str) -> tuple[int, str]:
        """One request to the port for metrics and health."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, labels: str = "") -> float:
        """The sum of all series of this name whose labels hold that text."""
        lines = self.plain("/metrics")[1].splitlines()
        found = [line for line in lines if line.partition("{")[0].partition(" ")[0] == name and labels in line]
        assert found, f"no series {name} with {labels}"
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def log(self) -> str:
        return (self.directory / "aggregator.log").read_text()

    async def until_ready(self) -> None:
        await asyncio.to_thread(wait_until, lambda: self.plain("/readyz")[0] == 200, seconds=30)

    @contextlib.asynccontextmanager
    async def load(self, path: str = REMOTE) -> AsyncIterator[Callers]:
        """Callers with new and with kept connections."""
        callers = Callers(
            port=self.port,
            path=path,
            identity=Kubeconfig(self.kubeconfig),
            expected=lambda answer: answer.status == 200,
        )
        running = asyncio.ensure_future(callers.run())
        try:
            await more(callers, 20)
            yield callers
        finally:
            callers.stop()
            await running

    def end(self) -> None:
        """End whatever still runs, whether or not the test has ended some of it."""
        for running in reversed(self._programs.values()):
            if running.process.poll() is None:
                running.stop()


async def more(callers: Callers, count: int) -> None:
    """Wait for so many further good answers."""
    wanted = callers.answers + count
    async with asyncio.timeout(30):
        while callers.answers < wanted:
            assert callers.answers or not callers.failures, callers.failures[:3]
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to look does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Impatient(Program):
    """Notices within four seconds that a process hangs, instead of eighteen."""

    def _program(self, name: str) -> list[str]:
        if name != "aggregator":
            return super()._program(name)
        code = "; ".join(
            (
                "import sys",
                "from aggregator import cli",
                "from aggregator.processes import pulse",
                f"pulse.INTERVAL_SECONDS = {IMPATIENT_SECONDS / 6}",
                "sys.exit(cli.main())",
            )
        )
        return [sys.executable, "-P", "-c", code]
