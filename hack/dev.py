"""`make dev`: PKI, example API server and aggregator on this host, without Docker, until Ctrl-C.

Exit status: 0 after Ctrl-C (or SIGTERM) when every program ended cleanly; 1 when one failed, ended by itself or had to
be killed. Ports and everything else are in conf/dev.ini; GF_<SECTION>_<KEY> in the environment overrides it.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGURATION = "conf/dev.ini"
PKI = Path("data/dev-pki")
KUBECONFIG = REPOSITORY / "data/dev/grafana-apiserver/grafana.kubeconfig"

STOP_SECONDS = 15.0
"""How long a program may take to end after SIGTERM; above the aggregator's own grace for requests under way."""

READY_SECONDS = 60.0
LINE_LIMIT = 1 << 20

EXAMPLE_ARGUMENTS = (
    "--runtime-config=example.grafana.app/v0alpha1=true",
    "--bind-address=127.0.0.1",
    "--secure-port=7443",
    f"--tls-cert-file={PKI / 'example-apiserver.crt'}",
    f"--tls-private-key-file={PKI / 'example-apiserver.key'}",
    f"--requestheader-client-ca-file={PKI / 'front-proxy-ca.crt'}",
    "--requestheader-allowed-names=aggregator",
    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    "--requestheader-group-headers=X-Remote-Group",
    "--requestheader-username-headers=X-Remote-User",
    "--metrics-bind-address=127.0.0.1",
    "--metrics-port=9090",
    "--data-dir=data/dev/example-apiserver",
    "-v=2",
)


def say(text: str) -> None:
    sys.stderr.write(f"dev: {text}\n")
    sys.stderr.flush()


def program(name: str) -> str:
    """The console script beside the interpreter that runs this file."""
    return str(Path(sys.executable).parent / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    name: str
    process: asyncio.subprocess.Process
    output: asyncio.Task[None]

    def signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


async def start(name: str, *arguments: str) -> Running:
    """A program in a process group of its own, so that Ctrl-C at the terminal reaches this file alone."""
    process = await asyncio.create_subprocess_exec(
        program(name),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        limit=LINE_LIMIT,
    )
    output = asyncio.create_task(_print_lines(name, process), name=f"output of {name}")
    return Running(name=name, process=process, output=output)


async def _print_lines(name: str, process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        sys.stdout.write(f"{name:<17} | {line.decode(errors='replace').rstrip()}\n")
        sys.stdout.flush()


async def run(name: str, *arguments: str, show: bool = True) -> int:
    """Run a program to its end; its exit status. Cancelled, it takes the program with it."""
    output = None if show else asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        program(name),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def healthcheck() -> int:
    """0 when an aggregator with this configuration is ready and has seen the example API available."""
    return await run("aggregator", "healthcheck", "--config", CONFIGURATION, show=False)


async def announce_when_ready() -> None:
    """Ask the aggregator's own healthcheck until it is content, then tell how to reach it, or raise TimeoutError."""
    async with asyncio.timeout(READY_SECONDS):
        while await healthcheck() != 0:
            await asyncio.sleep(0.5)
    say("ready. In another terminal:")
    sys.stdout.write(f"\n  export KUBECONFIG={KUBECONFIG}\n  kubectl get apiservice\n\n")
    sys.stdout.flush()


async def reason_to_end(programs: Sequence[Running], interrupted: asyncio.Event) -> str:
    """Wait until everything has to end. Empty after Ctrl-C, otherwise what went wrong."""
    announcing = asyncio.create_task(announce_when_ready(), name="readiness")
    reasons: dict[asyncio.Future[Any], str] = {announcing: f"not ready within {READY_SECONDS:g} s"}
    for running in programs:
        end = asyncio.create_task(running.process.wait(), name=f"end of {running.name}")
        reasons[end] = f"{running.name} ended by itself"
    reasons[asyncio.create_task(interrupted.wait(), name="interrupt")] = ""
    try:
        pending = set(reasons)
        while True:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            met = [reasons[task] for task in done if task is not announcing or task.exception()]
            if met:
                return met[0]
    finally:
        for task in reasons:
            task.cancel()
        await asyncio.gather(*reasons, return_exceptions=True)


async def stop(programs: Sequence[Running], interrupted: asyncio.Event) -> bool:
    """SIGTERM to all, SIGKILL after STOP_SECONDS or at the next Ctrl-C. Whether all ended with status 0."""
    for running in programs:
        running.signal_group(signal.SIGTERM)
    ends = asyncio.gather(*(running.process.wait() for running in programs))
    again = asyncio.create_task(interrupted.wait(), name="second interrupt")
    either: set[asyncio.Future[Any]] = {ends, again}
    await asyncio.wait(either, timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    for running in programs:
        running.signal_group(signal.SIGKILL)
    codes = await ends
    await asyncio.gather(*(running.output for running in programs))
    for running, code in zip(programs, codes, strict=True):
        if code != 0:
            say(f"{running.name} ended with status {code}")
    return not any(codes)


async def main() -> int:
    os.chdir(REPOSITORY)
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted.set)
    if await run("aggregator-pki", "issue", "--dir", str(PKI)) != 0:
        return 1
    if await healthcheck() == 0:
        say(f"an aggregator is already running on the ports of {CONFIGURATION}")
        return 1
    example = await start("example-apiserver", *EXAMPLE_ARGUMENTS)
    aggregator = await start("aggregator", "serve", "--config", CONFIGURATION)
    programs = [aggregator, example]
    failure = await reason_to_end(programs, interrupted)
    interrupted.clear()
    say(f"{failure}; ending the others" if failure else "ending everything; Ctrl-C again to end it at once")
    clean = await stop(programs, interrupted)
    return 0 if clean and not failure else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
