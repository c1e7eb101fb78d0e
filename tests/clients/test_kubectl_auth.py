"""Ways in and what they allow, with an unmodified kubectl: certificates, tokens, OpenID Connect, impersonation."""

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.kubectl import Kubectl, Result
from tests.support.waiting import free_ports, wait_until
from tests.unit.aggregator.proxy_kit import PKI

POLICY = """\
roles:
- name: names
  rules:
  - {apiGroups: [service.grafana.app], resources: [externalnames], verbs: ["*"]}
- name: dummies
  rules:
  - {apiGroups: [example.grafana.app], resources: ["*"], verbs: ["*"]}
- name: as-bob
  rules:
  - {apiGroups: [""], resources: [users], resourceNames: [bob], verbs: [impersonate]}
bindings:
- {role: names, users: [alice], groups: ["oidc:staff"], namespaces: [default]}
- {role: dummies, users: [alice], namespaces: [default]}
- {role: as-bob, users: [alice]}
- {role: extension-apiserver-authentication-reader, users: [backend], namespaces: [kube-system]}
- {role: system:auth-delegator, users: [backend]}
"""
TOKENS = 'alice-token,alice,u1,"developers,other"\nbob-token,bob,u2\nbackend-token,backend,u3\n'
SETTINGS = """\
[paths]
data = data
[server]
secure_port = {port}
external_url = https://localhost:{port}
metrics_port = 0
tls_cert_file = pki/proxy.crt
tls_private_key_file = pki/proxy.key
client_ca_file = pki/ca.crt
[authentication]
token_file = tokens.csv
[oidc]
issuer_url = https://localhost:{issuer}
client_id = kubectl
ca_file = pki/ca.crt
username_prefix = oidc:
groups_claim = groups
groups_prefix = oidc:
[authorization]
policy_file = policy.yaml
[egress]
allow = localhost, 127.0.0.0/8, ::1
[grafana-apiserver]
proxy_client_cert_file = pki/front.crt
proxy_client_key_file = pki/front.key
proxy_client_ca_file = pki/ca.crt
remote_services_file = services.yaml
apiservice_ca_bundle_file = pki/ca.crt
"""
EXAMPLE_API = "v0alpha1.example.grafana.app"
SERVICES = "- {{group: example.grafana.app, version: v0alpha1, host: localhost, port: {port}}}\n"
PARENT = """\
current-context: parent
contexts: [{{name: parent, context: {{cluster: parent, user: backend}}}}]
clusters: [{{name: parent, cluster: {{server: "https://localhost:{port}", certificate-authority: pki/ca.crt}}}}]
users: [{{name: backend, user: {{token: backend-token}}}}]
"""
EXAMPLE_FLAGS = """\
--tls-cert-file=pki/example.crt --tls-private-key-file=pki/example.key --requestheader-client-ca-file=pki/ca.crt
--requestheader-allowed-names=front-proxy --authorization-kubeconfig=parent.yaml
"""
EXTERNAL_NAME = {
    "apiVersion": "service.grafana.app/v0alpha1",
    "kind": "ExternalName",
    "metadata": {"name": "made-by-alice"},
    "spec": {"host": "example.com"},
}


@dataclass(frozen=True)
class Door:
    directory: Path
    port: int
    issuer: str
    key: rsa.RSAPrivateKey
    kubectl: Kubectl

    def __call__(self, *arguments: str, given: str | None = None) -> Result:
        """kubectl without credentials of its own."""
        return self.kubectl(
            f"--server=https://localhost:{self.port}",
            f"--certificate-authority={self.directory}/pki/ca.crt",
            *arguments,
            given=given,
        )

    def told(self, *arguments: str, given: str | None = None) -> str:
        result = self(*arguments, given=given)
        assert result.code == 0, result.err + result.out
        return result.out

    def whoami(self, *arguments: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.told(*arguments, "auth", "whoami", "-o", "json"))["status"][
            "userInfo"
        ]
        return found

    def certificate(self, name: str) -> tuple[str, str]:
        pki = self.directory / "pki"
        return f"--client-certificate={pki}/{name}.crt", f"--client-key={pki}/{name}.key"

    def id_token(self, **claims: object) -> str:
        standard = {"iss": self.issuer, "aud": "kubectl", "sub": "zoe", "exp": int(time.time()) + 300}
        return jwt.encode({**standard, **claims}, self.key, algorithm="RS256", headers={"kid": "k1"})


