"""The kubeconfig with which a person reaches the aggregator; credentials are embedded."""

import base64
import stat
from pathlib import Path

import yaml

from aggregator import keypair
from aggregator.keypair import KeyPair, KeyPairError
from apiserver import logs
from pki.files import own_directory, write_file
from pki.plan import PKIError

log = logs.get("kubeconfig")

NAME = "grafana"
"""Name of the cluster, the user and the context."""

FILE_MODE = 0o600


class KubeconfigError(Exception):
    """The kubeconfig cannot be written; one line that names the file at fault."""


def build(server: str, ca: bytes, client: KeyPair) -> str:
    """The kubeconfig as YAML. `server` is an https URL, `ca` the PEM authorities that verify it."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode("ascii")

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": {"server": server, "certificate-authority-data": encoded(ca)}}],
        "users": [
            {
                "name": NAME,
                "user": {
                    "client-certificate-data": encoded(client.certificate),
                    "client-key-data": encoded(client.key),
                },
            }
        ],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": "default"}}],
        "current-context": NAME,
        "preferences": {},
    }
    return yaml.safe_dump(document, sort_keys=False, width=2**20)


def path(data: Path) -> Path:
    """Where the kubeconfig is, under the data directory of the settings."""
    return data / "grafana-apiserver" / "grafana.kubeconfig"


def write(target: Path, *, server: str, ca_file: Path, certificate_file: Path, key_file: Path) -> bool:
    """Write the kubeconfig, readable by its owner alone, replacing an older one as a whole. Raises KubeconfigError.

    False when the file is there already just so.
    """
    try:
        client = keypair.read(certificate_file, key_file)
        data = build(server, keypair.read_certificates(ca_file), client).encode()
        if _is_there(target, data):
            return False
        own_directory(target.parent, owner=None)
        write_file(target, data, mode=FILE_MODE)
    except (KeyPairError, PKIError) as error:
        raise KubeconfigError(str(error)) from None
    except OSError as error:
        raise KubeconfigError(f"cannot write {target}: {error.strerror}") from None
    log.info("kubeconfig written", path=str(target))
    return True


def _is_there(target: Path, data: bytes) -> bool:
    try:
        return stat.S_IMODE(target.stat().st_mode) == FILE_MODE and target.read_bytes() == data
    except OSError:
        return False
