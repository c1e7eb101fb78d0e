"""The kubeconfig with which a person reaches the aggregator; credentials are embedded."""

import base64
from pathlib import Path

import yaml

from aggregator import keypair
from aggregator.keypair import KeyPair, KeyPairError
from pki.plan import PKIError
from pki.write import own_directory, write_file

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


def write(target: Path, *, server: str, ca_file: Path, certificate_file: Path, key_file: Path) -> None:
    """Write the kubeconfig, readable by its owner alone, replacing an older one as a whole. Raises KubeconfigError."""
    try:
        client = keypair.read(certificate_file, key_file)
        text = build(server, keypair.read_certificates(ca_file), client)
        own_directory(target.parent, owner=None)
        write_file(target, text.encode(), mode=FILE_MODE)
    except (KeyPairError, PKIError) as error:
        raise KubeconfigError(str(error)) from None
    except OSError as error:
        raise KubeconfigError(f"cannot write {target}: {error.strerror}") from None
