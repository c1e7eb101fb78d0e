"""The command line: what a user reads when something is wrong, and the exit codes."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.cli import run
from apiserver.version import program_version


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"GF_PATHS_DATA": str(tmp_path / "data"), "GF_SERVER_METRICS_PORT": "0", "GF_SERVER_SECURE_PORT": "0"}


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def serve(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A start that is expected to fail at once, in a process of its own: signal handlers belong to a main thread."""
    command = [sys.executable, "-m", "aggregator", "serve", *arguments]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_wrong_settings_are_exit_2(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve"], environment | {"GF_SERVER_SECURE_PORT": "many"}) == 2
    assert capsys.readouterr().err == (
        "aggregator: GF_SERVER_SECURE_PORT: [server] secure_port: 'many' is not a number from 0 to 65535\n"
    )


def test_check_config_shows_settings_and_their_origin(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "custom.ini"
    config.write_text("[log]\nlevel = debug\n")
    assert run(["check-config", "--config", str(config)], environment) == 0
    assert "level = debug" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"], {}) == 0
    version = capsys.readouterr().out
    assert version == f"{program_version()}\n"
    with pytest.raises(SystemExit) as ended:
        run(["--version"], {})
    assert ended.value.code == 0
    assert capsys.readouterr().out == version


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["--help"], {})
    text = capsys.readouterr().out
    for command in ("serve", "check-config", "healthcheck", "version", "GF_<SECTION>_<KEY>"):
        assert command in text


def test_healthcheck_of_nothing(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert run(["healthcheck"], environment | {"GF_SERVER_METRICS_PORT": str(port)}) == 1
    assert "connection refused" in capsys.readouterr().err


def test_a_port_in_use(environment: dict[str, str], busy_port: int) -> None:
    done = serve(environment | {"GF_SERVER_SECURE_PORT": str(busy_port)})
    assert done.returncode == 1
    assert last_line(done.stderr) == f"aggregator: cannot listen on 127.0.0.1:{busy_port}: address already in use"


def test_a_data_directory_that_is_a_file(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    done = serve(environment)
    assert done.returncode == 1
    assert str(tmp_path / "data") in last_line(done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("- group: g.example.com\n", "item 1: version: is missing", id="missing field"),
        pytest.param("- {group: g.example.com, version: v1, host: h, port: 0}\n", "port", id="port"),
        pytest.param("group: [\n", "services.yaml:", id="not YAML"),
    ],
)
def test_wrong_remote_services_name_file_and_line(
    environment: dict[str, str], tmp_path: Path, text: str, fault: str
) -> None:
    file = tmp_path / "services.yaml"
    file.write_text(text)
    done = serve(environment | {"GF_GRAFANA_APISERVER_REMOTE_SERVICES_FILE": str(file)})
    assert done.returncode == 1
    assert f"{file}:" in last_line(done.stderr)
    assert fault in last_line(done.stderr)


def test_serving_may_open_as_many_files_as_the_hard_limit_allows(environment: dict[str, str], busy_port: int) -> None:
    script = (
        "import resource, sys; from aggregator.cli import run; import os; run(['serve'], os.environ); "
        "sys.stdout.write(str(resource.getrlimit(resource.RLIMIT_NOFILE)))"
    )
    busy = {**environment, "GF_SERVER_SECURE_PORT": str(busy_port)}
    done = subprocess.run(
        ["sh", "-c", 'ulimit -Sn 256; ulimit -Hn 2000; exec "$0" -c "$1"', sys.executable, script],
        env={**os.environ, **busy},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "(2000, 2000)", done.stderr
