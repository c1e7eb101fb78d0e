"""The command `aggregator`: serve, check-config, healthcheck, version."""

import argparse
import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from aggregator import settings
from aggregator.errors import StartError
from apiserver import http1, logs
from apiserver.version import program_version

_DESCRIPTION = """\
One address, one discovery document and one front door for many API servers that speak the Kubernetes API style.
Clients talk to the aggregator; each API group version is served by the server that its APIService names.
"""
_EPILOG = """\
settings are read in this order, the later wins:
  1. the defaults that come with the program (conf/defaults.ini lists every key with its meaning)
  2. the file given with --config
  3. environment variables GF_<SECTION>_<KEY>, e.g. GF_SERVER_SECURE_PORT=6443;
     capitals, with `.` and `-` written as `_`

exit codes: 0 done, 1 the program failed, 2 wrong settings or arguments
"""
_HEALTH_PATHS = ("/readyz", "/readyz/remote-autoregister-completion")
_HEALTH_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    raise SystemExit(run(sys.argv[1:] if arguments is None else arguments, os.environ))


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser(arguments).parse_args(arguments)
    command = {
        "serve": _serve,
        "check-config": _check_config,
        "healthcheck": _healthcheck,
        "version": _version,
        "process": _process,
    }
    return command[options.command](options, environment)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("aggregator", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=form)
    parser.add_argument("--version", action="version", version=program_version(), help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texts = {
        "serve": "run the aggregator until SIGTERM",
        "check-config": "show the effective settings and where each comes from; fails when they are wrong",
        "healthcheck": "ask a running aggregator on this host whether it is ready and its remote services were seen",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text, epilog=_EPILOG, formatter_class=form)
        command.add_argument("--config", type=Path, metavar="FILE", help="settings file (ini), e.g. conf/custom.ini")
    commands.add_parser("version", help="print the version")
    if "process" in arguments[:1]:
        _process_arguments(commands.add_parser("process"))
    return parser


def _process_arguments(parser: argparse.ArgumentParser) -> None:
    from aggregator.processes import entry

    entry.add_arguments(parser)


def _load(options: argparse.Namespace, environment: Mapping[str, str]) -> settings.Loaded | None:
    try:
        return settings.load(options.config, environment)
    except settings.SettingsError as error:
        _fail(str(error))
        return None


def _serve(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    loaded = _load(options, environment)
    if loaded is None:
        return 2
    # Imported here: the other commands, a health check every few seconds among them, need none of the server.
    import uvloop

    configured = loaded.settings
    _configure_logs(configured)
    log = logs.get("settings")
    for warning in loaded.warnings:
        log.warning(warning)
    _allow_files()
    if configured.server.workers:
        from aggregator.processes import supervisor

        work = supervisor.serve(configured, options.config, lambda: settings.load(options.config, environment).settings)
    else:
        from aggregator import app

        work = app.serve(configured)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
    except StartError as error:
        _fail(str(error))
        return 1
    return 0


def _allow_files() -> None:
    """Raise the soft limit of open files to the hard one, as Go programs do; the processes of `serve` inherit it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS takes no limit at all for a hard one only
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _process(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """One of the processes of `serve`; the supervisor shows what it reports."""
    from aggregator.processes import entry

    try:
        configured = settings.load(options.config, environment).settings
    except settings.SettingsError as error:
        entry.report_failure(options.channel, str(error))
        return 2
    _configure_logs(configured)
    return entry.run(options, configured)


def _configure_logs(configured: settings.Settings) -> None:
    logs.configure(configured.log.level, "json" if configured.log.format == "json" else "logfmt")


def _check_config(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    code, text = settings.check_config(options.config, environment)
    print(text.rstrip("\n"), file=sys.stderr if code else sys.stdout)
    return code


def _healthcheck(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    loaded = _load(options, environment)
    if loaded is None:
        return 2
    port = loaded.settings.server.metrics_port
    if port == 0:
        _fail("server.metrics_port is 0: there is nothing to ask")
        return 2
    return asyncio.run(_ask(http1.Target(host="127.0.0.1", port=port)))


async def _ask(target: http1.Target) -> int:
    for path in _HEALTH_PATHS:
        try:
            response = await http1.request(target, "GET", path, (), timeout=_HEALTH_SECONDS, max_body=1024 * 1024)
        except http1.HTTPClientError as error:
            _fail(f"{path}: {error}")
            return 1
        if response.status != 200:
            _fail(f"{path}: {response.body.decode(errors='replace').strip()}")
            return 1
    print("ok")
    return 0


def _version(_options: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    print(program_version())
    return 0


def _fail(text: str) -> None:
    print(f"aggregator: {text}", file=sys.stderr)
