"""What servers that are down cost the users of all the others: `python -m bench.outage [--rounds 60]`.

Two aggregators with twenty aggregated servers each run side by side; behind one of them a server hangs (accepts, reads
and never answers) and one refuses connections. kubectl with cold caches asks both in turn, so that whatever else the
machine does falls on both alike: at once after the servers broke, and again when the APIServices are unavailable.
Fewer than some sixty rounds do not tell 10 % from noise on a machine that does other things as well.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.machinery_kit import Figure
from tests.support import backends
from tests.support.kubectl import Kubectl
from tests.support.local_stack import LocalStack
from tests.support.registration import SERVER_NAME, availability, register
from tests.support.waiting import wait_until
from tests.unit.aggregator.api_kit import make_certificates

_GROUPS = [f"b{number}.example" for number in range(20)]
_BROKEN: dict[str, backends.Mode] = {"b3.example": "hang", "b7.example": "refuse"}
_LIMIT = 1.1
_COMMANDS = {
    "kubectl api-resources": ["api-resources"],
    "kubectl get externalnames -A": ["get", "externalnames", "--all-namespaces"],
    "kubectl explain": ["explain", "b9thing0s.b9.example.spec"],
}


@contextlib.contextmanager
def _stack(directory: Path) -> Iterator[tuple[LocalStack, backends.Backends]]:
    """An aggregator with all servers registered and available, and what breaks them."""
    directory.mkdir()
    certificates = make_certificates(directory, SERVER_NAME)
    stack = LocalStack(directory / "stack")
    with backends.running(certificates.server_file) as servers:
        stack.start()
        try:
            register(stack.request, {group: servers.add(group) for group in _GROUPS}, certificates.ca)
            wait_until(lambda: set(availability(stack.request, _GROUPS).values()) == {"True"}, seconds=60)
            probe = Kubectl(kubeconfig=stack.kubeconfig, home=_home(directory, "probe"))
            wait_until(lambda: all(probe(*arguments).code == 0 for arguments in _COMMANDS.values()), seconds=30)
            yield stack, servers
        finally:
            stack.stop()


def _home(directory: Path, name: str) -> Path:
    home = directory / f"home-{name}"
    home.mkdir()
    return home


def _timed(stack: LocalStack, directory: Path, command: str, number: int) -> float:
    """Seconds of one kubectl that has cached nothing. RuntimeError when it fails."""
    home = _home(directory, f"{number}-{_COMMANDS[command][0]}")
    result = Kubectl(kubeconfig=stack.kubeconfig, home=home)(*_COMMANDS[command])
    if result.code != 0:
        raise RuntimeError(f"{command} ended with {result.code}: {result.err}")
    return result.seconds


def _measure(directory: Path, rounds: int) -> list[Figure]:
    whole, hurt = directory / "whole", directory / "hurt"
    with _stack(whole) as (healthy, _), _stack(hurt) as (broken, servers):

        def alternating(begin: int) -> dict[str, tuple[list[float], list[float]]]:
            taken: dict[str, tuple[list[float], list[float]]] = {command: ([], []) for command in _COMMANDS}
            for number in range(begin, begin + rounds):
                for command, (without, with_broken) in taken.items():
                    sides = [(healthy, whole, without), (broken, hurt, with_broken)]
                    for stack, place, seconds in sides if number % 2 == 0 else reversed(sides):
                        seconds.append(_timed(stack, place, command, number))
            return taken

        for group, mode in _BROKEN.items():
            servers.turn(group, mode)
        at_once = alternating(0)
        wait_until(lambda: _down(broken) == set(_BROKEN), seconds=90)
        later = alternating(rounds)
    return [
        _figure(f"{command}, {when}", *seconds)
        for when, taken in (("at once", at_once), ("once noticed", later))
        for command, seconds in taken.items()
    ]


def _down(stack: LocalStack) -> set[str]:
    return {group for group, state in availability(stack.request, _GROUPS).items() if state != "True"}


def _figure(command: str, without: list[float], with_broken: list[float]) -> Figure:
    before, after = statistics.median(without), statistics.median(with_broken)
    return Figure(
        name=f"{command}: {1000 * before:.1f} ms, with two of twenty down {1000 * after:.1f} ms "
        f"(slowest {1000 * max(without):.0f}, {1000 * max(with_broken):.0f})",
        value=f"x {after / before:.3f}",
        target=f"<= {_LIMIT:g} x",
        ok=after / before <= _LIMIT,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=60, help="how often each command is run against each aggregator, twice"
    )
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = _measure(Path(name), wanted.rounds)
    for figure in figures:
        verdict = "ok" if figure.ok else "MISSED"
        print(f"{figure.name:<115} {figure.value:>8}  {figure.target:<10} {verdict}")
    return 0 if all(figure.ok for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