@contextlib.contextmanager
def _provider(pki: PKI, key: rsa.RSAPrivateKey, port: int) -> Iterator[None]:
    """An OpenID Connect provider with one key."""
    issuer = f"https://localhost:{port}"
    jwk = {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "k1", "use": "sig"}
    documents = {
        "/.well-known/openid-configuration": {"issuer": issuer, "jwks_uri": f"{issuer}/keys"},
        "/keys": {"keys": [jwk]},
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(documents[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.socket = pki.server_context("proxy").wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, name="provider")
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    if shutil.which("kubectl") is None:
        pytest.fail("kubectl is needed for these tests", pytrace=False)
    directory = tmp_path_factory.mktemp("door")
    (directory / "pki").mkdir()
    pki = PKI.make(directory / "pki")
    pki.ca.issue(pki.directory, "carol", cn="carol", organizations=["developers"])
    pki.ca.issue(pki.directory, "example", dns=[f"{EXAMPLE_API}.default.svc"])
    port, issuer, example = free_ports(3)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for name, text in {
        "policy.yaml": POLICY,
        "tokens.csv": TOKENS,
        "c.ini": SETTINGS.format(port=port, issuer=issuer),
        "empty.kubeconfig": "",
        "services.yaml": SERVICES.format(port=example),
        "parent.yaml": PARENT.format(port=port),
    }.items():
        (directory / name).write_text(text)
    kubectl = Kubectl(kubeconfig=directory / "empty.kubeconfig", home=tmp_path_factory.mktemp("home"))
    made = Door(directory, port, f"https://localhost:{issuer}", key, kubectl)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_provider(pki, key, issuer))
        stack.enter_context(
            _program(directory, "example-apiserver", *EXAMPLE_FLAGS.split(), f"--secure-port={example}")
        )
        stack.enter_context(_program(directory, "aggregator", "serve", "--config=c.ini"))
        wait_until(lambda: made("--token=bob-token", "get", "--raw=/readyz").code == 0, seconds=40, interval=0.3)
        yield made


@contextlib.contextmanager
def _program(directory: Path, name: str, *arguments: str) -> Iterator[None]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GF_")}
    program = Path(sys.executable).parent / name
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([str(program), *arguments], cwd=directory, stdout=log, stderr=log, env=kept)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=15) == 0, (directory / f"{name}.log").read_text()


def test_who_a_certificate_names(door: Door) -> None:
    found = door.whoami(*door.certificate("carol"))
    assert (found["username"], found["groups"]) == ("carol", ["developers", "system:authenticated"])


def test_who_a_token_names(door: Door) -> None:
    found = door.whoami("--token=alice-token")
    assert found == {"username": "alice", "uid": "u1", "groups": ["developers", "other", "system:authenticated"]}


@pytest.mark.parametrize("token", ["unknown", "a.b.c"])
def test_who_is_not_let_in(door: Door, token: str) -> None:
    result = door(f"--token={token}", "get", "externalnames")
    assert result.code == 1
    assert "the server has asked for the client to provide credentials" in result.err or "Unauthorized" in result.err


def test_an_id_token(door: Door) -> None:
    found = door.whoami(f"--token={door.id_token(groups=['staff'])}")
    assert found == {"username": "oidc:zoe", "groups": ["oidc:staff", "system:authenticated"]}
    token = door.id_token(groups=["staff"])
    assert door.told(f"--token={token}", "auth", "can-i", "create", "externalnames", "-n", "default") == "yes\n"
    assert door(f"--token={door.id_token(exp=1)}", "get", "externalnames").code == 1
    assert door(f"--token={door.id_token(aud='other')}", "get", "externalnames").code == 1


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (("create", "externalnames", "-n", "default"), "yes"),
        (("create", "externalnames", "-n", "other"), "no"),
        (("list", "externalnames", "-A"), "no"),
        (("get", "/apis"), "yes"),
        (("get", "/metrics"), "no"),
        (("impersonate", "users/bob"), "yes"),
        (("*", "*"), "no"),
    ],
)
def test_can_i(door: Door, question: tuple[str, ...], answer: str) -> None:
    assert door("--token=alice-token", "auth", "can-i", *question).out.strip() == answer


