import base64
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from aggregator import kubeconfig
from aggregator.keypair import KeyPair
from aggregator.kubeconfig import KubeconfigError
from pki import plan, write

SERVER = "https://localhost:6443"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    write.issue(directory, plan.self_issued_plan(["localhost"]), now=datetime.now(UTC))
    return directory


def write_kubeconfig(
    target: Path, pki: Path, *, ca: str = "ca.crt", cert: str = "admin.crt", key: str = "admin.key"
) -> None:
    kubeconfig.write(target, server=SERVER, ca_file=pki / ca, certificate_file=pki / cert, key_file=pki / key)


def test_build() -> None:
    document = yaml.safe_load(kubeconfig.build(SERVER, b"authority", KeyPair(b"certificate", b"key")))
    assert document == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "grafana",
                "cluster": {"server": SERVER, "certificate-authority-data": base64.b64encode(b"authority").decode()},
            }
        ],
        "users": [
            {
                "name": "grafana",
                "user": {
                    "client-certificate-data": base64.b64encode(b"certificate").decode(),
                    "client-key-data": base64.b64encode(b"key").decode(),
                },
            }
        ],
        "contexts": [{"name": "grafana", "context": {"cluster": "grafana", "user": "grafana", "namespace": "default"}}],
        "current-context": "grafana",
        "preferences": {},
    }


def test_write(tmp_path: Path, pki: Path) -> None:
    target = kubeconfig.path(tmp_path / "data")
    write_kubeconfig(target, pki)
    user = yaml.safe_load(target.read_text())["users"][0]["user"]
    assert target == tmp_path / "data" / "grafana-apiserver" / "grafana.kubeconfig"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert base64.b64decode(user["client-key-data"]) == (pki / "admin.key").read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["grafana.kubeconfig"]


def test_write_replaces_an_older_one_that_was_open_to_others(tmp_path: Path, pki: Path) -> None:
    target = tmp_path / "kubeconfig"
    target.write_text("old")
    target.chmod(0o644)
    write_kubeconfig(target, pki)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert yaml.safe_load(target.read_text())["kind"] == "Config"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param({"key": "nowhere.key"}, "cannot read {pki}/nowhere.key: No such file or directory", id="no key"),
        pytest.param({"cert": "nowhere.crt"}, "cannot read {pki}/nowhere.crt: No such file", id="no certificate"),
        pytest.param({"ca": "nowhere.crt"}, "cannot read {pki}/nowhere.crt: No such file", id="no authority"),
        pytest.param(
            {"key": "aggregator.key"}, "{pki}/aggregator.key does not belong to {pki}/admin.crt", id="other key"
        ),
        pytest.param({"key": "admin.crt"}, "{pki}/admin.crt: not a PEM private key", id="certificate for a key"),
        pytest.param({"cert": "admin.key"}, "{pki}/admin.key: not a PEM certificate", id="key for a certificate"),
        pytest.param({"ca": "ca.key"}, "{pki}/ca.key: not a PEM certificate", id="key for an authority"),
    ],
)
def test_wrong_files(tmp_path: Path, pki: Path, arguments: dict[str, str], expected: str) -> None:
    with pytest.raises(KubeconfigError) as caught:
        write_kubeconfig(tmp_path / "kubeconfig", pki, **arguments)
    assert str(caught.value).startswith(expected.replace("{pki}", str(pki)))
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written(tmp_path: Path, pki: Path) -> None:
    (tmp_path / "kubeconfig").mkdir()
    with pytest.raises(KubeconfigError, match=r"cannot write .*/kubeconfig: Is a directory"):
        write_kubeconfig(tmp_path / "kubeconfig", pki)


def test_the_key_is_not_in_the_repr() -> None:
    assert "secret" not in repr(KeyPair(b"certificate", b"secret"))


def test_openssl_reads_the_embedded_credentials(tmp_path: Path, pki: Path) -> None:
    target = tmp_path / "kubeconfig"
    write_kubeconfig(target, pki)
    data = yaml.safe_load(target.read_text())["users"][0]["user"]["client-certificate-data"]
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253"],
        input=base64.b64decode(data),
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"subject=CN=grafana-admin,O=system:masters\n"


def test_what_is_there_just_so_is_left_alone(tmp_path: Path, pki: Path) -> None:
    target = tmp_path / "kubeconfig"
    files = {"ca_file": pki / "ca.crt", "certificate_file": pki / "admin.crt", "key_file": pki / "admin.key"}
    assert kubeconfig.write(target, server=SERVER, **files)
    inode = target.stat().st_ino
    assert not kubeconfig.write(target, server=SERVER, **files)
    assert target.stat().st_ino == inode
    target.chmod(0o644)
    assert kubeconfig.write(target, server=SERVER, **files)
    assert target.stat().st_mode & 0o777 == 0o600
    assert kubeconfig.write(target, server="https://elsewhere", **files)
