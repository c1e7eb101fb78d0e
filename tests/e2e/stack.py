"""The compose stack of this repository, started from a fresh copy of what git knows."""

import http.client
import json
import os
import shutil
import ssl
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testcontainers.compose import DockerCompose

from tests.support.waiting import free_ports

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = "api-aggregator:e2e"
EXAMPLE_API = "v0alpha1.example.grafana.app"

# What compose reads from the environment before it reads .env: a developer's own values must not reach the tests.
COMPOSE_VARIABLES = ("UID", "GID", "AGGREGATOR_HOST", "AGGREGATOR_PORT", "METRICS_PORT", "AGGREGATOR_IMAGE")


def copy_tracked_files(target: Path) -> None:
    """Copy what a clone would hold, and new files not yet committed; never data, caches or a virtual environment."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    ).stdout.split(b"\0")
    for name in filter(None, listed):
        source = REPOSITORY / os.fsdecode(name)
        if source.is_file():
            destination = target / os.fsdecode(name)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, destination)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def document(self) -> Any:
        return json.loads(self.text)


class Stack:
    """One compose project of its own name, with host ports of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.project = f"e2e-{uuid.uuid4().hex[:8]}"
        self.api_port, self.metrics_port = free_ports(2)
        self.user = 1000 if os.getuid() == 0 else os.getuid()
        self.group = 1000 if os.getuid() == 0 else os.getgid()
        copy_tracked_files(directory)
        variables = {
            "COMPOSE_PROJECT_NAME": self.project,
            "AGGREGATOR_IMAGE": IMAGE,
            "AGGREGATOR_PORT": self.api_port,
            "METRICS_PORT": self.metrics_port,
            "UID": self.user,
            "GID": self.group,
        }
        (directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        self.compose = DockerCompose(directory, compose_file_name="docker-compose.yml", build=True, wait=True)

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "data" / "grafana-apiserver" / "grafana.kubeconfig"

    def start(self) -> None:
        """`docker compose up --build --wait`; AssertionError with the containers' last words when it fails."""
        try:
            self.compose.start()
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"{error.stderr.decode()[-4000:]}\n{self.logs(tail=60)}") from None

    def down(self) -> None:
        self.compose.stop()

    def run(self, *arguments: str, seconds: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`docker compose ARGUMENTS` in this project."""
        command = [*self.compose.docker_compose_command(), *arguments]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, timeout=seconds, check=False)
        assert not check or done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done

    def up(self) -> float:
        """`docker compose up -d --wait`, seconds taken."""
        begin = time.monotonic()
        self.run("up", "--detach", "--wait")
        return time.monotonic() - begin

    def logs(self, *services: str, tail: int | None = None) -> str:
        limit = ["--tail", str(tail)] if tail else []
        done = self.run("logs", "--no-color", *limit, *services, check=False)
        return done.stdout + done.stderr

    def inspect(self, service: str) -> dict[str, Any]:
        """`docker inspect` of the service's container, running or not."""
        container = self.run("ps", "--all", "--quiet", service).stdout.strip()
        done = subprocess.run(["docker", "inspect", container], capture_output=True, check=True)
        document: dict[str, Any] = json.loads(done.stdout)[0]
        return document

    def inspect_named(self, override: str, service: str) -> dict[str, Any]:
        """`inspect` of a service that another compose file adds."""
        container = self.run("--file", override, "ps", "--all", "--quiet", service).stdout.strip()
        done = subprocess.run(["docker", "inspect", container], capture_output=True, check=True)
        document: dict[str, Any] = json.loads(done.stdout)[0]
        return document

    def leftovers(self) -> list[str]:
        """Containers, volumes and networks that still carry the project's label."""
        label = f"label=com.docker.compose.project={self.project}"
        found: list[str] = []
        for listing in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
            done = subprocess.run(["docker", *listing, "--quiet", "--filter", label], capture_output=True, check=True)
            found += done.stdout.decode().split()
        return found

    def plain(self, path: str) -> Answer:
        """GET on the plain-HTTP port."""
        return _get(http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=10), path, {})

    def secure(self, path: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """GET on the API port without a client certificate, the server's certificate verified against the PKI's CA."""
        context = ssl.create_default_context(cadata=self.pki_file("ca.crt"))
        return _get(
            http.client.HTTPSConnection("localhost", self.api_port, timeout=10, context=context), path, headers or {}
        )

    def pki_file(self, name: str) -> str:
        """Content of a file of the PKI volume, read through a server's own mount."""
        return (
            self.run("exec", "-T", "aggregator", "python3", "-c", f"print(open('/pki/{name}').read())").stdout.strip()
            + "\n"
        )

    def samples(self, metric: str) -> dict[str, float]:
        """Samples of one metric on /metrics: the text between the braces to the value."""
        return parse_samples(self.plain("/metrics").text, metric)


def parse_samples(text: str, metric: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.partition("{")[0] == metric:
            found[name.partition("{")[2].removesuffix("}")] = float(value)
    return found


def _get(connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]) -> Answer:
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        text = response.read().decode()
        return Answer(status=response.status, headers=dict(response.getheaders()), text=text)
    finally:
        connection.close()


def run_tool(arguments: Sequence[str], *, given: str = "", seconds: float = 30) -> subprocess.CompletedProcess[str]:
    """A program of this host with `given` on its standard input."""
    return subprocess.run(arguments, input=given, capture_output=True, text=True, timeout=seconds, check=False)