def test_can_i_list(door: Door) -> None:
    rows = [line.split() for line in door.told("--token=alice-token", "auth", "can-i", "--list").splitlines()]
    assert ["externalnames.service.grafana.app", "[]", "[]", "[*]"] in rows
    assert ["users", "[]", "[bob]", "[impersonate]"] in rows
    assert ["[/apis]", "[]", "[get]"] in rows


def test_what_is_allowed_works_and_the_rest_says_why(door: Door) -> None:
    given = json.dumps(EXTERNAL_NAME)
    door.told("--token=alice-token", "apply", "-f", "-", given=given)
    door.told("--token=alice-token", "delete", "externalname", "made-by-alice")
    refused = door("--token=bob-token", "get", "externalname", "x")
    assert refused.err.strip() == (
        'Error from server (Forbidden): externalnames.service.grafana.app "x" is forbidden: User "bob" cannot get '
        'resource "externalnames" in API group "service.grafana.app" in the namespace "default"'
    )
    path = door("--token=bob-token", "get", "--raw=/metrics")
    assert path.err.strip() == 'Error from server (Forbidden): forbidden: User "bob" cannot get path "/metrics"'


def test_impersonation(door: Door) -> None:
    assert door.whoami("--token=alice-token", "--as=bob")["username"] == "bob"
    admin = door.certificate("client")
    found = door.whoami(*admin, "--as=zoe", "--as-group=developers", "--as-uid=7")
    assert found == {"username": "zoe", "uid": "7", "groups": ["developers", "system:authenticated"]}
    refused = door("--token=alice-token", "--as=carol", "get", "externalnames")
    assert refused.err.strip() == (
        'Error from server (Forbidden): users "carol" is forbidden: User "alice" cannot impersonate resource "users" '
        'in API group "" at the cluster scope'
    )


def test_what_servers_beneath_ask_of_their_parent(door: Door) -> None:
    backend = "--token=backend-token"
    name = "extension-apiserver-authentication"
    config = json.loads(door.told(backend, "get", "configmap", name, "-n", "kube-system", "-o", "json"))
    assert config["data"]["requestheader-allowed-names"] == '["front-proxy"]'
    assert door(backend, "get", "configmaps", "-n", "kube-system").code == 1
    listed = door.told(
        backend, "get", "configmaps", "-n", "kube-system", f"--field-selector=metadata.name={name}", "-o", "name"
    )
    assert listed == f"configmap/{name}\n"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": "carol", "nonResourceAttributes": {"path": "/metrics", "verb": "get"}},
    }
    answer = json.loads(door.told(backend, "create", "-f", "-", "-o", "json", given=json.dumps(review)))
    assert answer["status"] == {"allowed": False}
    token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "alice-token"}}
    answer = json.loads(door.told(backend, "create", "-f", "-", "-o", "json", given=json.dumps(token)))
    assert answer["status"]["user"]["username"] == "alice"
    refused = door("--token=bob-token", "create", "-f", "-", given=json.dumps(review))
    assert "Forbidden" in refused.err


def test_a_new_policy_counts_at_once_and_a_broken_one_never(door: Door) -> None:
    policy = door.directory / "policy.yaml"
    question = ("--token=bob-token", "auth", "can-i", "list", "externalnames")
    assert door(*question).out.strip() == "no"
    policy.write_text(POLICY + "- {role: names, users: [bob]}\n")
    wait_until(lambda: door(*question).out.strip() == "yes", seconds=15, interval=0.3)
    policy.write_text("roles: nonsense\n")
    wait_until(lambda: "changed files not usable" in (door.directory / "aggregator.log").read_text(), seconds=15)
    assert door(*question).out.strip() == "yes"
    policy.write_text(POLICY)
    wait_until(lambda: door(*question).out.strip() == "no", seconds=15, interval=0.3)


def test_a_server_beneath_asks_what_its_callers_may_do(door: Door) -> None:
    alice = "--token=alice-token"
    wait_until(lambda: door(alice, "get", "dummy").code == 0, seconds=30, interval=0.3)
    listed = door(alice, "get", "dummy", "-n", "default")
    assert (listed.out, listed.err.strip()) == ("", "No resources found in default namespace.")
    assert "Forbidden" in door(alice, "get", "dummy", "-n", "other").err
