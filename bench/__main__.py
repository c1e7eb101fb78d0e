"""Benchmarks of this folder, one after the other: all of them, or those named.

A figure of `proxy` or a part of `machinery` alone is asked for with a dot: `python -m bench proxy.http1`.
`python -m bench.NAME --help` tells what else each of them takes. When everything of `proxy` is measured, its figures
are written to bench/RESULTS.md.
"""

import argparse
import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import proxy

_BENCHMARKS = ("proxy", "workers", "machinery", "discovery", "outage")
_PARTS: dict[str, tuple[str, ...]] = {"proxy": tuple(proxy.FIGURES), "machinery": ("watch", "list", "disk")}
_FOLDER = Path(__file__).parent


def commands(names: Sequence[str]) -> list[tuple[str, ...]]:
    """What is run for these names, each a benchmark and its arguments; all benchmarks for none.

    ValueError names those that do not exist.
    """
    whole = [(name, *(["--results", str(_FOLDER / "RESULTS.md")] if name == "proxy" else [])) for name in _BENCHMARKS]
    parts = [(name, "--only", part) for name, parts in _PARTS.items() for part in parts]
    known = {command[0]: command for command in whole} | {
        f"{name}.{part}": (name, only, part) for name, only, part in parts
    }
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] or whole


def _about() -> str:
    lines = ["benchmarks:"]
    for name in _BENCHMARKS:
        text = (ast.get_docstring(ast.parse((_FOLDER / f"{name}.py").read_text())) or "").splitlines()[0]
        lines.append(f"  {name:<10} {text}")
        if name in _PARTS:
            lines.append(" " * 13 + ", ".join(f"{name}.{part}" for part in _PARTS[name]))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; the exit code of the first that failed, after all have run."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m bench", description=__doc__, epilog=_about(), formatter_class=form)
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (default: everything)")
    try:
        wanted = commands(parser.parse_args(arguments).names)
    except ValueError as error:
        parser.error(str(error))
    codes = []
    for name, *more in wanted:
        print("==", name, *more, flush=True)
        codes.append(subprocess.run([sys.executable, "-m", f"bench.{name}", *more], check=False).returncode)
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    raise SystemExit(main())
