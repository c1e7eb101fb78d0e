"""`hack/dev.py` with small stand-ins for the programs it starts: what it does when they end, or do not."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "hack" / "dev.py"

PKI = "#!/bin/sh\nexit ${PKI_STATUS:-0}\n"
EXAMPLE = "#!/bin/sh\ntrap 'echo ended politely; exit 0' TERM\necho started\nwhile :; do sleep 0.05; done\n"
AGGREGATOR = """#!/bin/sh
[ "$1" = healthcheck ] && { [ -e "$MARK" ]; exit; }
: >"$MARK"
case "$BEHAVIOUR" in
  dies) exit 3 ;;
  stubborn) trap 'echo will not end' TERM ;;
  *) trap 'echo ended politely; exit 0' TERM ;;
esac
echo started
while :; do sleep 0.05; done
"""


class Dev:
    """A running `hack/dev.py` in a directory of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[str] = []

    def read_until(self, *texts: str) -> None:
        """Read output lines until each text was seen."""
        assert self.process.stdout is not None
        missing = set(texts)
        while missing:
            line = self.process.stdout.readline()
            assert line, f"ended without {missing}: {self.seen}"
            self.seen.append(line)
            missing = {text for text in missing if text not in line}

    def rest(self) -> str:
        output, _ = self.process.communicate(timeout=10)
        return "".join(self.seen) + output


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "hack").mkdir()
    shutil.copy(SCRIPT, tmp_path / "hack" / "dev.py")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python").symlink_to(sys.executable)
    for name, text in (("aggregator-pki", PKI), ("example-apiserver", EXAMPLE), ("aggregator", AGGREGATOR)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return tmp_path


@pytest.fixture
def dev(directory: Path, request: pytest.FixtureRequest) -> Iterator[Dev]:
    environment = os.environ | {"MARK": str(directory / "started")} | getattr(request, "param", {})
    with subprocess.Popen(
        [str(directory / "bin" / "python"), str(directory / "hack" / "dev.py")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield Dev(process)
        process.kill()


def test_interrupt_ends_both_politely(dev: Dev, directory: Path) -> None:
    dev.read_until(
        f"export KUBECONFIG={directory}/data/dev/grafana-apiserver/grafana.kubeconfig", "aggregator        | started"
    )
    dev.process.send_signal(signal.SIGINT)
    said = dev.rest()
    assert dev.process.returncode == 0
    assert "aggregator        | ended politely" in said
    assert "example-apiserver | ended politely" in said


@pytest.mark.parametrize("dev", [{"BEHAVIOUR": "dies"}], indirect=True)
def test_death_of_one_ends_the_other_and_fails(dev: Dev) -> None:
    said = dev.rest()
    assert dev.process.returncode == 1
    assert "dev: aggregator ended by itself; ending the others" in said
    assert "dev: aggregator ended with status 3" in said


@pytest.mark.parametrize("dev", [{"BEHAVIOUR": "stubborn"}], indirect=True)
def test_second_interrupt_kills_what_does_not_end(dev: Dev) -> None:
    dev.read_until("export KUBECONFIG", "aggregator        | started")
    dev.process.send_signal(signal.SIGINT)
    dev.read_until("will not end")
    dev.process.send_signal(signal.SIGINT)
    said = dev.rest()
    assert dev.process.returncode == 1
    assert "dev: aggregator ended with status -9" in said


@pytest.mark.parametrize("dev", [{"MARK": "/"}], indirect=True)
def test_a_stack_that_runs_already_is_left_alone(dev: Dev) -> None:
    said = dev.rest()
    assert dev.process.returncode == 1
    assert "already running" in said
    assert "started" not in said


@pytest.mark.parametrize("dev", [{"PKI_STATUS": "1"}], indirect=True)
def test_without_certificates_nothing_is_started(dev: Dev) -> None:
    said = dev.rest()
    assert dev.process.returncode == 1
    assert "started" not in said
