"""Go's httputil.ReverseProxy, as one would write it in twenty lines; built by the toolchain of the machine."""

import os
import subprocess
from pathlib import Path

from bench.pki import SERVER_NAME
from bench.ports import BACKEND, GO

_SOURCE = Path(__file__).parent / "reverseproxy" / "main.go"


def build(binary: str, directory: Path) -> None:
    """Compile to `<directory>/reverseproxy`. CalledProcessError when that fails."""
    environment = {**os.environ, "GOCACHE": str(directory / "go-cache"), "GO111MODULE": "off", "CGO_ENABLED": "0"}
    output = directory / "reverseproxy"
    subprocess.run([binary, "build", "-o", str(output), str(_SOURCE)], check=True, env=environment, cwd=directory)


def command(directory: Path) -> list[str]:
    program = str(directory / "reverseproxy")
    return [program, str(directory), f"127.0.0.1:{GO}", f"127.0.0.1:{BACKEND}", SERVER_NAME]
