"""The programs of a run: a backend, and each proxy alone on core 0 while it is measured."""

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import measure, pki, ports
from bench.peers import golang, haproxy, nginx

PATH = "/apis/bench.test/v1/namespaces/default/things/one"
LARGE_BYTES = 100 * 1000 * 1000


class StageError(Exception):
    """A program did not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long to measure."""

    rounds: int = 3
    seconds: float = 3.0
    quick: bool = False


@dataclass(slots=True)
class Stage:
    """What runs, by name; `directory` holds certificates and configurations."""

    directory: Path
    options: Options
    proxy_core: int
    load_core: int
    pids: dict[str, int] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def running(self, name: str, command: Sequence[str], port: int | None, *, core: int | None = None) -> Iterator[int]:
        """A program pinned to a core, the proxies' unless it is said; its process id."""
        pinned = ["taskset", "-c", str(self.proxy_core if core is None else core), *command]
        process = subprocess.Popen(pinned, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if port is not None:
                _await_answer(self.directory, port, name, process)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ours(self, *extra: str) -> list[str]:
        """The command of this project's proxy."""
        return [sys.executable, "-m", "bench.peers.ours", str(self.directory), *extra]

    def load(self, name: str, command: Sequence[str]) -> tuple[str, float]:
        """Output of a load generator, and the CPU seconds that the proxy took meanwhile."""
        pids = measure.family(self.pids[name])
        before = measure.cpu_seconds(pids)
        output = measure.run_load(command, cores=[self.load_core])
        return output, measure.cpu_seconds(pids) - before


def which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/local/go/bin")


def need(name: str) -> str:
    """The path of a program. StageError when there is none."""
    found = which(name)
    if found is None:
        raise StageError(f"{name} is not installed")
    return found


@contextlib.contextmanager
def staged(directory: Path, options: Options, ours: Sequence[str] = ()) -> Iterator[Stage]:
    """Backend and proxies, all of them that the machine has; `ours` are more arguments for our own. StageError."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise StageError("two cores are needed: one for the proxy, one for backend and load")
    measure.raise_file_limit()
    stage = Stage(directory, options, cores[0], cores[1])
    _prepare(directory)
    with contextlib.ExitStack() as stack:

        def start(name: str, command: Sequence[str], port: int, core: int) -> None:
            stage.pids[name] = stack.enter_context(stage.running(name, command, port, core=core))
            stage.ports[name] = port

        binary = need("nginx")
        start("backend", nginx.command(binary, directory, "backend"), ports.BACKEND, stage.load_core)
        streams = [sys.executable, "-m", "bench.peers.streams", str(directory)]
        start("streams", streams, ports.STREAMS, stage.load_core)
        start("nginx", nginx.command(binary, directory, "nginx"), ports.NGINX, stage.proxy_core)
        if (found := which("haproxy")) is not None:
            start("HAProxy", haproxy.command(found, directory), ports.HAPROXY, stage.proxy_core)
        if (found := which("go")) is not None:
            golang.build(found, directory)
            start("Go ReverseProxy", golang.command(directory), ports.GO, stage.proxy_core)
        start("aggregator", stage.ours(*ours), ports.OURS, stage.proxy_core)
        yield stage


def _prepare(directory: Path) -> None:
    directory.chmod(0o755)
    pki.issue(directory)
    filler = [{"metadata": {"name": f"thing-{number}"}, "spec": {"size": number}} for number in range(37)]
    (directory / "body.json").write_text(json.dumps({"kind": "ThingList", "items": filler})[:2047] + "\n")
    with (directory / "large.bin").open("wb") as file:
        file.truncate(LARGE_BYTES)
    nginx.write(directory)
    haproxy.write(directory)


def _await_answer(directory: Path, port: int, name: str, process: subprocess.Popen[bytes]) -> None:
    context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    path = PATH if port != ports.BARE else "/"
    deadline = time.monotonic() + 15
    while True:
        try:
            with urllib.request.urlopen(f"https://localhost:{port}{path}", context=context, timeout=5) as response:
                if response.status == 200:
                    return
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 401:
                return
            if time.monotonic() > deadline or process.poll() is not None:
                raise StageError(f"{name} does not answer on port {port}: {error}") from error
        time.sleep(0.1)
