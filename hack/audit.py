"""`make audit`: known vulnerabilities of what is in requirements.lock.

Exit status: 1 when a release that mends one exists, 0 otherwise. Vulnerabilities without such a release are only
listed, and an advisory service that cannot be reached within a minute is no reason to stop work: a line says so.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SECONDS = 60.0


def command(program: Path) -> list[str]:
    """pip-audit over the lock file as it is: nothing is resolved, downloaded or installed."""
    lock = str(REPOSITORY / "requirements.lock")
    options = ["--format=json", "--progress-spinner=off", "--timeout=15"]
    return [str(program), f"--requirement={lock}", "--require-hashes", "--disable-pip", *options]


def judge(output: str) -> tuple[int, list[str]]:
    """Exit status and what to say of pip-audit's JSON, ValueError when it is none. A package that the service does not
    know is not taken for a good one."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from None
    lines, status = [], 0
    audited = [package for package in packages if "vulns" in package]
    for package in audited:
        for found in package["vulns"]:
            mended = ", ".join(found["fix_versions"])
            lines.append(f"{package['name']} {package['version']}: {found['id']}, mended in {mended or 'no release'}")
            status = 1 if mended else status
    if not audited:
        return 0, [f"not done: the advisory service knows none of the {len(packages)} packages"]
    unknown = ", ".join(package["name"] for package in packages if "vulns" not in package)
    if unknown:
        lines.append(f"not audited, because the advisory service does not know them: {unknown}")
    return status, [*lines, f"{len(audited)} packages audited"]


def main(program: Path) -> int:
    try:
        ended = subprocess.run(command(program), capture_output=True, text=True, timeout=SECONDS, check=False)
        status, lines = judge(ended.stdout)
    except subprocess.TimeoutExpired:
        status, lines = 0, [f"not done: the advisory service did not answer within {SECONDS:g} s"]
    except FileNotFoundError:
        status, lines = 0, ["not done: pip-audit could not be installed"]
    except ValueError:
        # The last line is the exception's; what is before it are the attempts.
        why = (ended.stderr.strip().splitlines() or [f"pip-audit ended with {ended.returncode}"])[-1]
        status, lines = 0, [f"not done, the advisory service cannot be reached: {why[:200]}"]
    for line in lines:
        sys.stderr.write(f"audit: {line}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
