"""The command `example-apiserver`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from apimachinery.gvk import GroupVersion
from apiserver import http1
from apiserver.flags import FlagError, add_flags, parse_flags
from apiserver.serving import ListenError
from apiserver.storage.directory import DataDirectoryError
from apiserver.tls import TLSConfigError
from apiserver.version import program_version
from example_service.identity import GROUP, VERSION

_DESCRIPTION = """\
An aggregated API server that serves example.grafana.app/v0alpha1: `runtime`, which tells about the process, and
`dummy`, a namespaced resource to try things with. It believes the identity headers of front proxies whose client
certificate its request-header CA has issued, and refuses everybody else.
"""
_HEALTH_PORT = 9090
_HEALTH_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["healthcheck"]:
        raise SystemExit(_healthcheck(given[1:]))
    raise SystemExit(_serve(given))


def _serve(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "example-apiserver",
        description=_DESCRIPTION,
        epilog="`example-apiserver healthcheck [--metrics-port PORT]` asks a running server whether it is ready.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=program_version(), help="print the version and exit")
    add_flags(parser)
    try:
        flags = parse_flags(parser.parse_args(arguments), [GroupVersion(GROUP, VERSION)])
    except FlagError as error:
        return _fail(str(error), 2)
    # Imported here: the health check, made every few seconds, needs none of the server.
    import uvloop

    from apiserver.auth.yaml_fields import FileError
    from apiserver.program import Program, run
    from example_service.resources import resources, running_build

    program = Program(title="Example API", resources=resources(running_build()))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(program, flags))
    except (TLSConfigError, ListenError, DataDirectoryError, FileError) as error:
        return _fail(str(error), 1)
    return 0


def _healthcheck(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "example-apiserver healthcheck", description="Ask a running server whether it is ready."
    )
    parser.add_argument(
        "--metrics-port", type=int, default=_HEALTH_PORT, metavar="PORT", help="plain HTTP port (default: %(default)s)"
    )
    return asyncio.run(_ask(parser.parse_args(arguments).metrics_port))


async def _ask(port: int) -> int:
    target = http1.Target(host="127.0.0.1", port=port)
    try:
        response = await http1.request(target, "GET", "/readyz", (), timeout=_HEALTH_SECONDS, max_body=1024 * 1024)
    except http1.HTTPClientError as error:
        return _fail(f"/readyz: {error}", 1)
    if response.status != 200:
        return _fail(f"/readyz: {response.body.decode(errors='replace').strip()}", 1)
    print("ok")
    return 0


def _fail(text: str, code: int) -> int:
    print(f"example-apiserver: {text}", file=sys.stderr)
    return code
