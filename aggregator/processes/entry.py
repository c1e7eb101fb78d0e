"""The command with which the supervisor starts the others; not for people, and so not in the help."""

import argparse
import asyncio
import contextlib
import os
from pathlib import Path

import orjson
import uvloop

from aggregator.base import START_ERRORS
from aggregator.errors import StartError
from aggregator.processes import part
from aggregator.settings import Settings
from apiserver import logs

log = logs.get("aggregator.process")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("api", "proxy"))
    parser.add_argument("--config", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--listen", default="")


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Be one of the processes until the supervisor says stop; returns the exit code."""
    part.ignore_signals()
    logs.name_process(options.name)
    channel = os.dup(options.channel)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_process(options, settings))
    except (StartError, *START_ERRORS) as error:
        report_failure(channel, str(error))
        return 1
    return 0


def report_failure(channel: int, text: str) -> None:
    """Tell the supervisor why there will be no process."""
    os.set_blocking(channel, True)
    with contextlib.suppress(BrokenPipeError):
        os.write(channel, orjson.dumps({"type": "failed", "error": text}) + b"\n")


async def _process(options: argparse.Namespace, settings: Settings) -> None:
    # Imported here: a worker needs nothing of the API server, which is a good part of its start and its memory.
    if options.kind == "api":
        from aggregator.processes import office

        await office.run(settings, options.channel, options.socket)
        return
    from aggregator.processes import worker

    listening = [[int(item) for item in one.split(",")] for one in options.listen.split(";")]
    wiring = worker.Wiring(channel=options.channel, socket=options.socket, slot=options.slot, listening=listening)
    await worker.run(settings, wiring)
