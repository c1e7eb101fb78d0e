"""`hack/audit.py` with a stand-in for pip-audit: what is said and how it ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "hack" / "audit.py"


def _package(name: str, *fixes: list[str]) -> dict[str, Any]:
    return {"name": name, "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": found} for found in fixes]}


def _audit(directory: Path, text: str) -> tuple[int, str]:
    program = directory / "pip-audit"
    program.write_text(text)
    program.chmod(0o755)
    ended = subprocess.run([sys.executable, str(SCRIPT), str(program)], capture_output=True, text=True, check=False)
    return ended.returncode, ended.stderr


UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([_package("a"), _package("b")], 0, "audit: 2 packages audited\n"),
        ([_package("a", ["2", "3"])], 1, "audit: a 1: PYSEC-1, mended in 2, 3\n"),
        ([_package("a", [])], 0, "audit: a 1: PYSEC-1, mended in no release\n"),
        ([_package("a", ["2"], [])], 1, "audit: a 1: PYSEC-1, mended in no release\n"),
        ([_package("a"), UNKNOWN], 0, "audit: not audited, because the advisory service does not know them: c\n"),
        ([UNKNOWN], 0, "audit: not done: the advisory service knows none of the 1 packages\n"),
    ],
    ids=["none", "with a fix", "without a fix", "one of each", "one unknown", "all unknown"],
)
def test_findings(packages: list[Any], code: int, said: str, tmp_path: Path) -> None:
    document = json.dumps({"dependencies": packages, "fixes": []})
    ended, printed = _audit(tmp_path, f"#!/bin/sh\necho '{document}'\nexit {code}\n")
    assert said in printed
    assert ended == code


@pytest.mark.parametrize("output", ["", "[]", "{}"], ids=["nothing", "another document", "empty"])
def test_a_service_out_of_reach_stops_nobody(output: str, tmp_path: Path) -> None:
    script = f"#!/bin/sh\necho '{output}'\necho attempts >&2\necho 'ConnectionError: refused' >&2\nexit 1\n"
    expected = "audit: not done, the advisory service cannot be reached: ConnectionError: refused\n"
    assert _audit(tmp_path, script) == (0, expected)


def test_without_the_tool(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "none")], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "audit: not done: pip-audit could not be installed\n")
