"""Flow C: everything by hand on this host, with certificates made by openssl; no containers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.stack import EXAMPLE_API, copy_tracked_files, run_tool
from tests.support.kubectl import Kubectl
from tests.support.waiting import free_port, wait_until

MANIFESTS = Path("conf/manifests/manual-test")
PKI = Path("data/grafana-aggregator")


class Host:
    """A working copy to type commands in, with ports of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.api_port, self.metrics_port, self.example_port = free_port(), free_port(), free_port()
        copy_tracked_files(directory)
        manifest = directory / MANIFESTS / "apiservice.yaml"
        text = manifest.read_text()
        assert "port: 7443" in text
        manifest.write_text(text.replace("port: 7443", f"port: {self.example_port}"))
        self.kubectl = Kubectl(
            kubeconfig=directory / "data" / "grafana-apiserver" / "grafana.kubeconfig", home=directory / "home"
        )

    @contextmanager
    def running(self, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A program of this repository until the block ends; it must end with status 0 on SIGTERM."""
        environment = os.environ | {
            "GF_SERVER_SECURE_PORT": str(self.api_port),
            "GF_SERVER_METRICS_PORT": str(self.metrics_port),
            "GF_SERVER_EXTERNAL_URL": f"https://localhost:{self.api_port}",
        }
        program = str(Path(sys.executable).parent / name)
        log_file = self.directory / f"{name}.log"
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                [program, *arguments], cwd=self.directory, env=environment, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                code = process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        assert code == 0, log_file.read_text()

    def manifests(self, verb: str, name: str = "") -> str:
        return self.kubectl.ok(verb, "-f", str(self.directory / MANIFESTS / name))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    made = run_tool([str(tmp_path / "hack" / "make-aggregator-pki.sh")])
    assert made.returncode == 0, made.stderr
    return host


def test_manual_flow(host: Host) -> None:
    kubectl = host.kubectl
    with host.running("aggregator", "serve", "--config", "conf/custom.ini"):
        wait_until(lambda: kubectl.kubeconfig.exists() and kubectl("get", "--raw=/readyz").out == "ok", seconds=30)

        host.manifests("apply", "apiservice.yaml")
        wait_until(lambda: kubectl.available(EXAMPLE_API) == "False (ServiceNotFound)", seconds=5)
        host.manifests("delete", "apiservice.yaml")

        assert host.manifests("apply").splitlines() == [
            "apiservice.apiregistration.k8s.io/v0alpha1.example.grafana.app created",
            "externalname.service.grafana.app/example-apiserver created",
        ]
        wait_until(lambda: kubectl.available(EXAMPLE_API) == "False (FailedDiscoveryCheck)", seconds=15)
        assert kubectl.rows("get", "apiservice", EXAMPLE_API)[1][1] == "grafana/example-apiserver"

        with host.running("example-apiserver", *_seed_flags(host)):
            wait_until(lambda: kubectl.available(EXAMPLE_API) == "True", seconds=10)
            assert kubectl.raw("/apis/example.grafana.app/v0alpha1/runtime")["kind"] == "RuntimeInfo"
            kubectl.ok("get", "dummy", "-n", "default")

        host.manifests("delete")
        assert kubectl("get", "apiservice", EXAMPLE_API).code == 1
        assert kubectl.ok("get", "externalnames", "-A") == ""


def _seed_flags(host: Host) -> list[str]:
    return [
        "--runtime-config=example.grafana.app/v0alpha1=true",
        "--secure-port",
        str(host.example_port),
        "--tls-cert-file",
        str(host.directory / PKI / "server.crt"),
        "--tls-private-key-file",
        str(host.directory / PKI / "server.key"),
        f"--requestheader-client-ca-file={host.directory / PKI / 'ca.crt'}",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        "-v",
        "10",
    ]
