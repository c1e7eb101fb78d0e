from datetime import UTC, datetime
from pathlib import Path

import pytest

from aggregator import settings
from aggregator.settings.load import defaults_file
from pki import plan, write
from tests.unit.aggregator.custom_ini import load_text, problems

REPOSITORY = Path(__file__).parents[3]


pytestmark = pytest.mark.usefixtures("in_empty_directory")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    write.issue(directory, plan.development_plan(), now=datetime.now(UTC))
    return directory


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "[server]\ntls_cert_file = {pki}/aggregator.crt",
            "custom.ini:2: [server] tls_cert_file: is set without tls_private_key_file; "
            "a certificate and its key go together",
            id="certificate without key",
        ),
        pytest.param(
            "[grafana-apiserver]\nproxy_client_key_file = {pki}/admin.key",
            "custom.ini:2: [grafana-apiserver] proxy_client_key_file: is set without proxy_client_cert_file; "
            "a certificate and its key go together",
            id="key without certificate",
        ),
        pytest.param(
            "[grafana-apiserver]\nproxy_client_cert_file = {pki}/admin.crt\nproxy_client_key_file = {pki}/ca.key",
            "custom.ini:3: [grafana-apiserver] proxy_client_key_file: {pki}/ca.key does not belong to {pki}/admin.crt",
            id="pair that does not match",
        ),
        pytest.param(
            "[grafana-apiserver]\nproxy_client_cert_file = {pki}/admin.crt\nproxy_client_key_file = {pki}/ca.crt",
            "custom.ini:3: [grafana-apiserver] proxy_client_key_file: {pki}/ca.crt: not a PEM private key",
            id="not a key",
        ),
        pytest.param(
            "[server]\nclient_ca_file = nowhere.crt",
            "custom.ini:2: [server] client_ca_file: cannot read nowhere.crt: No such file or directory",
            id="missing file",
        ),
        pytest.param(
            "[grafana-apiserver]\nremote_services_file = {pki}",
            "custom.ini:2: [grafana-apiserver] remote_services_file: cannot read {pki}: Is a directory",
            id="directory",
        ),
        pytest.param(
            "[server]\ntls_ca_file = {pki}/ca.crt",
            "custom.ini:2: [server] tls_ca_file: is set without tls_cert_file",
            id="authority of nothing",
        ),
        pytest.param(
            "[requestheader]\ncrl_file = {pki}/ca.crt",
            "custom.ini:2: [requestheader] crl_file: is set without client_ca_file",
            id="revocation by nobody",
        ),
        pytest.param(
            "[server]\nclient_ca_file = {pki}/client-ca.crt\n"
            "[feature_toggles]\nenable = grafanaAPIServerEnsureKubectlAccess",
            "custom.ini:2: [server] client_ca_file: is set, so the kubeconfig that "
            "grafanaAPIServerEnsureKubectlAccess asks for needs "
            "[grafana-apiserver] kubectl_client_cert_file and kubectl_client_key_file",
            id="no credentials for the kubeconfig",
        ),
        pytest.param(
            "[server]\nsecure_port = 8080",
            "{defaults}: [server] metrics_port: 8080 is the secure_port already",
            id="one port for both",
        ),
        pytest.param(
            "[server]\nmetrics_port = 6443\nbind_address = 0.0.0.0",
            "custom.ini:2: [server] metrics_port: 6443 is the secure_port already",
            id="one port, overlapping addresses",
        ),
        pytest.param(
            "[requestheader]\nclient_ca_file = {pki}/ca.crt\nusername_headers =",
            "custom.ini:3: [requestheader] username_headers: at least one header is needed",
            id="no user header",
        ),
        pytest.param(
            "[grafana-apiserver]\napi_socket = /" + "x" * 107,
            "custom.ini:2: [grafana-apiserver] api_socket: the path of a socket can have at most 107 bytes",
            id="socket path",
        ),
        pytest.param(
            "[server]\nclient_ca_file = {pki}/ca.crt\n[requestheader]\nclient_ca_file = {pki}/ca.crt",
            "custom.ini:4: [requestheader] client_ca_file: is the same authority as [server] client_ca_file, so every "
            "user could pose as any other; use another one, or set allowed_names",
            id="users could pose as proxies",
        ),
    ],
)
def test_what_does_not_fit_together(pki: Path, text: str, expected: str) -> None:
    line = defaults_file().read_text().split("\n").index("metrics_port = 8080") + 1
    filled = expected.replace("{pki}", str(pki)).replace("{defaults}", f"{defaults_file()}:{line}")
    assert problems(text.replace("{pki}", str(pki))) == (filled,)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[server]\nsecure_port = 8080\nbind_address = 127.0.0.2", id="one port, two addresses"),
        pytest.param("[server]\nsecure_port = 0\nmetrics_port = 0", id="any port, and no metrics"),
        pytest.param("[grafana-apiserver]\napi_socket = /" + "x" * 106, id="longest socket path"),
        pytest.param(
            "[server]\nclient_ca_file = {pki}/ca.crt\n"
            "[requestheader]\nclient_ca_file = {pki}/ca.crt\nallowed_names = proxy one, two",
            id="named proxies under the authority of users",
        ),
        pytest.param(
            "[server]\ntls_cert_file = {pki}/aggregator.crt\ntls_private_key_file = {pki}/aggregator.key\n"
            "tls_ca_file = {pki}/ca.crt\nclient_ca_file = {pki}/client-ca.crt\n"
            "[grafana-apiserver]\nkubectl_client_cert_file = {pki}/admin.crt\n"
            "kubectl_client_key_file = {pki}/admin.key\n"
            "[feature_toggles]\ngrafanaAPIServerEnsureKubectlAccess = true",
            id="everything brought along",
        ),
    ],
)
def test_what_fits_together(pki: Path, text: str) -> None:
    assert load_text(text.replace("{pki}", str(pki))).warnings == ()


def test_a_key_that_everybody_can_read(pki: Path, tmp_path: Path) -> None:
    key = tmp_path / "open.key"
    key.write_bytes((pki / "admin.key").read_bytes())
    key.chmod(0o644)
    text = f"[grafana-apiserver]\nproxy_client_cert_file = {pki}/admin.crt\nproxy_client_key_file = {key}\n"
    assert load_text(text).warnings == (
        f"custom.ini:3: [grafana-apiserver] proxy_client_key_file: {key} can be read by everybody on this machine",
    )


def test_the_sample_custom_ini_after_the_openssl_script(pki: Path, tmp_path: Path) -> None:
    made = tmp_path / "data" / "grafana-aggregator"
    made.mkdir(parents=True)
    for kind in ("crt", "key"):
        (made / f"client.{kind}").write_bytes((pki / f"front-proxy-client.{kind}").read_bytes())
        (made / f"client.{kind}").chmod(0o600)
    (made / "ca.crt").write_bytes((pki / "front-proxy-ca.crt").read_bytes())
    loaded = settings.load(REPOSITORY / "conf" / "custom.ini", {})
    assert loaded.warnings == ()
    assert loaded.settings.feature_toggles.ensure_kubectl_access
    assert loaded.settings.grafana_apiserver.proxy_client_cert_file == made / "client.crt"
