"""The data plane beside nginx, HAProxy and Go's ReverseProxy, as far as this machine has them.

TLS on both sides, client certificates towards the backend, 2 kB JSON answers, identity headers. Each proxy has core 0
to itself, the backend (nginx) and the load share core 1. Rounds alternate between the proxies; medians are printed.
What is compared is the CPU time that the system charged to the proxy's processes, divided by the requests: the number
of requests per second depends on the load generator as much.

What recording costs, `--observe access`, `audit` (level Metadata, without RequestReceived) or a ratio of traces tells.

    python -m bench.proxy [--quick] [--only http1,http2] [--rounds 3] [--seconds 3] [--results FILE]
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import table
from bench.figures import bodies, bulkhead, crowd, speed, tail, tokens, watches, workers
from bench.measure import LoadError
from bench.stage import Options, Stage, StageError, staged
from bench.table import Figure

FIGURES: dict[str, Callable[[Stage], Figure]] = {
    "http1": speed.http1,
    "http2": speed.http2,
    "tokens": tokens.figure,
    "tail": tail.figure,
    "watches": watches.figure,
    "workers": workers.figure,
    "crowd": crowd.figure,
    "bulkhead": bulkhead.figure,
    "bodies": bodies.figure,
}


def main() -> int:
    """0 when every target that was measured is met, 1 when one is missed, 2 when this machine cannot measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that everything runs; the figures mean little")
    parser.add_argument("--only", default=",".join(FIGURES), help=f"some of {','.join(FIGURES)}")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--results", type=Path, help="write all figures to this file, in Markdown")
    parser.add_argument("--profile", type=Path, help="write a cProfile of the proxy to this file")
    parser.add_argument("--observe", default="", metavar="KIND", help="record requests: access, audit, trace=0.01")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := sorted(set(names) - set(FIGURES)):
        parser.error(f"--only: no such figure: {', '.join(unknown)}")
    options = Options(
        rounds=arguments.rounds or (1 if arguments.quick else 3),
        seconds=arguments.seconds or (1 if arguments.quick else 3),
        quick=arguments.quick,
    )
    ours = ["--observe", arguments.observe] if arguments.observe else []
    if arguments.profile is not None:
        ours += ["--profile", str(arguments.profile)]
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        try:
            figures = _measure(Path(directory), options, ours, names)
        except StageError as error:
            print(f"the benchmark cannot run: {error}", file=sys.stderr)
            return 2
    if arguments.results is not None:
        arguments.results.write_text(table.as_markdown(figures, table.machine_facts()))
    return 1 if any(figure.met is False for figure in figures) else 0


def _measure(directory: Path, options: Options, ours: Sequence[str], names: Sequence[str]) -> list[Figure]:
    figures = []
    with staged(directory, options, ours) as stage:
        for name in names:
            try:
                figure = FIGURES[name](stage)
            except (LoadError, StageError) as error:
                lines = str(error).strip().splitlines()
                figure = table.skipped(name, "see bench/figures", lines[0] + " … " + lines[-1])
            print(table.as_text(figure), flush=True)
            figures.append(figure)
    return figures


if __name__ == "__main__":
    raise SystemExit(main())
