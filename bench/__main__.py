"""`python -m bench`: every benchmark of this folder, one after the other; `python -m bench.<name>` runs one.

The proxy's figures are written to bench/RESULTS.md."""

import subprocess
import sys
from pathlib import Path

_BENCHMARKS = ("proxy", "workers", "machinery", "discovery", "outage")


def main() -> int:
    """Run them all; the exit code of the first that failed, after all have run."""
    results = Path(__file__).parent / "RESULTS.md"
    more = {"proxy": ["--results", str(results)]}
    codes = []
    for name in _BENCHMARKS:
        print(f"== {name}", flush=True)
        codes.append(
            subprocess.run([sys.executable, "-m", f"bench.{name}", *more.get(name, [])], check=False).returncode
        )
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    raise SystemExit(main())
