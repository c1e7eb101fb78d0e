"""Which program this is, and which version of the Kubernetes API style it speaks."""

import os
import platform
import sys
from importlib import metadata

from apimachinery.types import Object

_DISTRIBUTION = "api-aggregator"
_API_MINOR = 32
"""The Kubernetes minor version whose behaviour clients find; kubectl warns when it is far from its own."""


def program_version() -> str:
    """The version of the installed distribution."""
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0.0.0"


def program_commit() -> str:
    """The commit that a container image was built from; empty elsewhere."""
    return os.environ.get("BUILD_COMMIT", "")


def version_document() -> Object:
    """The document of `/version`. `gitVersion` parses as a Kubernetes version; the program's own is its build part."""
    system = platform.system().lower()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": "1",
        "minor": str(_API_MINOR),
        "gitVersion": f"v1.{_API_MINOR}.0+aggregator-{program_version()}",
        "gitCommit": program_commit(),
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": f"{sys.implementation.name}-{platform.python_version()}",
        "platform": f"{system}/{machine}",
    }
