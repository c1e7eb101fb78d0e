"""The speed of the API machinery on this machine, beside its targets.

    python -m bench.machinery [--seconds 27] [--only watch|list|disk]

Prints one table. Every figure comes from the real parts: the HTTP server, the application and the stores in a process
of their own. Targets are for two cores that nothing else is using; the notes below the table say what the machine was.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import machinery_disk, machinery_list, machinery_watch
from bench.machinery_kit import Figure


def _print(figures: Sequence[Figure]) -> None:
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        verdict = {True: "OK", False: "over", None: ""}[figure.ok]
        print(f"{figure.name:<{width}}  {figure.value:>14}  {figure.target:>18}  {verdict}".rstrip(), flush=True)


def _machine(began: float, idle: float) -> str:
    used = time.monotonic() - began
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return (
        f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}, Linux {platform.release()}; "
        f"load before {idle:.1f}; took {used:.0f} s"
    )


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=27.0, help="length of the fan-out runs, together")
    parser.add_argument("--only", choices=("watch", "list", "disk"), help="one of the parts")
    options = parser.parse_args(arguments)
    began, idle = time.monotonic(), os.getloadavg()[0]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIRECTORY")) as name:
        directory = Path(name)
        if options.only in (None, "watch"):
            figures += machinery_watch.run(directory, seconds=options.seconds)
        if options.only in (None, "list"):
            figures += machinery_list.run(directory)
        if options.only in (None, "disk"):
            figures += machinery_disk.run(directory, seconds=options.seconds)
    _print(figures)
    print(_machine(began, idle))
    return 1 if any(figure.ok is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
