"""The real programs on loopback: aggregator and example API server as subprocesses, with a PKI of their own."""

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from pki import write
from pki.plan import development_plan
from tests.support.waiting import free_ports, wait_until

EXAMPLE_API = "v0alpha1.example.grafana.app"
READY_SECONDS = 40.0
STOP_SECONDS = 15.0

_SETTINGS = """\
[server]
bind_address = 127.0.0.1
secure_port = {port}
tls_cert_file = {pki}/aggregator.crt
tls_private_key_file = {pki}/aggregator.key
tls_ca_file = {pki}/ca.crt
client_ca_file = {pki}/client-ca.crt
external_url = https://localhost:{port}
metrics_bind_address = 127.0.0.1
metrics_port = {metrics_port}

[paths]
data = {data}

[grafana-apiserver]
proxy_client_cert_file = {pki}/front-proxy-client.crt
proxy_client_key_file = {pki}/front-proxy-client.key
remote_services_file = {services}
apiservice_ca_bundle_file = {pki}/ca.crt
kubectl_client_cert_file = {pki}/admin.crt
kubectl_client_key_file = {pki}/admin.key
api_socket = {directory}/api.sock

[egress]
allow = localhost, 127.0.0.0/8, ::1

[feature_toggles]
grafanaAPIServerEnsureKubectlAccess = true
"""


@dataclass(slots=True)
class Running:
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> int:
        """SIGTERM, then SIGKILL for one that does not end; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class LocalStack:
    """An aggregator that has registered one example API server, both with data directories below `directory`."""

    def __init__(self, directory: Path, extra_settings: str = "") -> None:
        self.directory = directory
        self.settings = directory / "aggregator.ini"
        self._extra_settings = extra_settings
        self.port, self.metrics_port, self.example_port = free_ports(3)
        self.pki = directory / "pki"
        self._programs: dict[str, Running] = {}
        self._context: ssl.SSLContext | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "data" / "grafana-apiserver" / "grafana.kubeconfig"

    @property
    def api_socket(self) -> Path:
        """Where the aggregator's own API server listens behind the proxy."""
        return self.directory / "api.sock"

    def process(self, name: str) -> subprocess.Popen[bytes]:
        return self._programs[name].process

    def pid(self, name: str) -> int:
        """The process id of `aggregator` or `example-apiserver`."""
        return self._programs[name].process.pid

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def start(self) -> None:
        """Start both programs; returns when the example API is available through the aggregator."""
        self.directory.mkdir(parents=True, exist_ok=True)
        write.issue(self.pki, development_plan(), now=datetime.now(UTC))
        services = self.directory / "services.yaml"
        service = {"group": "example.grafana.app", "version": "v0alpha1", "host": "localhost"}
        services.write_text(yaml.safe_dump([{**service, "port": self.example_port}]))
        self.settings.write_text(
            _SETTINGS.format(
                port=self.port,
                metrics_port=self.metrics_port,
                pki=self.pki,
                directory=self.directory,
                data=self.directory / "data",
                services=services,
            )
            + self._extra_settings
        )
        self._start("example-apiserver", self._example_arguments())
        self.start_aggregator()

    def start_aggregator(self) -> None:
        """Start the aggregator once more, after its end; returns when it is ready."""
        self._start("aggregator", ["serve", f"--config={self.settings}"])
        wait_until(self._ready, seconds=READY_SECONDS)

    def stop(self) -> None:
        """End both; AssertionError when one did not end as it should."""
        codes = {name: running.stop() for name, running in reversed(self._programs.items())}
        assert not any(codes.values()), f"exit statuses {codes}\n{self.logs()}"

    def logs(self, lines: int = 60) -> str:
        """The last lines of each program."""
        texts = []
        for name, running in self._programs.items():
            tail = running.log.read_text(errors="replace").splitlines()[-lines:]
            texts.append("\n".join([f"--- {name}", *tail]))
        return "\n".join(texts)

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """One request as the administrator."""
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
            self._context.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")
        request = urllib.request.Request(self.url + path, data=body or None, method=method, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._context) as response:
                return Answer(code=response.status, headers=dict(response.headers), body=response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(code=error.code, headers=dict(error.headers), body=error.read())

    def _start(self, name: str, arguments: Sequence[str]) -> None:
        log = self.directory / f"{name}.log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("GF_")}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self._program(name), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=kept,
                cwd=self.directory,
            )
        self._programs[name] = Running(process, log)

    def _program(self, name: str) -> list[str]:
        return [str(Path(sys.executable).parent / name)]

    def _example_arguments(self) -> list[str]:
        return [
            "--runtime-config=example.grafana.app/v0alpha1=true",
            f"--secure-port={self.example_port}",
            f"--tls-cert-file={self.pki}/example-apiserver.crt",
            f"--tls-private-key-file={self.pki}/example-apiserver.key",
            f"--requestheader-client-ca-file={self.pki}/front-proxy-ca.crt",
            "--requestheader-allowed-names=aggregator",
            f"--data-dir={self.directory}/example-data",
        ]

    def _ready(self) -> bool:
        for name, running in self._programs.items():
            assert running.process.poll() is None, f"{name} ended\n{self.logs()}"
        try:
            found = self.request("GET", f"/apis/apiregistration.k8s.io/v1/apiservices/{EXAMPLE_API}")
        except OSError:
            return False
        if found.code != 200:
            return False
        conditions = found.document.get("status", {}).get("conditions", [])
        available = any(item["type"] == "Available" and item["status"] == "True" for item in conditions)
        return available and self.request("GET", "/readyz").code == 200
